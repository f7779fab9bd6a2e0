//! Redis and endpoints go away and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Receiver, RedisServer, eventually, free_port};

use crate::support::{Fleet, Pace, SOON, payload, push, wait_empty};

fn manifest(redis: &RedisServer, url: &str) -> String {
    format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    concurrency: 3\n    tries: 1\n    sleep: 0.5\n    handler: {{http: {{url: '{url}'}}}}\n",
        redis.url()
    )
}

fn count(log: &str, text: &str) -> usize {
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_killed_redis_with_append_only_loses_nothing_and_is_reported_once() {
    let redis = RedisServer::builder().append_only().start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(30)));
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &format!("{}/", receiver.url())));
    push(&redis, "mail", (0..100).map(|n| payload(n, "")));
    receiver.wait_for(20, SOON);
    redis.kill9();
    std::thread::sleep(Duration::from_secs(2));
    redis.restart();
    receiver.wait_for(100, SOON);
    wait_empty(&redis, &fleet);
    let mut ids: Vec<String> =
        receiver.requests().iter().map(|request| request.header("Job-Id").unwrap().to_owned()).collect();
    let deliveries = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), deliveries), (100, 100), "each job runs, once");
    let log = fleet.log();
    assert!((1..=2).contains(&count(&log, "cannot be used")), "says it once, not a thousand times:\n{log}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_fleet_without_jobs_whose_redis_is_gone_stops_soon_and_cleanly() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &format!("{}/", receiver.url())));
    push(&redis, "mail", [payload(1, "")]);
    receiver.wait_for(1, SOON);
    wait_empty(&redis, &fleet);
    redis.kill9();
    eventually(SOON, "the outage to be noticed", || {
        fleet.log().contains("trying on until it can").then_some(())
    });
    let (pace, begun) = (Pace::watch(), Instant::now());
    assert_eq!(fleet.stop(), 0);
    let (took, allowed) = (begun.elapsed(), pace.allows(Duration::from_secs(4)));
    assert!(took < allowed, "it took {took:?}, not {allowed:?}\n{}", fleet.log());
}

#[test]
fn an_endpoint_that_is_down_costs_no_job_an_attempt() {
    let redis = RedisServer::start();
    let port = free_port();
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &format!("http://127.0.0.1:{port}/")));
    push(&redis, "mail", (0..10).map(|n| payload(n, "")));
    std::thread::sleep(Duration::from_secs(3));
    let up = Arc::new(AtomicBool::new(false));
    let receiver = Receiver::start_on_port(port, {
        let up = Arc::clone(&up);
        move |_| {
            up.store(true, Ordering::SeqCst);
            Answer::ok()
        }
    });
    let all = receiver.wait_for(10, SOON * 2);
    assert!(up.load(Ordering::SeqCst));
    for request in &all {
        assert_eq!(request.header("Job-Attempt"), Some("1"), "no attempt was spent");
    }
    wait_empty(&redis, &fleet);
    assert!(fleet.ok(&["failed", "list"]).lines().count() <= 2, "nothing failed with one try only");
    assert_eq!(fleet.stop(), 0);
}
