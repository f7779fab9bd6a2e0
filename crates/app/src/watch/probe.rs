//! One probe: connect, or ask and look at the first line of the answer, or have a command executed.

use std::io;
use std::time::Duration;

use qfleet_manifest::probes::{Probe, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The first line of an answer is not longer.
const LONGEST_LINE: usize = 1024;

/// Tries once. Commands are executed by `execute`; dropping its future ends them.
///
/// # Errors
/// What was found instead, in words.
pub(super) async fn ask(
    probe: &Probe,
    execute: impl AsyncFnOnce(&[String]) -> Result<(), String>,
) -> Result<(), String> {
    let tried = async {
        match &probe.target {
            Target::Tcp(address) => TcpStream::connect(address).await.map(drop).map_err(|error| said(&error)),
            Target::Http(url) => get(url).await,
            Target::Command(argv) => execute(argv).await,
        }
    };
    match timeout(probe.timeout, tried).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(format!("{}: {why}", shown(&probe.target))),
        Err(_) => Err(format!("{}: no answer within {}", shown(&probe.target), in_words(probe.timeout))),
    }
}

/// Without the query of a URL, which may have a secret.
fn shown(target: &Target) -> String {
    let text = target.to_string();
    match text.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => text,
    }
}

fn in_words(duration: Duration) -> String {
    qfleet_manifest::units::shown(duration)
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => String::from("connection refused"),
        _ => error.to_string(),
    }
}

async fn get(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut stream = TcpStream::connect(&address).await.map_err(|error| said(&error))?;
    let request = format!(
        "GET {slash}{path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: qfleet (probe)\r\naccept: */*\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| said(&error))?;
    let line = first_line(&mut stream).await.map_err(|error| said(&error))?;
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse::<u16>().ok());
    match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("answered {code}")),
        None => Err(String::from("the answer is not HTTP")),
    }
}

async fn first_line(stream: &mut TcpStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut bytes = [0; 256];
    while line.len() < LONGEST_LINE && !line.contains(&b'\n') {
        match stream.read(&mut bytes).await? {
            0 => break,
            count => line.extend_from_slice(&bytes[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    /// Much longer than an answer takes.
    const LONG: Duration = Duration::from_secs(60);
    /// For whoever never answers.
    const SHORT: Duration = Duration::from_millis(400);

    fn probe(target: Target, timeout: Duration) -> Probe {
        Probe { target, interval: Duration::from_secs(1), timeout }
    }

    async fn nothing(_: &[String]) -> Result<(), String> {
        Err(String::from("is no command"))
    }

    /// What a probe says of a server that answers like this.
    async fn asked(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..count]).into_owned();
            assert!(text.starts_with("GET /up?key=x HTTP/1.1\r\nhost: 127.0.0.1:"), "{text}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        };
        let target = Target::Http(format!("http://{address}/up?key=x"));
        let probe = probe(target, if answer.is_empty() { SHORT } else { LONG });
        tokio::select! {
            result = ask(&probe, nothing) => result.map_err(|why| why.replace(&address.to_string(), "HERE")),
            () = async { server.await; std::future::pending().await } => Ok(()),
        }
    }

    #[tokio::test]
    async fn an_answer_is_good_or_says_what_is_wrong() {
        assert_eq!(asked("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        assert_eq!(asked("HTTP/1.0 302 Found\r\n\r\n").await, Ok(()));
        let wrong = |what: &str| Err(format!("GET http://HERE/up?…: {what}"));
        assert_eq!(asked("HTTP/1.1 500 Oh\r\n\r\n").await, wrong("answered 500"));
        assert_eq!(asked("220 smtp\r\n").await, wrong("the answer is not HTTP"));
        assert_eq!(asked("").await, wrong("no answer within 400ms"));
    }

    #[tokio::test]
    async fn a_port_is_open_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(ask(&probe(Target::Tcp(address.clone()), LONG), nothing).await, Ok(()));
        drop(listener);
        let refused = format!("connecting to {address}: connection refused");
        assert_eq!(ask(&probe(Target::Tcp(address), LONG), nothing).await, Err(refused));
    }

    #[tokio::test]
    async fn a_command_has_its_time_and_is_named_without_its_arguments() {
        let command = |timeout| {
            probe(Target::Command(vec![String::from("check"), String::from("--password=x")]), timeout)
        };
        assert_eq!(ask(&command(LONG), async |_| Ok(())).await, Ok(()));
        let found = ask(&command(LONG), async |argv| Err(format!("got {} words", argv.len()))).await;
        assert_eq!(found, Err(String::from("`check`: got 2 words")));
        let found = ask(&command(SHORT), async |_| std::future::pending().await).await;
        assert_eq!(found, Err(String::from("`check`: no answer within 400ms")));
    }
}
