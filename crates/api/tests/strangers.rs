//! Whatever comes over the control socket, the server answers or closes, and goes on for everybody else.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use qfleet_api::protocol::{Pid, Version};
use qfleet_api::{ClientError, Limits};
use qfleet_model::snapshot::FleetSnapshot;
use qfleet_testkit::eventually;
use support::{Door, SOON, read_all};

const NOTHING: &str = "programs: {}\n";

fn alive(door: &Door) {
    let version: Version = door.wait(door.client().get("version")).unwrap();
    assert_eq!(version.protocol, 1);
}

fn curl(door: &Door, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20", "--unix-socket"])
        .arg(&door.socket)
        .args(args)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn an_ordinary_http_client_gets_json() {
    let door = Door::open(NOTHING);
    let (code, text) = curl(&door, &["-i", "http://localhost/api/v1/version"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("content-type: application/json") && text.contains("server: qfleet/"), "{text}");
    assert!(text.contains("\"protocol\":1"), "{text}");
    let (_, text) = curl(&door, &["http://localhost/api/v1/status"]);
    let _: FleetSnapshot = serde_json::from_str(&text).unwrap();
    let (_, text) = curl(&door, &["--http1.0", "-i", "http://localhost/api/v1/pid"]);
    assert!(text.contains(" 200 OK") && text.contains("\"pid\":"), "{text}");
}

#[test]
fn mistakes_are_answered_with_code_error_and_hint() {
    let door = Door::open(NOTHING);
    for (args, status, code) in [
        (vec!["http://x/"], 404, "unknown-request"),
        (vec!["http://x/api/v2/status"], 404, "unknown-request"),
        (vec!["http://x/api/v1/nonsense"], 404, "unknown-request"),
        (vec!["http://x/api/v1/status/more"], 404, "unknown-request"),
        (vec!["-X", "POST", "http://x/api/v1/status"], 405, "bad-request"),
        (vec!["http://x/api/v1/command"], 405, "bad-request"),
        (vec!["-d", "{", "http://x/api/v1/command"], 400, "bad-request"),
        (vec!["-d", "{\"command\":\"levitate\"}", "http://x/api/v1/command"], 400, "bad-request"),
        (vec!["http://x/api/v1/logs/nobody/stdout"], 404, "no-match"),
        (vec!["http://x/api/v1/logs/nobody/stdin"], 400, "bad-request"),
        (vec!["http://x/api/v1/queues?name=nobody"], 404, "unknown"),
        (vec!["http://x/api/v1/jobs/nobody?limit=x"], 400, "bad-request"),
        (vec!["-d", "{\"queues\":[]}", "http://x/api/v1/pause"], 400, "bad-request"),
        (vec!["-d", "{}", "http://x/api/v1/failed/retry"], 400, "bad-request"),
    ] {
        let mut all = vec!["-w", "\n%{http_code}"];
        all.extend(&args);
        let (_, text) = curl(&door, &all);
        let (body, said) = text.trim_end().rsplit_once('\n').unwrap();
        let body: serde_json::Value =
            serde_json::from_str(body).unwrap_or_else(|_| panic!("{args:?}: {text}"));
        assert_eq!((said, &body["code"]), (status.to_string().as_str(), &code.into()), "{args:?}: {text}");
        assert!(
            body["error"].as_str().is_some_and(|error| !error.is_empty() && !error.ends_with('.')),
            "{text}"
        );
    }
    alive(&door);
}

#[test]
fn a_literal_old_client_is_understood() {
    let door = Door::open(NOTHING);
    let text = door.send(
        b"GET /api/v1/version HTTP/1.1\r\nHost: \r\nAccept-Encoding: chunked\r\nAccept: */*\r\nConnection: close\r\n\r\n\r\n",
    );
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "an empty host and a line end too many: {text}");
    let mut stream = door.connect();
    stream.write_all(b"POST /api/v1/command HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(b"Connection: close\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(b"{}").unwrap();
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 400 Bad Request\r\n"), "in three pieces");
}

#[test]
fn requests_in_one_go_are_answered_in_order() {
    let door = Door::open(NOTHING);
    let get = |what: &str, more: &str| format!("GET /api/v1/{what} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let all = get("version", "") + &get("nonsense", "") + &get("pid", "Connection: close\r\n");
    let text = door.send(all.as_bytes());
    let places: Vec<_> =
        ["\"protocol\"", "unknown-request", "\"pid\""].iter().map(|what| text.find(what)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let limits = Limits { head_time: Duration::from_millis(300), ..Limits::default() };
    let door = Door::with(NOTHING, limits);
    let huge =
        [b"GET /api/v1/version HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 200_000], b"\r\n\r\n"].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5_000));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    for (what, bytes) in [
        ("nothing", b"".as_slice()),
        ("line ends", b"\r\n\r\n\r\n"),
        ("zeros", &[0; 1_000]),
        ("high bytes", &[0xff; 1_000]),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a bad version", b"GET / HTTP/9.9\r\n\r\n"),
        ("no version", b"GET /api/v1/version\r\n\r\n"),
        ("half a request", b"GET /api/v1/ver"),
        ("half a header", b"GET /api/v1/version HTTP/1.1\r\nHost"),
        ("two lengths", b"POST /api/v1/push HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        ("a bad length", b"POST /api/v1/push HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        (
            "length and chunks",
            b"POST /api/v1/push HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ),
        ("a bad chunk", b"POST /api/v1/push HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("a huge header", &huge),
        ("many headers", many.as_bytes()),
        ("a long path", long.as_bytes()),
        ("an upgrade", b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ("a tunnel", b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n"),
    ] {
        let text = door.send(bytes);
        assert!(!text.contains(" 200 OK"), "{what}: {text}");
        alive(&door);
    }
}

#[test]
fn slow_clients_are_not_waited_for() {
    let limits = Limits {
        head_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let door = Door::with(NOTHING, limits);
    let began = Instant::now();
    let mut slow_head = door.connect();
    slow_head.write_all(b"GET /api/v1/version HTTP/1.1\r\n").unwrap();
    let mut slow_body = door.connect();
    slow_body.write_all(b"POST /api/v1/command HTTP/1.1\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let mut idle = door.connect();
    idle.write_all(b"GET /api/v1/pid HTTP/1.1\r\n\r\n").unwrap();
    alive(&door);
    assert!(read_all(&mut slow_body).contains("did not arrive in time"));
    read_all(&mut slow_head);
    assert!(read_all(&mut idle).contains("\"pid\""), "a connection that is kept open and not used is closed");
    assert!(began.elapsed() < SOON);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let door = Door::open(NOTHING);
    let big = door.dir.join("big");
    std::fs::write(&big, vec![b' '; 2_000_000]).unwrap();
    let (_, text) =
        curl(&door, &["--data-binary", &format!("@{}", big.display()), "http://x/api/v1/command"]);
    assert!(text.contains("too-large") || text.contains("eset"), "{text}");
    alive(&door);
}

/// A connection that has asked something, and stays.
fn spoken(door: &Door) -> std::os::unix::net::UnixStream {
    let mut stream = door.connect();
    stream.write_all(b"GET /api/v1/pid HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

#[test]
fn silent_connections_keep_nobody_out() {
    // Nobody is let go because of the time: only because others come.
    let limits = Limits { connections: 8, head_time: Duration::from_secs(1_000), ..Limits::default() };
    let door = Door::with(NOTHING, limits);
    let mut asked = spoken(&door);
    let mut silent: Vec<_> = (0..50).map(|_| door.connect()).collect();
    for stream in &mut silent {
        let _closed = stream.write_all(b"GET /api/v1/pid HT");
    }
    for _ in 0..20 {
        alive(&door);
    }
    // The oldest have gone, and the newest has its place still.
    for stream in &mut silent[..40] {
        assert_eq!(read_all(stream), "");
    }
    let newest = silent.last_mut().unwrap();
    newest.write_all(b"TP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_all(newest).starts_with("HTTP/1.1 200 OK\r\n"));
    asked.write_all(b"GET /api/v1/version HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_all(&mut asked).contains("\"protocol\":1"), "whoever has asked something stays");
}

#[test]
fn one_connection_too_many_is_turned_away() {
    let door = Door::with(NOTHING, Limits { connections: 3, ..Limits::default() });
    let held: Vec<_> = (0..3).map(|_| spoken(&door)).collect();
    eventually(SOON, "the fourth to be turned away", || {
        let text = door.send(b"GET /api/v1/pid HTTP/1.1\r\nConnection: close\r\n\r\n");
        text.starts_with("HTTP/1.1 503 ").then_some(text)
    });
    match door.wait(door.client().get::<Pid>("pid")) {
        Err(ClientError::Said(body)) => assert_eq!(body.code, "busy"),
        // Closed before the request was written: the same, seen earlier.
        Err(ClientError::Broken(..)) => {}
        other => panic!("{other:?}"),
    }
    drop(held);
    eventually(SOON, "room again", || door.wait(door.client().get::<Pid>("pid")).ok());
}

#[test]
fn a_client_that_never_reads_is_let_go() {
    let limits = Limits { connections: 1, unread_time: Duration::from_millis(300), ..Limits::default() };
    let door = Door::with(NOTHING, limits);
    let mut greedy = door.connect();
    greedy.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    let mut sent = 0;
    while greedy.write_all(&request).is_ok() {
        sent += request.len();
        assert!(sent < 500_000_000, "the server takes requests without end");
    }
    eventually(SOON, "room again", || door.wait(door.client().get::<Pid>("pid")).ok());
}

#[test]
fn the_end_of_the_server_ends_its_connections() {
    let mut door = Door::open(NOTHING);
    let mut idle = door.connect();
    idle.write_all(b"GET /api/v1/pid HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    let began = Instant::now();
    door.close(Duration::from_secs(60));
    assert!(began.elapsed() < Duration::from_secs(30), "nothing was under way");
    assert!(read_all(&mut idle).contains("\"pid\""));
    assert!(matches!(door.wait(door.client().get::<Pid>("pid")), Err(ClientError::NoDaemon(_))));
}
