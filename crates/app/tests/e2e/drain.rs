//! Stopping, in all its ways.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qfleet_testkit::{Answer, Receiver, RedisServer, Scratch, eventually};

use crate::support::{Fleet, SOON, lines, payload, push, script, text, wait_empty};

#[test]
fn a_drain_finishes_what_runs_and_gives_back_the_rest() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(700)));
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    concurrency: 2\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    push(&redis, "mail", (0..10).map(|n| payload(n, "")));
    receiver.wait_for(2, SOON);
    fleet.signal(Signal::SIGTERM);
    fleet.signal(Signal::SIGTERM);
    assert_eq!(fleet.wait().code(), Some(0));
    let done = receiver.count();
    let left: usize = redis::cmd("LLEN").arg("queues:mail").query(&mut redis.connection()).unwrap();
    let reserved: usize =
        redis::cmd("ZCARD").arg("queues:mail:reserved").query(&mut redis.connection()).unwrap();
    assert_eq!((left + done, reserved), (10, 0), "what was not started is back, nothing is held");
    let first: String =
        redis::cmd("LINDEX").arg("queues:mail").arg(0).query(&mut redis.connection()).unwrap();
    assert_eq!(first, payload(done, ""), "at the take end, byte for byte");
}

#[test]
fn stop_wait_cuts_a_shell_job_off_and_gives_it_back_at_once() {
    let redis = RedisServer::start();
    let place = Scratch::new();
    let slow = script(
        &place,
        "slow",
        &format!("echo start >> {0}/log; sleep 100; echo end >> {0}/log", place.path().display()),
    );
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  audio:\n    timeout: 300\n    stop-wait: 1s\n    handler: {{shell: {{argv: [{}]}}}}\n",
        redis.url(),
        slow.display()
    ));
    push(&redis, "audio", [payload(1, "")]);
    eventually(SOON, "the job to start", || {
        std::fs::read_to_string(place.join("log")).ok().filter(|log| log.contains("start"))
    });
    let stopping = Instant::now();
    assert_eq!(fleet.stop(), 75, "says that work was cut off");
    assert!(stopping.elapsed() < Duration::from_secs(60), "the job sleeps on for long");
    let back: String =
        redis::cmd("LINDEX").arg("queues:audio").arg(0).query(&mut redis.connection()).unwrap();
    assert_eq!(back, payload(1, ""), "attempt uncounted");
    assert!(lines(&fleet, "none").is_empty());
}

#[test]
fn stop_wait_leaves_an_http_job_until_its_deadline_has_passed() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::never());
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    timeout: 60\n    stop-wait: 500ms\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    push(&redis, "mail", [payload(1, "")]);
    receiver.wait_for(1, SOON);
    assert_eq!(fleet.stop(), 75);
    let due: Vec<(String, f64)> = redis::cmd("ZRANGE")
        .arg("queues:mail:delayed")
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query(&mut redis.connection())
        .unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].0, payload(1, ""), "attempt uncounted");
    assert!((5.0..70.0).contains(&(due[0].1 - now)), "due after its deadline: {}", due[0].1 - now);
}

#[test]
fn max_jobs_replaces_a_worker_between_jobs() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    max-jobs: 5\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    let first = fleet.pid_of("mail:mail_00");
    push(&redis, "mail", (0..20).map(|n| payload(n, "")));
    receiver.wait_for(20, SOON);
    wait_empty(&redis, &fleet);
    fleet.wait_all_running();
    assert_ne!(fleet.pid_of("mail:mail_00"), first);
    assert_eq!(receiver.count(), 20);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn one_budget_limits_the_whole_end_and_what_was_cut_off_is_listed() {
    let redis = RedisServer::start();
    let place = Scratch::new();
    let log = place.join("log");
    let body = format!("trap '' TERM; echo start >> {}; sleep 100 & wait; sleep 100", log.display());
    let slow = script(&place, "slow", &body);
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nshutdown-timeout: 8s\nqueues:\n  audio:\n    timeout: 300\n    stop-wait: 200s\n    \
         handler: {{shell: {{argv: [{}]}}}}\n\
         programs:\n  deaf: {{command: [sh, -c, 'trap \"\" TERM; while :; do sleep 1; done'], stop-wait: 300s}}\n",
        redis.url(),
        slow.display()
    ));
    push(&redis, "audio", [payload(1, "")]);
    eventually(SOON, "the job to start", || {
        std::fs::read_to_string(&log).ok().filter(|log| log.contains("start"))
    });
    let stopping = Instant::now();
    let output = fleet.qfleet(&["shutdown", "--wait"]);
    let took = stopping.elapsed();
    assert_eq!(fleet.wait().code(), Some(75));
    assert!(took < Duration::from_secs(60), "one after the other they have 500 s: {took:?}");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("waiting for 1 job of 1 queue and 1 program, "), "{said}");
    assert!(
        said.contains("audio: ERROR (job 00000000-0000-4000-8000-000000000001 was cut off and given back)"),
        "{said}"
    );
    assert!(said.contains("deaf: ERROR (did not end in time and was killed)"), "{said}");
    assert!(said.ends_with("shut down\n"), "{said}");
    assert!(fleet.log().contains("cut off 1 job and gave back: 00000000-"), "{}", fleet.log());
    assert!(fleet.log().contains("waiting for 1 job of 1 queue and 1 program, "), "{}", fleet.log());
    let back: usize = redis::cmd("LLEN").arg("queues:audio").query(&mut redis.connection()).unwrap();
    assert_eq!(back, 1, "given back");
}
