//! supervisord's protocol at the level of bytes: what its clients send, whatever else comes, and what is answered.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use qfleet_api::access::Gate;
use qfleet_api::xmlrpc::codec::{read_call, write_answer};
use qfleet_api::xmlrpc::value::Value;
use qfleet_api::{Dispatch, Doors, Limits, Server};
use qfleet_testkit::eventually;
use support::{Door, SOON, read_all};

const FLEET: &str = "programs:\n  cat: {command: /bin/cat, autostart: false}\n";

/// As the original client sends it, except for the body.
fn post(body: &str) -> String {
    format!(
        "POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: identity\r\nUser-Agent: Python-xmlrpc/3.11\r\n\
        Content-Type: text/xml\r\nAccept: text/xml\r\nContent-Length: {}\r\n",
        body.len()
    )
}

fn call(method: &str, params: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<methodCall>\n<methodName>{method}</methodName>\n<params>\n{params}</params>\n</methodCall>\n"
    )
}

/// The answer's head and body.
fn asked(door: &Door, body: &str) -> (String, String) {
    let text = door.send(format!("{}Connection: close\r\n\r\n{body}", post(body)).as_bytes());
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    (head.to_owned(), body.to_owned())
}

#[test]
fn recorded_calls_are_answered_as_supervisord_answers_them() {
    let door = Door::open(FLEET);
    let (head, body) = asked(&door, &call("supervisor.getVersion", ""));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-type: text/xml"), "{head}");
    assert_eq!(
        body,
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value><string>3.0</string></value>\n</param>\n\
        </params>\n</methodResponse>\n"
    );
    let text = |text: &str| format!("<param>\n<value><string>{text}</string></value>\n</param>\n");
    let (head, body) = asked(&door, &call("supervisor.signalProcess", &(text("cat") + &text("BOGUS"))));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "a fault is an answer like another: {head}");
    assert_eq!(
        body,
        "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n\
        <value><int>11</int></value>\n</member>\n<member>\n<name>faultString</name>\n\
        <value><string>BAD_SIGNAL: BOGUS</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n"
    );
    let (_, body) = asked(&door, &call("supervisor.getAllProcessInfo", ""));
    assert!(body.contains("<name>statename</name>\n<value><string>STOPPED</string></value>\n"), "{body}");
    let (_, body) = asked(&door, "<methodCall><methodName> supervisor.getPID </methodName></methodCall>");
    assert!(body.contains(&format!("<int>{}</int>", std::process::id())), "{body}");
}

