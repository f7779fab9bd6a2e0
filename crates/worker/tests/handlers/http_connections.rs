//! Connections that are kept, refused, slow, reset or cut.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use qfleet_manifest::handler::{HttpHandler, HttpTarget};
use qfleet_model::outcome::Scope;
use qfleet_testkit::{Answer, Receiver, Scratch, free_port};
use qfleet_worker::handler::{Ended, Health, open};

use crate::given::{
    IntoSettings, Told, context, deliver, http, is_complete, opened, reason, retry_class, snooze, until,
};

fn never_reached(ended: &Ended) {
    assert_eq!(snooze(ended), (5, Scope::Endpoint));
    assert_eq!((ended.status.as_deref(), &ended.health), (Some("unreachable"), &Health::Hold(None)));
    assert_eq!(reason(ended).class.as_deref(), Some("unreachable"));
}

#[tokio::test]
async fn one_connection_serves_job_after_job_and_handler_after_handler() {
    let receiver = Receiver::start(|_| Answer::ok().body("{}"));
    let context = context();
    let opened =
        |path: &str| open(&http(&format!("{}{path}", receiver.url())).into_settings(), &context).unwrap();
    let (first, second) = (opened("/a"), opened("/b"));
    for _ in 0..20 {
        assert!(is_complete(&deliver(&first).await));
        assert!(is_complete(&deliver(&second).await));
    }
    assert_eq!((receiver.count(), receiver.connections()), (40, 1));
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_the_receiver_does_it() {
    let receiver = Receiver::start(|_| Answer::ok());
    let handler = opened(http(&receiver.url()));
    assert!(is_complete(&deliver(&handler).await));
    let started = Instant::now();
    until("the idle connection to be closed", || (receiver.open_connections() == 0).then_some(())).await;
    let idle = started.elapsed();
    assert!((3500..30_000).contains(&idle.as_millis()), "{idle:?}");
    assert!(is_complete(&deliver(&handler).await));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_receiver_that_closes_its_connections_costs_nothing() {
    let receiver = Receiver::start(|_| Answer::ok().close());
    let handler = opened(http(&receiver.url()));
    for _ in 0..10 {
        assert!(is_complete(&deliver(&handler).await));
    }
    assert_eq!((receiver.count(), receiver.connections()), (10, 10));
}

#[tokio::test]
async fn a_receiver_that_restarted_costs_nothing() {
    let mut receiver = Receiver::start(|_| Answer::ok());
    let (url, port) = (receiver.url(), receiver.port());
    let handler = opened(http(&url));
    assert!(is_complete(&deliver(&handler).await));
    receiver.stop();
    let _receiver = Receiver::start_on_port(port, |_| Answer::ok());
    // The client hears of the end of the connection when the runtime runs, and the system tells of it at once.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(is_complete(&deliver(&handler).await));
}

#[tokio::test]
async fn a_closed_port_costs_no_attempt() {
    let handler = opened(http(&format!("http://127.0.0.1:{}/", free_port())));
    never_reached(&deliver(&handler).await);
    never_reached(&deliver(&handler).await);
}

#[tokio::test]
async fn a_missing_socket_costs_no_attempt() {
    let scratch = Scratch::new();
    let target = HttpTarget::Unix { socket: scratch.join("absent.sock"), path: String::from("/") };
    never_reached(&deliver(&opened(HttpHandler { target, ..http("unused") })).await);
}

#[tokio::test]
async fn a_name_that_nobody_knows_costs_no_attempt() {
    let context = qfleet_worker::handler::HandlerContext { names: Told::new(&[&[]]), ..context() };
    let handler = open(&http("http://app.internal/").into_settings(), &context).unwrap();
    never_reached(&deliver(&handler).await);
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_costs_no_attempt() {
    let full = FullQueue::new();
    let settings = HttpHandler {
        connect_timeout: Duration::from_millis(300),
        ..http(&format!("http://{}/", full.address))
    };
    let started = Instant::now();
    never_reached(&deliver(&opened(settings)).await);
    assert!((300..25_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

/// A port whose queue of connections is full, so that the next one waits.
struct FullQueue {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl FullQueue {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Listening again shortens the queue.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
            assert!(waiting.len() < 100, "the queue never fills");
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

/// The receiver answers the first request of a connection and cuts it at the second.
fn cuts_the_second() -> Receiver {
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    Receiver::start(move |request| {
        if seen.lock().unwrap().insert(request.connection) { Answer::ok() } else { Answer::cut() }
    })
}

#[tokio::test]
async fn a_reset_on_a_reused_connection_is_sent_again_where_that_is_allowed() {
    let receiver = cuts_the_second();
    let handler = opened(HttpHandler { idempotent: true, ..http(&receiver.url()) });
    assert!(is_complete(&deliver(&handler).await));
    assert!(is_complete(&deliver(&handler).await));
    let requests = receiver.requests();
    assert_eq!((requests.len(), receiver.connections()), (3, 2));
    let delivery = |request: usize| requests[request].header("job-delivery").unwrap().to_owned();
    assert_eq!(delivery(1), delivery(2), "the same delivery, not another one");
}

#[tokio::test]
async fn a_reset_on_a_reused_connection_counts_where_it_is_not() {
    let receiver = cuts_the_second();
    let handler = opened(http(&receiver.url()));
    assert!(is_complete(&deliver(&handler).await));
    let ended = deliver(&handler).await;
    assert_eq!(retry_class(&ended), "unknown_result");
    assert_eq!((ended.health, ended.status.as_deref()), (Health::Failure, Some("crash")));
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn a_reset_on_a_new_connection_always_counts() {
    for idempotent in [true, false] {
        let receiver = Receiver::start(|_| Answer::cut());
        let ended = deliver(&opened(HttpHandler { idempotent, ..http(&receiver.url()) })).await;
        assert_eq!(retry_class(&ended), "unknown_result");
        assert_eq!(receiver.count(), 1, "sent once");
    }
}

#[tokio::test]
async fn sent_again_once_and_not_more() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let receiver = Receiver::start(move |_| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) { Answer::ok() } else { Answer::cut() }
    });
    let handler = opened(HttpHandler { idempotent: true, ..http(&receiver.url()) });
    assert!(is_complete(&deliver(&handler).await));
    assert_eq!(retry_class(&deliver(&handler).await), "unknown_result");
    assert_eq!(receiver.count(), 3);
}

#[tokio::test]
async fn answers_that_make_no_sense_or_are_cut_count() {
    for answer in [
        Answer::raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
        Answer::raw(b"HTTP/1.1 abc\r\n\r\n"),
        Answer::raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        Answer::raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Answer::ok().body("0123456789").cut_after(4),
    ] {
        let shown = format!("{answer:?}");
        let receiver = Receiver::start(move |_| answer.clone());
        let ended = deliver(&opened(http(&receiver.url()))).await;
        assert_eq!(retry_class(&ended), "bad_response", "{shown}");
        assert_eq!(ended.health, Health::Failure);
    }
}
