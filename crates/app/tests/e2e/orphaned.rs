//! The daemon is killed with SIGKILL.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Gate, Receiver, RedisServer, eventually};

use crate::support::{Fleet, SOON, is_alive, payload, push, wait_empty};

fn manifest(redis: &RedisServer, receiver: &Receiver) -> String {
    format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    numprocs: 2\n    tries: 3\n    handler: {{http: {{url: '{}/'}}}}\n\
         programs:\n  idle: {{command: sleep 1000}}\n",
        redis.url(),
        receiver.url()
    )
}

#[test]
fn workers_finish_what_they_hold_and_end_and_a_new_fleet_waits_for_them() {
    let redis = RedisServer::start();
    let seen = Gate::new();
    let receiver = Receiver::start({
        let seen = seen.clone();
        move |_| Answer::ok().behind(&seen)
    });
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &receiver));
    push(&redis, "mail", (0..2).map(|n| payload(n, "")));
    receiver.wait_for(2, SOON);
    let old: Vec<i32> =
        ["mail:mail_00", "mail:mail_01", "idle"].iter().map(|name| fleet.pid_of(name)).collect();

    fleet.kill9();
    eventually(SOON, "the program to end with the daemon", || (!is_alive(old[2])).then_some(()));
    assert!(is_alive(old[0]) && is_alive(old[1]), "workers finish their jobs first");
    fleet.start_another();
    let waiting = fleet.process("mail:mail_00");
    assert_eq!(waiting["state"], "STARTING");
    push(&redis, "mail", (2..6).map(|n| payload(n, "")));
    eventually(SOON, "the wait to be shown", || {
        let text = fleet.process("mail:mail_00")["description"].as_str().unwrap().to_owned();
        text.contains("waiting for old worker pid").then_some(())
    });
    seen.open();
    eventually(SOON, "the old workers to end", || (!is_alive(old[0]) && !is_alive(old[1])).then_some(()));
    fleet.wait_all_running();
    let all = receiver.wait_for(6, SOON);
    wait_empty(&redis, &fleet);
    let mut ids: Vec<_> = all.iter().map(|request| request.header("Job-Id").unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((all.len(), ids.len()), (6, 6), "each job runs once");
    assert!(receiver.most_in_hand() <= 2, "never two fleets at work");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn jobs_of_workers_that_died_with_the_daemon_come_back_at_the_next_start() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|request| {
        if request.header("Job-Attempt") == Some("1") { Answer::never() } else { Answer::ok() }
    });
    let mut fleet = Fleet::start_and_wait(&manifest(&redis, &receiver));
    push(&redis, "mail", (0..2).map(|n| payload(n, "")));
    receiver.wait_for(2, SOON);
    let workers: Vec<i32> = ["mail:mail_00", "mail:mail_01"].iter().map(|name| fleet.pid_of(name)).collect();
    kill(Pid::from_raw(fleet.pid()), Signal::SIGSTOP).unwrap();
    for worker in &workers {
        kill(Pid::from_raw(*worker), Signal::SIGKILL).unwrap();
    }
    fleet.kill9();
    fleet.start_another();
    let all = receiver.wait_for(4, SOON);
    assert_eq!(all.iter().filter(|request| request.header("Job-Attempt") == Some("2")).count(), 2);
    wait_empty(&redis, &fleet);
    assert_eq!(fleet.stop(), 0);
}