#[test]
fn head_and_body_in_pieces_and_several_calls_on_one_connection() {
    let door = Door::open(FLEET);
    let mut stream = door.connect();
    for _ in 0..3 {
        let body = call("supervisor.getState", "");
        for piece in [&post(&body), "\r\n", &body[..40], &body[40..]] {
            stream.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"</methodResponse>\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(String::from_utf8(answer).unwrap().contains("RUNNING"));
    }
    let body = call("supervisor.getVersion", "");
    let old = format!("POST /RPC2 HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert!(door.send(old.as_bytes()).contains("<string>3.0</string>"), "without keeping the connection");
}

#[test]
fn what_is_no_call_gets_another_status() {
    let door = Door::open(FLEET);
    let sent = |bytes: &str| door.send(bytes.as_bytes()).lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        sent("GET /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        "HTTP/1.1 400 Bad Request"
    );
    assert_eq!(
        sent("POST /RPC2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        "HTTP/1.1 411 Length Required"
    );
    let huge = format!("POST /RPC2 HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\nx", 2 << 20);
    assert_eq!(sent(&huge), "HTTP/1.1 413 Payload Too Large");
    for body in ["", "hello", "<methodCall/>", "<methodCall><methodName></methodName></methodCall>", "\u{0}"]
    {
        let (head, _) = asked(&door, body);
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{body:?}: {head}");
    }
    for path in
        ["/logtail/nope", "/logtail/", "/logtail/cat/x", "/logtail/cat:*", "/mainlogtail", "/logtailx"]
    {
        let answer = sent(&format!("GET {path} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n\r\n"));
        assert_eq!(answer, "HTTP/1.1 404 Not Found", "{path}");
    }
}

#[test]
fn the_literal_follower_gets_what_it_needs_and_is_missed_when_it_leaves() {
    let door = Door::with(FLEET, Limits { connections: 1, ..Limits::default() });
    for path in ["/logtail/cat:cat/stdout", "/logtail/cat%3Acat", "/logtail/cat/stderr"] {
        // A single place: it must be free again, although the process never prints anything.
        let mut stream = eventually(SOON, "a free place", || {
            let mut stream = door.connect();
            let head = format!(
                "GET {path} HTTP/1.1\r\nHost: \r\nAccept-Encoding: chunked\r\nAccept: */*\r\nUser-agent: Supervisor HTTP Client\r\n\r\n"
            );
            // Whoever has no place is told so and sent away, maybe before all of this is written.
            stream.write_all(head.as_bytes()).ok()?;
            // The line end too many comes late, and alone.
            std::thread::sleep(Duration::from_millis(20));
            let _busy = stream.write_all(b"\r\n");
            let mut first = [0; 12];
            stream.read_exact(&mut first).ok()?;
            (&first == b"HTTP/1.1 200").then_some(stream)
        });
        let mut head = String::new();
        let mut byte = [0];
        while !head.ends_with("\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(char::from(byte[0]));
        }
        assert!(head.starts_with(" OK\r\n"), "a reason: {head}");
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && head.contains("connection: close\r\n"),
            "{head}"
        );
    }
}

/// A door that also listens on TCP.
fn tcp(more: &str) -> (Door, Server, SocketAddr) {
    let text = format!("{FLEET}control: {{listen: 127.0.0.1:1{more}}}\n");
    let door = Door::open(&text);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Gate::new(door.handle.manifest().control.logins.clone());
    let socket = UnixListener::bind(door.dir.join("second.sock")).unwrap();
    let behind = door.handle.clone();
    let doors = Doors { socket, tcp: Some((listener, gate)) };
    let server = Server::start(doors, Limits::default(), move || Dispatch::new(behind)).unwrap();
    (door, server, address)
}

fn sent(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn over_tcp_every_path_wants_a_password() {
    let (door, _server, address) = tcp(", auth: {username: admin, password: 's3:cret'}");
    // `admin:s3:cret`, and with another password.
    let (right, wrong) = ("Basic YWRtaW46czM6Y3JldA==", "Basic YWRtaW46d3Jvbmc=");
    let body = call("supervisor.getVersion", "");
    let rpc = format!("POST /RPC2 HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    for (head, body) in [
        (rpc.as_str(), body.as_str()),
        ("GET /api/v1/status HTTP/1.1\r\n", ""),
        ("POST /api/v1/command HTTP/1.1\r\nContent-Length: 22\r\n", "{\"command\":\"shutdown\"}"),
        ("GET /logtail/cat HTTP/1.1\r\n", ""),
        ("GET /nonsense HTTP/1.1\r\n", ""),
    ] {
        for login in ["", &format!("Authorization: {wrong}\r\n"), "Authorization: Basic !\r\n"] {
            let text = sent(address, &format!("{head}Host: x\r\n{login}\r\n{body}"));
            assert!(text.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{head}{login}: {text}");
            assert!(text.contains("www-authenticate: Basic realm=\"default\"\r\n"), "{text}");
            assert!(text.contains("connection: close\r\n"), "{text}");
        }
    }
    let login = format!("Authorization: {right}\r\nConnection: close\r\n");
    let text = sent(address, &format!("{rpc}Host: x\r\n{login}\r\n{body}"));
    assert!(text.contains("<string>3.0</string>"), "{text}");
    let text =
        sent(address, &format!("{rpc}Host: x\r\nOrigin: https://elsewhere.example\r\n{login}\r\n{body}"));
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    assert!(!door.handle.snapshot().shutting_down);
}

#[test]
fn whatever_bytes_come_as_a_call_the_reader_only_says_no() {
    let value = "<value><struct><member><name>a</name><value><array><data><value><int>-1</int></value>\
        <value>x &amp; <![CDATA[y]]></value><value><base64>aGk=</base64></value></data></array></value></member></struct></value>";
    let good = call("supervisor.getPID", &format!("<param>{value}</param>\n"));
    let read = read_call(good.as_bytes()).unwrap();
    let inner = vec![Value::Int(-1), Value::text("x & y"), Value::text("hi")];
    assert_eq!(read.params, [Value::Struct(vec![("a".to_owned(), Value::List(inner))])]);
    let mut accepted = 0;
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = good.clone().into_bytes();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(0..bytes.len());
            match random.u8(0..5) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.drain(at..(at + random.usize(0..20)).min(bytes.len()))),
                2 => bytes.insert(at, *b"<>/&;\"'!-]?\0 ".get(random.usize(0..13)).unwrap()),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let to = (at + random.usize(0..60)).min(bytes.len());
                    let piece = bytes[at..to].to_vec();
                    let place = random.usize(0..bytes.len());
                    bytes.splice(place..place, piece);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'<');
            }
        }
        if let Ok(call) = read_call(&bytes) {
            accepted += 1;
            // Whatever was understood can be written, and is XML again.
            let answer = write_answer(&Ok(Value::List(call.params)));
            let again = answer.replace("methodResponse", "methodCall").replacen(
                "<params>",
                "<methodName>a.b</methodName><params>",
                1,
            );
            read_call(again.as_bytes()).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{answer}"));
        }
    }
    assert!(accepted > 100, "some survive: {accepted}");
    for (what, hostile) in [
        ("deep", "<value><array><data>".repeat(20_000)),
        ("wide", format!("<param>{}", "<value/>".repeat(100_000))),
        ("a bomb", "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><param><value>&a;</value></param>".to_owned()),
        ("no end", "<".repeat(100_000)),
        ("comments", "<!--".repeat(100_000)),
    ] {
        assert!(read_call(call("a.b", &hostile).as_bytes()).is_err(), "{what}");
    }
}

