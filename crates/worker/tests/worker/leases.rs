//! Leases: renewed for as long as a job runs, and what happens when one is lost all the same.

use qfleet_testkit::{Answer, Gate, Receiver, eventually};

use crate::jobs::Job;
use crate::stage::{SOON, Stage};

fn manifest(stage: &Stage, handler: &str) -> String {
    format!(
        "redis: {{url: \"redis+unix://{}\"}}\nconnections:\n  crm: {{driver: laravel, prefix: t_, retry-after: 2}}\n\
         queues:\n  q: {{sleep: 200ms, concurrency: 2, handler: {handler}}}\n",
        stage.redis.socket().display()
    )
}

fn reserved(stage: &Stage) -> Vec<(Vec<u8>, f64)> {
    let mut command = redis::cmd("ZRANGE");
    command.arg("t_queues:q:reserved").arg(0).arg(-1).arg("WITHSCORES");
    command.query(&mut stage.redis.connection()).unwrap()
}

#[test]
fn a_job_longer_than_its_lease_runs_once_though_others_look_for_work() {
    let stage = Stage::new();
    let out = stage.scratch.join("out");
    let shell = format!("{{shell: {{shell: 'echo start >> {0}; sleep 6; echo end >> {0}'}}}}", out.display());
    let settings = stage.settings_of(&manifest(&stage, &shell));
    let (one, other) = (stage.worker(&settings), stage.worker(&settings));
    stage.push("q", &Job::new("a").bytes());
    stage.wait_lines("out", 1);
    let first = reserved(&stage)[0].1;
    eventually(SOON, "the lease to be renewed", || {
        reserved(&stage).first().filter(|(_, score)| *score > first).map(|_| ())
    });
    assert_eq!(stage.wait_lines("out", 2), ["start", "end"]);
    stage.wait_depth("q", (0, 0, 0));
    assert_eq!(one.finish().completed + other.finish().completed, 1);
}

#[test]
fn a_lost_lease_cancels_the_delivery_and_voids_its_outcome() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::never());
    let http = format!("{{http: \"{}\"}}", receiver.url());
    let worker = stage.worker(&stage.settings_of(&manifest(&stage, &http)));
    stage.push("q", &Job::new("a").bytes());
    receiver.wait_for(1, SOON);
    steal(&stage);
    let report = worker.wait_report("the loss", |report| report.late == 1 && report.running == 0);
    assert_eq!((report.completed, report.retried, report.failed, report.given_back), (0, 0, 0, 0));
    assert_eq!(stage.depth("q"), (0, 0, 0), "nothing was written for it");
    worker.finish();
}

#[test]
fn a_lost_lease_ends_a_shell_job() {
    let stage = Stage::new();
    let out = stage.scratch.join("out");
    let shell =
        format!("{{shell: {{shell: 'echo start >> {0}; sleep 60; echo end >> {0}'}}}}", out.display());
    let worker = stage.worker(&stage.settings_of(&manifest(&stage, &shell)));
    stage.push("q", &Job::new("a").bytes());
    stage.wait_lines("out", 1);
    steal(&stage);
    worker.wait_report("the loss", |report| report.late == 1 && report.running == 0);
    assert_eq!(stage.lines("out"), ["start"]);
    worker.finish();
}

#[test]
fn an_outcome_that_comes_after_the_loss_is_counted_late() {
    let stage = Stage::new();
    let stolen = Gate::new();
    let receiver = Receiver::start({
        let stolen = stolen.clone();
        move |_| Answer::ok().behind(&stolen)
    });
    let http = format!("{{http: \"{}\"}}", receiver.url());
    let worker = stage.worker(&stage.settings_of(&manifest(&stage, &http)));
    stage.push("q", &Job::new("a").bytes());
    receiver.wait_for(1, SOON);
    // If it is before the first renewal, only the verdict's own turn can tell.
    steal(&stage);
    stolen.open();
    let report = worker.wait_report("the late outcome", |report| report.late == 1);
    assert_eq!(report.completed, 0);
    worker.finish();
}

/// What another worker does that takes the job over.
fn steal(stage: &Stage) {
    let held = eventually(SOON, "a reservation", || reserved(stage).into_iter().next());
    redis::cmd("ZREM").arg("t_queues:q:reserved").arg(held.0).exec(&mut stage.redis.connection()).unwrap();
}
