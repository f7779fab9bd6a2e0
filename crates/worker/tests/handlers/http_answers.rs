//! Answers over a real connection. The tables themselves are tested beside their code.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qfleet_manifest::handler::HttpHandler;
use qfleet_model::outcome::{Outcome, Output, Reason, Scope};
use qfleet_testkit::{Answer, Receiver};
use qfleet_worker::handler::{Cancel, Ended, Health};

use crate::given::{
    Mute, deliver, deliver_within, given, http, is_complete, opened, reason, result, retry_class, snooze,
    until,
};

#[tokio::test]
async fn statuses_come_to_their_outcomes() {
    let status = AtomicUsize::new(0);
    let statuses = [200, 204, 302, 401, 404, 409, 410, 422, 426, 429, 500, 501, 502, 503, 521, 599];
    let receiver = Receiver::start(move |_| {
        let status = statuses[status.fetch_add(1, Ordering::SeqCst)];
        Answer::status(u16::try_from(status).unwrap())
    });
    let handler = opened(http(&receiver.url()));
    for status in statuses {
        let ended = deliver(&handler).await;
        assert_eq!(ended.status, Some(status.to_string()));
        let outcome = match &ended.outcome {
            Outcome::Complete { .. } => "complete",
            Outcome::Retry { .. } => "retry",
            Outcome::Snooze { .. } => "snooze",
            Outcome::Fail { .. } => "fail",
            other => panic!("{status}: {other:?}"),
        };
        let expected = match status {
            200 | 204 => "complete",
            302 | 404 | 500 | 502 | 599 => "retry",
            401 | 409 | 426 | 429 | 503 | 521 => "snooze",
            _ => "fail",
        };
        assert_eq!(outcome, expected, "{status}");
    }
    assert_eq!(receiver.connections(), 1, "none of them costs the connection");
}

