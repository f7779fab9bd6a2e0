//! Everyday commands on a running fleet.

use std::time::Duration;

use qfleet_testkit::{Answer, Receiver, RedisServer, eventually};

use crate::support::{Fleet, SOON, payload, push, text, wait_empty};

fn fleet(redis: &RedisServer, receiver: &Receiver) -> Fleet {
    Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    concurrency: 4\n    sleep: 0.2\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ))
}

#[test]
fn pause_holds_jobs_back_and_resume_lets_them_go() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut fleet = fleet(&redis, &receiver);
    let said = fleet.ok(&["pause", "mail"]);
    assert!(
        said.contains("PHP") || said.contains("queue:work"),
        "says that PHP workers are not affected: {said}"
    );
    push(&redis, "mail", (0..3).map(|n| payload(n, "")));
    eventually(SOON, "the queue to show as paused", || {
        let queues: serde_json::Value = serde_json::from_str(&fleet.ok(&["queues", "--json"])).unwrap();
        (queues[0]["paused"] == true && queues[0]["waiting"] == 3).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(receiver.count(), 0, "nothing is taken while paused");
    let listed: serde_json::Value =
        serde_json::from_str(&fleet.ok(&["jobs", "mail", "waiting", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    fleet.ok(&["resume", "mail"]);
    receiver.wait_for(3, SOON);
    wait_empty(&redis, &fleet);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn push_puts_a_job_in_that_is_handled() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut fleet = fleet(&redis, &receiver);
    fleet.ok(&["push", "mail", "App\\Mail\\Welcome@send", r#"{"customer":9007199254740993,"tags":[]}"#]);
    let request = receiver.wait_for(1, SOON).remove(0);
    assert_eq!(request.header("Job-Name"), Some("App\\Mail\\Welcome"));
    assert!(
        text(&request.body).contains(r#"{"customer":9007199254740993,"tags":[]}"#),
        "{}",
        text(&request.body)
    );
    fleet.ok(&["push", "mail", "A@b", "[]", "--delay", "1s"]);
    let arrived = receiver.wait_for(2, SOON);
    assert!(arrived[1].at - arrived[0].at >= Duration::from_millis(900), "a delayed job waits");
    assert_ne!(fleet.qfleet(&["push", "mail", "A@b", "{not json"]).status.code(), Some(0));
    assert_ne!(fleet.qfleet(&["push", "nosuch", "A@b", "{}"]).status.code(), Some(0));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn failed_jobs_are_listed_shown_retried_and_forgotten() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|request| {
        let retried = request.header("Job-Attempt") == Some("1") && text(&request.body).contains("\"uuid\"");
        if retried && request.path == "/" {
            Answer::status(422).body(r#"{"title":"no such customer"}"#)
        } else {
            Answer::ok()
        }
    });
    let mut fleet = fleet(&redis, &receiver);
    push(&redis, "mail", [payload(1, ""), payload(2, "")]);
    push(&redis, "mail", ["not json at all \u{1}".to_owned()]);
    receiver.wait_for(2, SOON);
    eventually(SOON, "three failed jobs", || {
        let list: serde_json::Value = serde_json::from_str(&fleet.ok(&["failed", "list", "--json"])).unwrap();
        (list.as_array().unwrap().len() == 3).then_some(())
    });
    // A job is written to the failed ones first and leaves its queue second.
    wait_empty(&redis, &fleet);
    let id = "00000000-0000-4000-8000-000000000001";
    let shown = fleet.ok(&["failed", "show", id]);
    assert!(shown.contains("9007199254740993") && shown.contains("422"), "{shown}");
    fleet.ok(&["failed", "retry", id]);
    let again = receiver.wait_for(3, SOON);
    assert_eq!(text(&again[2].body), payload(1, ""), "retried with its own bytes");
    fleet.ok(&["failed", "forget", "00000000-0000-4000-8000-000000000002"]);
    eventually(SOON, "the retried job to fail again", || {
        let list: serde_json::Value = serde_json::from_str(&fleet.ok(&["failed", "list", "--json"])).unwrap();
        (list.as_array().unwrap().len() == 2).then_some(())
    });
    fleet.ok(&["failed", "flush"]);
    let list: serde_json::Value = serde_json::from_str(&fleet.ok(&["failed", "list", "--json"])).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 0);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn scale_changes_the_number_until_a_reload_does() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut fleet = fleet(&redis, &receiver);
    fleet.ok(&["scale", "mail=3"]);
    fleet.wait_all_running();
    assert_eq!(fleet.status().len(), 3);
    fleet.ok(&["reload"]);
    assert_eq!(fleet.status().len(), 3, "a reload that changes nothing keeps it");
    fleet.ok(&["scale", "mail=1"]);
    eventually(SOON, "one process", || (fleet.status().len() == 1).then_some(()));
    fleet.ok(&["scale", "mail=0"]);
    eventually(SOON, "no process", || fleet.status().is_empty().then_some(()));
    let shown = fleet.qfleet(&["status"]);
    let note = "mail has no processes: scaled to 0, manifest ";
    assert!(text(&shown.stderr).starts_with(note), "{}", text(&shown.stderr));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn commands_without_a_daemon_say_so() {
    let place = qfleet_testkit::Scratch::new();
    let socket = place.join("none.sock");
    let output = std::process::Command::new(crate::support::QFLEET)
        .args(["status", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains(&socket.display().to_string()), "{}", text(&output.stderr));
}
