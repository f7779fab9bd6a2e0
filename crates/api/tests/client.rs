//! What the client says when the other end is not what it should be.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use qfleet_api::protocol::{Pid, Version};
use qfleet_api::{Client, ClientError};
use qfleet_testkit::Scratch;

async fn pid_at(path: &Path) -> Result<Pid, ClientError> {
    Client::new(path).get("pid").await
}

/// Answers one connection with these bytes, whatever it asks.
fn answering(path: &Path, answer: &'static [u8]) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let _ = stream.write_all(answer);
    })
}

#[tokio::test]
async fn nobody_at_the_socket_is_said_with_its_path() {
    let dir = Scratch::new();
    let missing = dir.join("none.sock");
    let error = pid_at(&missing).await.unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon(_)));
    let shown = missing.display();
    assert_eq!(
        error.to_string(),
        format!("no daemon at `{shown}`: start it with `qfleet run` or name its socket with --socket")
    );
    let stale = dir.join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(
        matches!(pid_at(&stale).await, Err(ClientError::NoDaemon(_))),
        "left behind by a daemon that was killed"
    );
}

#[tokio::test]
async fn a_socket_that_is_not_for_us_is_said() {
    let dir = Scratch::new();
    let path = dir.join("q.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let result = pid_at_with_limit(&path).await;
    // Nothing is forbidden to root, so as root the connection opens and stays silent.
    if let Some(result) = result {
        assert!(matches!(result, Err(ClientError::Denied(_))), "{result:?}");
    }
}

async fn pid_at_with_limit(path: &Path) -> Option<Result<Pid, ClientError>> {
    tokio::time::timeout(std::time::Duration::from_millis(500), pid_at(path)).await.ok()
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_not_waited_for_for_ever() {
    let dir = Scratch::new();
    let path = dir.join("deaf.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(&path).patient_for(std::time::Duration::from_millis(50));
    let error = client.get::<Pid>("pid").await.unwrap_err();
    assert!(matches!(error, ClientError::Silent(_)), "{error}");
    assert!(error.to_string().contains("does not answer"));
}

#[tokio::test]
async fn other_ends_are_told_apart() {
    let dir = Scratch::new();
    type Case = (&'static str, &'static [u8], fn(&ClientError) -> bool);
    let cases: [Case; 6] = [
        ("silent", b"", |error| matches!(error, ClientError::Broken(..))),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", |error| matches!(error, ClientError::Stranger(_))),
        ("other", b"HTTP/1.1 404 Not Found\r\nServer: Medusa/1.12\r\nContent-Length: 0\r\n\r\n", |error| {
            matches!(error, ClientError::Stranger(_))
        }),
        ("newer", b"HTTP/1.1 200 OK\r\nServer: qfleet/9.0.0\r\nContent-Length: 14\r\n\r\n{\"number\": 12}", |error| {
            matches!(error, ClientError::OtherVersion { server, .. } if server == "qfleet/9.0.0")
        }),
        (
            "refusing",
            b"HTTP/1.1 404 Not Found\r\nServer: qfleet/0.1.0\r\nContent-Length: 47\r\n\r\n{\"code\":\"c\",\"error\":\"e\",\"hint\":\"h\",\"more\":true}",
            |error| error.to_string() == "e: h",
        ),
        ("cut", b"HTTP/1.1 200 OK\r\nServer: qfleet/0.1.0\r\nContent-Length: 100\r\n\r\n{\"pid\":", |error| {
            matches!(error, ClientError::Broken(..))
        }),
    ];
    for (name, answer, expected) in cases {
        let path = dir.join(name);
        let server = answering(&path, answer);
        let error = pid_at(&path).await.unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        server.join().unwrap();
    }
}

#[tokio::test]
async fn fields_of_a_newer_daemon_do_no_harm() {
    let dir = Scratch::new();
    let path = dir.join("q.sock");
    let body = b"HTTP/1.1 200 OK\r\nServer: qfleet/0.2.0\r\nContent-Length: 52\r\n\r\n{\"version\":\"0.2.0\",\"protocol\":1,\"since\":\"yesterday\"}";
    let server = answering(&path, body);
    let version: Version = Client::new(&path).get("version").await.unwrap();
    assert_eq!(version.version, "0.2.0");
    server.join().unwrap();
}
