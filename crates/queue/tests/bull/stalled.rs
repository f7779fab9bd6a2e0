//! Dead workers: theirs, found by the check for stalled jobs, and ours, whose jobs come back at once.

use std::time::Duration;

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::{DeadState, Recovered};
use serde_json::json;

use crate::contract::{job_of, names, take, take_one, take_soon};
use crate::node::stalled::{self, STALLED, hold, recover, started};
use crate::rig::{DEMO, NodeRig, SOON, hasty, soon};

#[tokio::test]
async fn our_dead_workers_jobs_are_back_at_once() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.listen('demo'); for (const name of ['a', 'b', 'c']) await kit.queue('demo').add(name, {}, {attempts: 3})");
    let (dead, living) = (rig.worker(77), rig.worker(2));
    let jobs = take(&*dead, DEMO, 2).await.jobs;
    drop(dead);
    let held = vec![hold(&jobs[0], started()), hold(&jobs[1], DeadState::Fetched)];
    assert_eq!(recover(&*living, 77, held).await, Recovered { returned: 2, buried: 0, gone: 0 });
    let back = take(&*living, DEMO, 9).await.jobs;
    assert_eq!(names(&back), ["a", "b", "c"]);
    let seen: Vec<_> = back
        .iter()
        .map(job_of)
        .map(|job| (job.attempt, job.history.crashes, job.history.deliveries))
        .collect();
    assert_eq!(seen, [(1, 1, 1), (1, 0, 0), (1, 0, 0)]);
    assert_eq!(job_of(&back[0]).history.previous.as_deref(), Some("crash"));
    assert_eq!(rig.hash("1")["stalledCounter"], "1");
    let stalled = soon(
        &node,
        "the events",
        "const seen = kit.seen('demo').filter(([name]) => name === 'stalled'); return seen.length && seen",
    );
    assert_eq!(stalled, json!([["stalled", {"jobId": "1"}]]));
}

/// What our recovery leaves, and what the check of the library's own worker leaves.
#[tokio::test]
async fn who_stalls_too_often_has_failed() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "await kit.listen('demo'); await kit.queue('demo').add('a', {}, {attempts: 5});
         kit.memory.failed = (await kit.queue('demo').getJob('1')).finished().catch((error) => error.message)",
    );
    let living = rig.worker(2);
    for (crash, buried) in [(1, 0), (2, 1)] {
        let dead = rig.worker(70 + crash);
        let job = take_one(&*dead, DEMO).await;
        drop(dead);
        let recovered = recover(&*living, 70 + crash, vec![hold(&job, started())]).await;
        assert_eq!((recovered.buried, recovered.returned), (buried, 1 - buried));
    }
    let seen = node.run(
        "const job = await kit.queue('demo').getJob('1');
         return [await job.getState(), job.failedReason, job.attemptsMade, job.finishedOn > 0, job.stacktrace]",
    );
    assert_eq!(seen, json!(["failed", STALLED, 0, true, []]));
    assert_eq!(node.run("return await kit.memory.failed"), "job stalled more than maxStalledCount");
    let told = node.run("return (await kit.told('demo')).filter(([channel]) => channel === 'failed')");
    assert_eq!(told, json!([["failed", r#"{"jobId":"1", "val": "job stalled more than maxStalledCount"}"#]]));
}

/// Between the two steps of the library's take a job is active without a lock.
#[tokio::test]
async fn a_job_nobody_got_to_lock_is_found() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').add('a', {})");
    redis::cmd("RPOPLPUSH").arg(&["bull:demo:wait", "bull:demo:active"]).exec(&mut rig.redis()).unwrap();
    let driver = rig.worker_with(1, &hasty());
    let job = take_soon(&*driver, DEMO, SOON).await;
    assert_eq!(job_of(&job).history.crashes, 1);
}

#[tokio::test]
async fn a_check_fails_at_once_and_removes_as_the_job_wants() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').add('kept', {}); await kit.queue('demo').add('gone', {}, {removeOnFail: true})");
    let dead = rig.worker_with(1, &hasty());
    take(&*dead, DEMO, 2).await;
    drop(dead);
    let driver = rig.worker_with(2, &NodeRules { max_stalled: 0, ..hasty() });
    let started = std::time::Instant::now();
    while !rig.redis_keys("bull:demo:2").is_empty() {
        assert!(take(&*driver, DEMO, 2).await.jobs.is_empty());
        assert!(started.elapsed() < SOON, "the check does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(node.run("return await (await kit.queue('demo').getJob('1')).getState()"), json!("failed"));
}

#[tokio::test]
async fn renewal_takes_the_job_from_those_that_count_as_stalled() {
    let rig = NodeRig::bull();
    let driver = rig.worker(1);
    rig.node("bull").run("await kit.queue('demo').add('a', {})");
    let job = take_one(&*driver, DEMO).await;
    redis::cmd("SADD").arg("bull:demo:stalled").arg("1").exec(&mut rig.redis()).unwrap();
    driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap();
    assert!(rig.redis_keys("bull:demo:stalled").is_empty());
}

#[tokio::test]
async fn what_was_settling_is_settled() {
    stalled::what_was_settling_is_settled("bull", 0).await;
}

#[tokio::test]
async fn a_lock_that_ran_out_is_ours_until_somebody_starts_the_job() {
    stalled::a_lock_that_ran_out_is_ours_until_somebody_starts_the_job(
        "bull",
        &[("processedOn", "1"), ("stalledCounter", "1")],
    )
    .await;
}
