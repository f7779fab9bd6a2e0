//! A worker dies with jobs in hand.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Receiver, RedisServer, Scratch, eventually};

use crate::support::{Fleet, Pace, SOON, payload, push, script, wait_empty};

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
    let pace = Pace::watch();
    let killed = Instant::now();
    kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
    eventually(SOON, "a replacement", || {
        let process = fleet.process("mail:mail_00");
        (process["state"] == "RUNNING" && process["pid"] != old).then_some(())
    });
    let replaced = killed.elapsed();
    let all = receiver.wait_for(40, SOON);
    let handled = all.iter().map(|request| request.at).max().unwrap() - killed;
    let slack = pace.allows(Duration::ZERO);

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
    assert!(replaced < Duration::from_millis(500) + slack, "replacement after {replaced:?} ({slack:?})");
    assert!(handled < Duration::from_secs(2) + slack, "handled again after {handled:?} ({slack:?})");
    println!("replacement seen RUNNING after {replaced:?}, all 20 handled again after {handled:?}");
    assert_eq!(fleet.stop(), 0);
}

/// Time the process has had on a processor.
fn cpu_time(pid: i32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn poisoned_jobs_leave_one_worker_on_trial_their_neighbours_are_done_and_status_says_why() {
    let redis = RedisServer::start();
    let place = Scratch::new();
    let done = place.join("done");
    let body = format!(
        "case $JOB_NAME in *Job900[12]) kill -SEGV $PPID; sleep 100;; esac; echo $JOB_NAME >> {}",
        done.display()
    );
    let handler = script(&place, "handler", &body);
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail: {{numprocs: 8, sleep: 0.2, tries: 9, handler: {{shell: {{argv: [{}]}}}}}}\n",
        redis.url(),
        handler.display()
    ));
    let poisoned = || [payload(9001, ""), payload(9002, "")];
    push(
        &redis,
        "mail",
        (0..20).map(|n| payload(n, "")).chain(poisoned()).chain((20..40).map(|n| payload(n, ""))),
    );
    let text = eventually(SOON, "a worker that waits", || {
        let status = fleet.status();
        let given_up = status.iter().find(|process| process["state"] == "FATAL")?;
        given_up["description"].as_str().filter(|text| text.contains(" in job ")).map(str::to_owned)
    });
    assert!(
        text.starts_with("6 crashes in 60 s, last: signal SEGV in job 00000000-0000-4000-8000-00000000900"),
        "{text}"
    );
    assert!(fleet.log().contains("one worker at a time is tried from now on"), "{}", fleet.log());
    let neighbours = || std::fs::read_to_string(&done).unwrap_or_default().lines().count();
    eventually(SOON, "the neighbours to be done", || (neighbours() >= 40).then_some(()));
    wait_empty(&redis, &fleet);
    let failed: Vec<serde_json::Value> =
        serde_json::from_str(&fleet.ok(&["failed", "list", "--json"])).unwrap();
    assert_eq!(failed.len(), 2, "{failed:?}");
    // With work that can be done the others come back.
    let mut next = 100;
    eventually(SOON, "all workers to be back", || {
        push(&redis, "mail", [payload(next, "")]);
        next += 1;
        fleet.status().iter().all(|process| process["state"] == "RUNNING").then_some(())
    });
    wait_empty(&redis, &fleet);
    assert!(cpu_time(fleet.pid()) < Duration::from_secs(5), "{:?}", cpu_time(fleet.pid()));
    assert_eq!(fleet.stop(), 0);
}
