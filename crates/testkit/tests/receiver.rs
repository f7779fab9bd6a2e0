//! The receiver records what arrives and misbehaves as told, seen from a client that speaks in bytes.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Gate, Receiver, Scratch, eventually};

const SOON: Duration = Duration::from_secs(60);
const POST: &[u8] = b"POST /jobs?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Two: one\r\n\r\nhello";

fn connect(receiver: &Receiver) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", receiver.port())).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) && stream.read(&mut byte).unwrap() == 1 {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn requests_are_recorded_and_a_connection_serves_many() {
    let receiver = Receiver::start(|_| Answer::status(201).header("X-Answer", "42").body("done"));
    let mut stream = connect(&receiver);
    for _ in 0..2 {
        stream.write_all(POST).unwrap();
        let text = read_until(&mut stream, "done");
        assert!(text.starts_with("HTTP/1.1 201 "), "{text}");
        assert!(text.contains("X-Answer: 42\r\n") && text.contains("Content-Length: 4\r\n"), "{text}");
    }
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/jobs?x=1"));
    assert_eq!(requests[0].header("x-two"), Some("one"));
    assert_eq!(requests[0].body, b"hello");
    assert_eq!((receiver.connections(), requests[1].connection), (1, 0));
    drop(stream);
    eventually(SOON, "the connection to be gone", || (receiver.open_connections() == 0).then_some(()));
}

#[test]
fn chunked_bodies_are_put_together() {
    let receiver = Receiver::start(|_| Answer::ok());
    let mut stream = connect(&receiver);
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n",
        )
        .unwrap();
    assert_eq!(receiver.wait_for(1, SOON)[0].body, b"abc0123456789");
}

#[test]
fn answers_differ_by_request() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/down" => Answer::status(503).header("Retry-After", "7"),
        "/gone" => Answer::status(204),
        _ => Answer::ok().close(),
    });
    let mut stream = connect(&receiver);
    stream.write_all(b"GET /down HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").contains("Retry-After: 7"));
    stream.write_all(b"GET /gone HTTP/1.1\r\n\r\n").unwrap();
    assert!(!read_until(&mut stream, "\r\n\r\n").contains("Content-Length"));
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 ") && rest.contains("Connection: close"), "{rest}");
}

#[test]
fn connections_are_cut_before_and_within_an_answer() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/cut" => Answer::cut(),
        "/junk" => Answer::raw(b"HTTP/1.1 banana"),
        _ => Answer::ok().body("0123456789").cut_after(4),
    });
    for (path, end) in [("/cut", ""), ("/junk", "HTTP/1.1 banana"), ("/body", "\r\n\r\n0123")] {
        let mut stream = connect(&receiver);
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with(end) && (end.is_empty() == text.is_empty()), "{path}: {text}");
    }
}

#[test]
fn answers_come_late_in_drops_or_never() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/late" => Answer::ok().after(Duration::from_millis(80)),
        "/drip" => Answer::ok().body("abc").drip(Duration::from_millis(30)),
        _ => Answer::never(),
    });
    for (path, end) in [("/late", "\r\n\r\n"), ("/drip", "abc")] {
        let mut stream = connect(&receiver);
        let asked = Instant::now();
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        read_until(&mut stream, end);
        assert!(asked.elapsed() >= Duration::from_millis(80), "{path}");
        eventually(SOON, "the end of the request", || (receiver.in_hand() == 0).then_some(()));
    }
    let mut stream = connect(&receiver);
    stream.write_all(b"GET /never HTTP/1.1\r\n\r\n").unwrap();
    eventually(SOON, "the request in hand", || (receiver.in_hand() == 1).then_some(()));
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let kind = stream.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    assert_eq!(receiver.most_in_hand(), 1);
}

#[test]
fn answers_wait_at_a_gate() {
    let gate = Gate::new();
    let receiver = Receiver::start({
        let gate = gate.clone();
        move |_| Answer::ok().behind(&gate)
    });
    let mut streams = [connect(&receiver), connect(&receiver)];
    streams.iter_mut().for_each(|stream| stream.write_all(POST).unwrap());
    receiver.wait_for(2, SOON);
    assert_eq!(receiver.in_hand(), 2);
    gate.open();
    for stream in &mut streams {
        assert!(read_until(stream, "\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
    let mut shut = Receiver::start(|_| Answer::ok().behind(&Gate::new()));
    connect(&shut).write_all(POST).unwrap();
    shut.wait_for(1, SOON);
    shut.stop();
}

#[test]
fn a_stopped_receiver_refuses_and_comes_back_on_its_port() {
    let mut receiver = Receiver::start(|_| Answer::never());
    let port = receiver.port();
    let mut stream = connect(&receiver);
    stream.write_all(POST).unwrap();
    receiver.wait_for(1, SOON);
    receiver.stop();
    assert_eq!(receiver.count(), 1);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let again = Receiver::start_on_port(port, |_| Answer::ok());
    connect(&again).write_all(POST).unwrap();
    again.wait_for(1, SOON);
}

#[test]
fn a_unix_socket_serves_as_well() {
    let scratch = Scratch::new();
    let path = scratch.join("http.sock");
    let receiver = Receiver::start_on_socket(&path, |_| Answer::ok().body("yes"));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(POST).unwrap();
    assert!(read_until(&mut stream, "yes").ends_with("yes"));
    drop(receiver);
    assert!(!path.exists());
}
