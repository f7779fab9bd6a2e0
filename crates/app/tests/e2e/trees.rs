//! Nobody outlives the job or program he came from, also when he has left its group and its session. Each case runs as the
//! machine allows it, with control groups where there are some, and without them.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{RedisServer, eventually};

use crate::support::{Fleet, SOON, is_alive, payload, push, wait_empty};

const WAYS: [&[&str]; 2] = [&[], &["env", "QFLEET_CGROUP=off"]];

/// A process that leaves twice, says who it is in `{dir}/left`, and ignores SIGTERM when it is asked to.
const LEAVE: &str =
    "setsid sh -c \"setsid sh -c '$TRAP echo \\$\\$ >>{dir}/left; exec sleep 1000' & exit\" >/dev/null 2>&1";

fn left(fleet: &Fleet, count: usize) -> Vec<i32> {
    eventually(SOON, "those who left to say who they are", || {
        let list = fs::read_to_string(fleet.dir.join("left")).unwrap_or_default();
        let pids: Vec<i32> = list.lines().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() >= count).then_some(pids)
    })
}

#[track_caller]
fn gone(fleet: &Fleet, pids: &[i32]) {
    eventually(SOON, "those who left to be gone", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
    assert!(!fleet.log().contains("panicked"), "{}", fleet.log());
}

fn jobs(redis: &RedisServer, script: &str, more: &str) -> String {
    let leave = LEAVE.replace("$TRAP", "");
    let script = script.replace("LEAVE", &leave);
    format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    tries: 1\n    {more}\n    handler:\n      shell:\n        shell: |\n          {script}\n",
        redis.url()
    )
}

#[test]
fn a_job_that_is_done_leaves_nobody_behind() {
    for way in WAYS {
        let redis = RedisServer::start();
        let mut fleet = Fleet::start_through(
            way,
            &jobs(&redis, "LEAVE; until [ -s {dir}/left ]; do sleep 0.05; done", "kill-after: 1s"),
        );
        push(&redis, "mail", [payload(1, "")]);
        let pids = left(&fleet, 1);
        wait_empty(&redis, &fleet);
        // It was done only after they were gone.
        assert!(pids.iter().all(|pid| !is_alive(*pid)), "{}", fleet.log());
        assert_eq!(fleet.stop(), 0);
    }
}

#[test]
fn a_job_that_takes_too_long_ends_with_whoever_left_it() {
    for way in WAYS {
        let redis = RedisServer::start();
        let script = "LEAVE; trap '' TERM; while :; do sleep 0.1; done";
        let mut fleet =
            Fleet::start_through(way, &jobs(&redis, script, "timeout: 3s\n    kill-after: 300ms"));
        push(&redis, "mail", [payload(1, "")]);
        let pids = left(&fleet, 1);
        gone(&fleet, &pids);
        assert_eq!(fleet.stop(), 0);
    }
}

#[test]
fn a_killed_worker_takes_along_whoever_left_its_job() {
    for way in WAYS {
        let redis = RedisServer::start();
        let script = "LEAVE; exec sleep 1000";
        let mut fleet = Fleet::start_through(way, &jobs(&redis, script, "timeout: 10m\n    stop-wait: 1s"));
        fleet.wait_all_running();
        push(&redis, "mail", [payload(1, "")]);
        let pids = left(&fleet, 1);
        kill(Pid::from_raw(fleet.pid_of("mail:mail_00")), Signal::SIGKILL).unwrap();
        gone(&fleet, &pids);
        fleet.stop();
    }
}

#[test]
fn what_a_killed_daemon_leaves_of_its_programs_is_ended_by_the_next_one_before_it_starts_them_again() {
    for way in WAYS {
        let leave = LEAVE.replace("$TRAP", "trap \\\"\\\" TERM;");
        let mut fleet = Fleet::start_through(
            way,
            &format!(
                "programs:\n  web:\n    startsecs: 0\n    stop-wait: 1s\n    command:\n      - sh\n      - -c\n      - |\n        {leave}; exec sleep 1000\n"
            ),
        );
        fleet.wait_all_running();
        let before = left(&fleet, 1);
        let web = fleet.pid_of("web");
        fleet.kill9();
        eventually(SOON, "the program to end with the daemon", || (!is_alive(web)).then_some(()));
        assert!(is_alive(before[0]), "nobody is there to end it");
        fleet.start_another();
        gone(&fleet, &before);
        fleet.wait_all_running();
        assert!(fleet.log().contains("an earlier daemon has left processes behind"), "{}", fleet.log());
        let after = left(&fleet, 2);
        assert!(is_alive(after[1]));
        assert_eq!(fleet.stop(), 0);
        assert!(!is_alive(after[1]));
    }
}

#[test]
fn the_end_of_what_a_killed_daemon_has_left_is_seen_long_before_its_time_is_over() {
    let slow = LEAVE
        .replace("$TRAP", "trap \\\"sleep 1; exit\\\" TERM;")
        .replace("exec sleep 1000", "while :; do sleep 0.05; done");
    for way in WAYS {
        let manifest = format!(
            "programs:\n  web:\n    command:\n    - sh\n    - -c\n    - |\n      {slow}; exec sleep 1000\n    stop-wait: 1h\n    startsecs: 0\n"
        );
        let mut fleet = Fleet::start_through(way, &manifest);
        let pids = left(&fleet, 1);
        fleet.kill9();
        fleet.start_another();
        fleet.wait_state("web", "RUNNING");
        assert!(!is_alive(pids[0]), "the two lived beside each other");
        kill(Pid::from_raw(left(&fleet, 2)[1]), Signal::SIGKILL).unwrap();
        assert_eq!(fleet.stop(), 0);
    }
}

#[test]
fn status_says_what_keeps_processes_together() {
    let mut fleet = Fleet::start_through(WAYS[1], "programs: {idle: {command: sleep 1000, startsecs: 0}}\n");
    fleet.wait_all_running();
    assert_eq!(fleet.process("idle")["tree"], "walk");
    assert!(fleet.log().contains("no control groups"), "{}", fleet.log());
    assert_eq!(fleet.stop(), 0);
    let mut fleet = Fleet::start_and_wait("programs: {idle: {command: sleep 1000, startsecs: 0}}\n");
    let group = fs::read_to_string(format!("/proc/{}/cgroup", fleet.pid_of("idle"))).unwrap();
    let has_its_own = group.lines().any(|line| line.starts_with("0::") && line.ends_with(".idle"));
    assert_eq!(fleet.process("idle")["tree"], if has_its_own { "cgroup" } else { "walk" });
    assert_eq!(fleet.stop(), 0);
}