#[test]
fn fuzzed_calls_leave_the_daemon_as_it_was() {
    let door = Door::open(FLEET);
    let mut random = fastrand::Rng::with_seed(7);
    let good = call("system.multicall", "<param><value><array><data></data></array></value></param>");
    for _ in 0..300 {
        let mut body = good.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..body.len());
            body.replace_range(at..=at, ["<", ">", "/", "&", "x", ""][random.usize(0..6)]);
        }
        let mut stream = door.connect();
        stream.write_all(format!("{}Connection: close\r\n\r\n{body}", post(&body)).as_bytes()).unwrap();
        let text = read_all(&mut stream);
        assert!(
            text.starts_with("HTTP/1.1 200 OK") || text.starts_with("HTTP/1.1 400 Bad"),
            "{body}\n{text}"
        );
    }
    assert!(!door.handle.snapshot().shutting_down);
}

#[test]
fn many_calls_in_one_do_not_make_an_answer_without_end() {
    let door = Door::open(FLEET);
    let one = "<value><struct><member><name>methodName</name><value>system.listMethods</value></member></struct></value>";
    let calls = format!("<param><value><array><data>{}</data></array></value></param>", one.repeat(9_000));
    let (head, body) = asked(&door, &call("system.multicall", &calls));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let (told, refused) =
        (body.matches("supervisor.getPID").count(), body.matches("not carried out").count());
    assert!(told > 1_000 && refused > 1_000 && told + refused == 9_000, "{told} and {refused}");
}
