//! A worker and the earlier ones of its slot: it waits for the living and gives back what the dead held.

use nix::sys::signal::Signal;
use qfleet_model::link::FromChild;
use qfleet_model::start::DrainLimit;
use qfleet_testkit::eventually;

use crate::jobs::{Job, attempts};
use crate::stage::{SOON, Stage};

fn slow(stage: &Stage) -> qfleet_manifest::settings::WorkerSettings {
    let out = stage.scratch.join("out");
    let script = format!("echo start $JOB_ID >> {0}; sleep 2; echo end $JOB_ID >> {0}", out.display());
    stage.settings(&format!(
        "queues:\n  q: {{tries: 3, sleep: 200ms, handler: {{shell: {{shell: '{script}'}}}}}}\n"
    ))
}

#[test]
fn it_waits_until_the_earlier_worker_has_ended() {
    let stage = Stage::new();
    let settings = slow(&stage);
    stage.push("q", &Job::new("a").bytes());
    let mut earlier = stage.worker(&settings);
    stage.wait_lines("out", 1);
    let worker = stage.worker_after(&settings, vec![earlier.ledger.clone()]);
    let pid = i32::try_from(earlier.child.pid()).unwrap();
    worker.wait_for("waiting", |message| *message == FromChild::Waiting { pid });
    stage.push("q", &Job::new("b").bytes());
    earlier.drain(DrainLimit::JobsOwn);
    assert!(!worker.said().contains(&FromChild::Ready));
    assert_eq!(earlier.wait(SOON), 0);
    worker.wait_for("ready", |message| *message == FromChild::Ready);
    assert_eq!(stage.wait_lines("out", 4), ["start a", "end a", "start b", "end b"]);
    worker.finish();
}

#[test]
fn it_gives_back_what_a_dead_one_held_and_takes_it_itself() {
    let stage = Stage::new();
    let settings = slow(&stage);
    stage.push("q", &Job::new("a").bytes());
    let mut earlier = stage.worker(&settings);
    stage.wait_lines("out", 1);
    let worker = stage.worker_after(&settings, vec![earlier.ledger.clone()]);
    worker.wait_for("waiting", |message| matches!(message, FromChild::Waiting { .. }));
    earlier.child.kill9();
    let names_it = |message: &FromChild| matches!(message, FromChild::Recovered { returned: 1, buried: 0, started } if started[0].queue == "q" && started.len() == 1);
    worker.wait_for("the recovery", names_it);
    worker.wait_for("ready", |message| *message == FromChild::Ready);
    assert_eq!(stage.wait_lines("out", 3), ["start a", "start a", "end a"]);
    assert!(!earlier.ledger.exists());
    worker.finish();
}

#[test]
fn it_is_ready_though_redis_is_away_and_gives_back_later() {
    let stage = Stage::new();
    let settings = slow(&stage);
    stage.push("q", &Job::new("a").bytes());
    let mut earlier = stage.worker(&settings);
    stage.wait_lines("out", 1);
    stage.redis.pause();
    earlier.child.kill9();
    let worker = stage.worker_after(&settings, vec![earlier.ledger.clone()]);
    worker.wait_for("ready", |message| *message == FromChild::Ready);
    stage.redis.resume();
    assert_eq!(stage.wait_lines("out", 3)[1..], ["start a", "end a"]);
    assert!(!earlier.ledger.exists());
    worker.finish();
}

#[test]
fn told_to_stop_while_it_waits_it_ends_at_once() {
    let stage = Stage::new();
    let settings = slow(&stage);
    let earlier = stage.worker(&settings);
    let mut worker = stage.worker_after(&settings, vec![earlier.ledger.clone()]);
    worker.wait_for("waiting", |message| matches!(message, FromChild::Waiting { .. }));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(SOON), 0);
    earlier.finish();
}

#[test]
fn a_recovery_that_is_killed_is_finished_by_the_next() {
    let stage = Stage::new();
    let settings = slow(&stage);
    stage.push("q", &Job::new("a").bytes());
    let mut earlier = stage.worker(&settings);
    stage.wait_lines("out", 1);
    earlier.child.kill9();
    stage.redis.pause();
    let mut first = stage.recovery(&settings, &earlier.ledger);
    eventually(SOON, "the store to be found away", || {
        (first.logged("cannot give back the jobs of a dead worker yet") == 1).then_some(())
    });
    first.child.kill9();
    stage.redis.resume();
    assert_eq!(stage.recover(&settings, &earlier.ledger), (1, 0));
    assert_eq!(stage.depth("q").0 + stage.depth("q").1, 1);
    let left = stage.ready("q").into_iter().chain(stage.delayed("q").into_iter().map(|(payload, _)| payload));
    assert!(left.into_iter().all(|payload| attempts(&payload) == 1), "its attempt was counted once");
}