#[tokio::test]
async fn the_worked_example_over_the_wire() {
    let receiver = Receiver::start(|_| {
        Answer::status(429)
            .header("Date", "Thu, 01 Jan 2026 00:00:06 GMT")
            .header("Retry-After", "Thu, 01 Jan 2026 00:01:36 GMT")
            .header("Content-Type", "application/problem+json")
            .body(r#"{"type":"https://app/errors/quota","title":"Quota reached","detail":"hourly quota"}"#)
    });
    let ended = deliver(&opened(http(&receiver.url()))).await;
    assert_eq!(snooze(&ended), (90, Scope::Endpoint));
    assert_eq!(*reason(&ended), Reason::classed("quota", "Quota reached: hourly quota"));
    assert_eq!(ended.health, Health::Hold(Some(Duration::from_secs(90))));
}

#[tokio::test]
async fn results_keep_their_bytes() {
    let body = r#"{"id":9223372036854775807,"list":[],"f":1.0}"#;
    let receiver =
        Receiver::start(move |_| Answer::ok().header("Content-Type", "application/json").body(body));
    let ended = deliver(&opened(http(&receiver.url()))).await;
    assert_eq!(ended.outcome, Outcome::Complete { result: Some(Output::Json(body.into())) });
    assert_eq!(ended.health, Health::Good);
}

#[tokio::test]
async fn control_headers_come_first() {
    let receiver = Receiver::start(|_| {
        Answer::ok()
            .header("Job-Outcome", "snooze;delay=300;reason=\"token is refreshed by another worker\"")
            .body("{}")
    });
    let ended = deliver(&opened(http(&receiver.url()))).await;
    assert_eq!(snooze(&ended), (300, Scope::Job));
    assert_eq!(reason(&ended).text, "token is refreshed by another worker");
}

#[tokio::test]
async fn a_long_answer_is_cut_and_keeps_its_outcome() {
    let receiver = Receiver::start(|_| Answer::ok().body(vec![b'x'; 3 << 20]));
    let handler = opened(http(&receiver.url()));
    let ended = deliver(&handler).await;
    assert_eq!(ended.outcome, Outcome::Complete { result: None });
    assert!(ended.notes[0].starts_with("result_truncated"), "{:?}", ended.notes);
    until("the end of the connection", || (receiver.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn endless_headers_are_a_bad_answer() {
    let receiver = Receiver::start(|_| Answer::ok().header("X-Long", &"x".repeat(80_000)));
    assert_eq!(retry_class(&deliver(&opened(http(&receiver.url()))).await), "bad_response");
}

fn timed_out(ended: &Ended, started: Instant) {
    assert_eq!(ended.outcome, Outcome::TimedOut { at_least: Duration::from_secs(5) });
    assert_eq!((ended.status.as_deref(), &ended.health), (Some("timeout"), &Health::Failure));
    assert!((400..25_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
}

#[tokio::test]
async fn no_answer_in_time_is_a_timeout_and_closes_the_connection() {
    let mute = Mute::listening().await;
    let started = Instant::now();
    timed_out(&deliver_within(&opened(http(&mute.url)), Duration::from_millis(400)).await, started);
    until("the end of the connection", || (mute.hung_up.load(Ordering::SeqCst) == 1).then_some(())).await;
}

#[tokio::test]
async fn an_answer_that_does_not_end_in_time_is_a_timeout() {
    let receiver = Receiver::start(|_| Answer::ok().body(vec![b'x'; 1000]).drip(Duration::from_millis(50)));
    let started = Instant::now();
    timed_out(&deliver_within(&opened(http(&receiver.url())), Duration::from_millis(400)).await, started);
    until("the end of the connection", || (receiver.open_connections() == 0).then_some(())).await;
}

#[tokio::test]
async fn without_a_limit_it_waits() {
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(300)));
    let mut given = given(b"{}");
    given.delivery.timeout = None;
    assert!(is_complete(&opened(http(&receiver.url())).handle(given.delivery).await));
    assert_eq!(receiver.requests()[0].header("job-timeout"), None);
}

#[tokio::test]
async fn a_forced_stop_closes_the_connection_and_waits_for_the_deadline() {
    let mute = Mute::listening().await;
    let handler = opened(http(&mute.url));
    for (why, limited) in [(Cancel::Stop, true), (Cancel::Stop, false), (Cancel::Lost, true)] {
        let mut given = given(b"{}");
        if !limited {
            (given.delivery.timeout, given.delivery.deadline_at) = (None, None);
        }
        let deadline = given.delivery.deadline_at;
        let before = mute.heard.load(Ordering::SeqCst);
        let (handler, cancel) = (std::sync::Arc::clone(&handler), given.cancel);
        let delivery = tokio::spawn(async move { handler.handle(given.delivery).await });
        until("the request", || (mute.heard.load(Ordering::SeqCst) > before).then_some(())).await;
        cancel.send(Some(why)).unwrap();
        let ended = delivery.await.unwrap();
        match (why, deadline) {
            (Cancel::Lost, _) => assert_eq!(ended.outcome, Outcome::Lost),
            (Cancel::Stop, Some(deadline)) => {
                let not_before = Some(deadline + Duration::from_secs(5));
                assert_eq!(ended.outcome, Outcome::Interrupted { not_before });
            }
            (Cancel::Stop, None) => {
                let Outcome::Interrupted { not_before: Some(due) } = ended.outcome else {
                    panic!("{ended:?}")
                };
                let wait = due.since(qfleet_os::clock::wall());
                assert!((295..=300).contains(&wait.as_secs()), "{wait:?}");
            }
        }
        assert_eq!(ended.health, Health::Neutral);
        until("the end of the connection", || (mute.hung_up.load(Ordering::SeqCst) > before).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn redirects_are_followed_only_to_the_same_origin_and_only_when_asked() {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/once" => Answer::status(307).header("Location", "/there?x=1"),
        "/twice" => Answer::status(308).header("Location", "/once"),
        "/thrice" => Answer::status(307).header("Location", "/twice"),
        "/found" => Answer::status(302).header("Location", "/there"),
        "/away" => Answer::status(307).header("Location", "http://127.0.0.1:1/there"),
        _ => Answer::ok().body(&request.body),
    });
    let go = async |path: &str, redirect_same_origin| {
        let settings = HttpHandler { redirect_same_origin, ..http(&format!("{}{path}", receiver.url())) };
        deliver(&opened(settings)).await
    };
    for path in ["/once", "/twice"] {
        assert_eq!(result(&go(path, true).await), crate::given::PAYLOAD, "{path}");
    }
    for (path, follows) in [("/thrice", true), ("/found", true), ("/away", true), ("/once", false)] {
        let ended = go(path, follows).await;
        assert_eq!(retry_class(&ended), "", "{path}");
        assert!(ended.notes[0].starts_with("redirect"), "{path}: {:?}", ended.notes);
        assert_eq!(ended.health, Health::Neutral);
    }
    let followed = receiver.requests().into_iter().find(|request| request.path == "/there?x=1").unwrap();
    assert_eq!((followed.method.as_str(), followed.header("job-id")), ("POST", Some("6b1a")));
}

#[tokio::test]
async fn a_misdirected_request_gets_a_new_connection() {
    let receiver = Receiver::start(|request| Answer::status(if request.connection == 0 { 421 } else { 200 }));
    let handler = opened(http(&receiver.url()));
    assert_eq!(snooze(&deliver(&handler).await), (0, Scope::Endpoint));
    assert!(is_complete(&deliver(&handler).await));
    assert_eq!(receiver.connections(), 2);
}
