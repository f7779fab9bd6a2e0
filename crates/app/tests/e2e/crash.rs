//! A worker dies with jobs in hand.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Receiver, RedisServer, eventually};

use crate::support::{Fleet, SOON, payload, push, wait_empty};

#[test]
fn twenty_jobs_in_hand_survive_kill_9() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|request| {
        let first = request.header("Job-Attempt") == Some("1");
        if first { Answer::never() } else { Answer::ok() }
    });
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    concurrency: 20\n    tries: 3\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    push(&redis, "mail", (0..20).map(|n| payload(n, "")));
    receiver.wait_for(20, SOON);

    let old = fleet.pid_of("mail:mail_00");
    let killed = Instant::now();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    eventually(SOON, "a replacement", || {
        let process = fleet.process("mail:mail_00");
        (process["state"] == "RUNNING" && process["pid"] != old).then_some(())
    });
    let replaced = killed.elapsed();
    let all = receiver.wait_for(40, SOON);
    let handled = all.iter().map(|request| request.at).max().unwrap() - killed;

    let mut again: Vec<&str> = all
        .iter()
        .filter(|request| request.header("Job-Attempt") == Some("2"))
        .map(|r| r.header("Job-Id").unwrap())
        .collect();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), 20, "every job comes again, once");
    for request in all.iter().filter(|request| request.header("Job-Attempt") == Some("2")) {
        assert_eq!(request.header("Job-Previous-Status"), Some("crash"));
    }
    wait_empty(&redis, &fleet);
    assert!(replaced < Duration::from_millis(500), "replacement after {replaced:?}");
    assert!(handled < Duration::from_secs(2), "handled again after {handled:?}");
    println!("replacement seen RUNNING after {replaced:?}, all 20 handled again after {handled:?}");
    assert_eq!(fleet.stop(), 0);
}
