//! The PHP side is a real Laravel: it writes what Laravel writes, and works what it and others wrote.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use qfleet_testkit::{JobKind, Php, Push, RedisServer, WorkEvent, eventually, laravel_payloads};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(120);
const READY: &str = "laravel_database_queues:default";

fn list(server: &RedisServer, key: &str) -> Vec<Vec<u8>> {
    redis::cmd("LRANGE").arg(key).arg(0).arg(-1).query(&mut server.connection()).unwrap()
}

fn count(events: &[WorkEvent], event: &str) -> usize {
    events.iter().filter(|one| one.event == event).count()
}

#[test]
fn what_is_reported_as_pushed_lies_in_redis() {
    let server = RedisServer::start();
    let php = Php::on(&server);
    let mut pushed = Vec::new();
    for kind in JobKind::ALL {
        pushed.extend(php.produce("default", kind, 2));
    }
    let raw: Vec<_> = pushed.iter().map(|one| one.raw.clone()).collect();
    assert_eq!(raw.len(), 24);
    assert_eq!(list(&server, READY), raw);
    assert_eq!(list(&server, &format!("{READY}:notify")).len(), 24);
    assert_eq!(php.size("default"), 24);
    let whole = raw.iter().map(|one| String::from_utf8_lossy(one)).collect::<String>();
    for part in [
        r#""backoff":"1,5,10""#,
        r#""maxTries":5"#,
        r#""failOnTimeout":true"#,
        "9223372036854775807",
        r#""empty_list":[]"#,
        r"\u0000",
        "日本",
        &"[".repeat(300),
    ] {
        assert!(whole.contains(part), "{part}");
    }
}

#[test]
fn a_payload_has_the_keys_of_the_recorded_ones() {
    let server = RedisServer::start();
    let keys = |raw: &[u8]| {
        let value: Value = serde_json::from_slice(raw).unwrap();
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    let recorded =
        laravel_payloads().into_iter().find(|shape| shape.version == 8 && shape.name == "plain").unwrap();
    let pushed = Php::on(&server).produce("default", JobKind::Plain, 1);
    assert_eq!(keys(&pushed[0].raw), keys(&recorded.ready[0]));
}

#[test]
fn delayed_jobs_go_to_the_delayed_set() {
    let server = RedisServer::builder().password("s3cr:t/@").start();
    let php = Php::on(&server).prefix("crm-");
    let pushed = php.push("mail", &Push::new(JobKind::Plain).delay(90));
    assert_eq!(pushed[0].delay, Some(90));
    let members: Vec<Vec<u8>> = redis::cmd("ZRANGE")
        .arg("crm-queues:mail:delayed")
        .arg(0)
        .arg(-1)
        .query(&mut server.connection())
        .unwrap();
    assert_eq!(members, [pushed[0].raw.clone()]);
    assert_eq!(php.size("mail"), 1);
}

#[test]
fn a_worker_runs_every_kind_and_tells_what_the_jobs_were_given() {
    let server = RedisServer::start();
    let php = Php::on(&server);
    php.push("default", &Push::new(JobKind::Plain).value(json!({"list": [], "n": 7})));
    php.produce("default", JobKind::Numbers, 1);
    php.produce("default", JobKind::Deep, 1);
    php.produce("default", JobKind::Unicode, 1);
    php.produce("default", JobKind::Secrets, 1);
    let throwing = php.produce("default", JobKind::Throwing, 1);
    let events = php.worker("default").run_until_empty();
    assert_eq!((count(&events, "started"), count(&events, "ran"), count(&events, "processed")), (6, 6, 5));
    let failed: Vec<_> = events.iter().filter(|one| one.event == "failed").collect();
    assert_eq!((failed.len(), &failed[0].raw), (1, &throwing[0].raw));
    let values: Vec<_> = events.iter().filter_map(|one| one.value.as_deref()).collect();
    assert_eq!(values[0], r#"{"list":[],"n":7}"#);
    assert!(
        values[1].contains("9007199254740993") && values[1].contains("0.3333333333333333"),
        "{}",
        values[1]
    );
    assert!(values[2].starts_with(&"[".repeat(300)));
    assert!(values[3].contains("日本 😀"));
    assert!(values[4].contains("9223372036854775807"));
    assert_eq!(php.size("default"), 0);
}

#[test]
fn a_job_that_throws_is_tried_again() {
    let server = RedisServer::start();
    let php = Php::on(&server);
    php.produce("default", JobKind::Throwing, 1);
    let first = php.worker("default").tries(3).max_jobs(1).run_until_empty();
    assert_eq!((count(&first, "threw"), count(&first, "failed")), (1, 0));
    let second = php.worker("default").tries(3).max_jobs(1).run_until_empty();
    assert_eq!(second[0].attempts, 2);
    assert_eq!(php.size("default"), 1);
}

#[test]
fn a_killed_worker_leaves_its_job_reserved_until_retry_after() {
    let server = RedisServer::start();
    let php = Php::on(&server).retry_after(1);
    php.push("default", &Push::new(JobKind::Slow).value(600));
    let mut worker = php.worker("default").start();
    worker.wait_for("ran", 1, SOON);
    worker.kill9();
    assert_eq!(count(&worker.events(), "processed"), 0);
    let reserved: u64 =
        redis::cmd("ZCARD").arg(format!("{READY}:reserved")).query(&mut server.connection()).unwrap();
    assert_eq!((reserved, php.size("default")), (1, 1));
    let again = eventually(SOON, "the job to be taken again", || {
        let events = php.worker("default").tries(1).run_until_empty();
        (!events.is_empty()).then_some(events)
    });
    // One try is allowed and used up, so the second attempt fails before it runs.
    assert_eq!((again[0].event.as_str(), again[0].attempts), ("started", 2));
    assert_eq!((count(&again, "failed"), count(&again, "ran")), (1, 0));
}

#[test]
fn a_worker_told_to_stop_finishes_its_job() {
    let server = RedisServer::start();
    let php = Php::on(&server).block_for(1);
    let mut worker = php.worker("high,default").start();
    php.push("default", &Push::new(JobKind::Slow).value(0.3));
    worker.wait_for("ran", 1, SOON);
    let events = worker.stop(SOON);
    assert_eq!(count(&events, "processed"), 1);
    assert_eq!(php.size("default"), 0);
}
