//! Dead workers: theirs, found by the check for stalled jobs, and ours, whose jobs come back at once.

use std::time::{Duration, Instant};

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::{DeadState, Recovered, Renewal, Settled};
use serde_json::json;

use crate::contract::{job_of, names, settle, take, take_one};
use crate::node::stalled::{self, STALLED, hold, recover, started};
use crate::rig::{DEMO, NodeRig, SOON, complete};

#[tokio::test]
async fn our_dead_workers_jobs_are_back_at_once() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("for (const name of ['a', 'b', 'c']) await kit.queue('demo').add(name, {}, {attempts: 3})");
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
    assert_eq!(seen, [(1, 1, 1), (1, 0, 1), (1, 0, 0)]);
    assert_eq!(job_of(&back[0]).history.previous.as_deref(), Some("crash"));
    assert_eq!(rig.hash("1")["stc"], "1");
    let stalled: Vec<String> = rig
        .events()
        .into_iter()
        .filter(|event| event["event"] == "stalled")
        .map(|event| event["jobId"].clone())
        .collect();
    assert_eq!(stalled, ["1"]);
}

#[tokio::test]
async fn who_stalls_too_often_has_failed() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').add('a', {}, {attempts: 5})");
    let living = rig.worker(2);
    for (crash, buried) in [(1, 0), (2, 1)] {
        let dead = rig.worker(70 + crash);
        let job = take_one(&*dead, DEMO).await;
        drop(dead);
        let recovered = recover(&*living, 70 + crash, vec![hold(&job, started())]).await;
        assert_eq!((recovered.buried, recovered.returned), (buried, 1 - buried));
    }
    let seen = node.run("const job = await kit.queue('demo').getJob('1'); return [await job.getState(), job.failedReason, job.attemptsMade]");
    assert_eq!(seen, json!(["failed", STALLED, 1]));
}

#[tokio::test]
async fn a_job_with_a_deferred_failure_fails_without_running() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {}, {attempts: 3}); await kit.queue('demo').add('b')");
        redis::cmd("HSET").arg("bull:demo:1").arg("defa").arg(STALLED).exec(&mut rig.redis()).unwrap();
        let driver = rig.worker(1);
        let turn = take(&*driver, DEMO, 5).await;
        assert_eq!(names(&turn.jobs), ["b"]);
        let hash = rig.hash("1");
        assert_eq!(
            (hash["failedReason"].as_str(), hash["atm"].as_str(), hash.get("defa")),
            (STALLED, "1", None)
        );
        assert_eq!(hash["stacktrace"], format!(r#"["UnrecoverableError: {STALLED}"]"#));
        let state = node.run("return await (await kit.queue('demo').getJob('1')).getState()");
        assert_eq!(state, json!("failed"), "{library}");
    }
}

/// One check an interval, whoever makes it, and none by those who only look.
#[tokio::test]
async fn stalled_jobs_are_looked_for_once_over_the_fleet() {
    let rig = NodeRig::bullmq();
    let interval = Duration::from_millis(500);
    let rules = NodeRules { stalled_interval: interval, ..NodeRules::default() };
    let (first, second) = (rig.worker_with(1, &rules), rig.worker_with(2, &rules));
    first.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    let held = take_one(&*first, DEMO).await;
    let mut checks = std::collections::BTreeSet::new();
    let started = Instant::now();
    while checks.len() < 4 {
        assert!(started.elapsed() < SOON, "{checks:?} only");
        take(&*second, DEMO, 1).await;
        assert_eq!(first.renew(std::slice::from_ref(&held.receipt)).await.unwrap(), [Renewal::Held]);
        let check: Option<String> =
            redis::cmd("GET").arg("bull:demo:stalled-check").query(&mut rig.redis()).unwrap();
        checks.extend(check);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The first may have been there for long, and each of the others has its whole interval but the last.
    let least = interval * 2 - Duration::from_millis(20);
    assert!(started.elapsed() > least, "{checks:?} in {:?}", started.elapsed());
}

/// What is broken beside a job does not keep it from its end.
#[tokio::test]
async fn broken_keys_of_a_parent_do_not_hold_a_child() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.flow().add({name: 'p', queueName: 'parents', opts: {jobId: 'P'}, children: [{name: 'a', queueName: 'demo', opts: {jobId: 'A'}}]})");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    redis::cmd("DEL").arg("bull:parents:P:dependencies").exec(&mut rig.redis()).unwrap();
    redis::cmd("SET").arg("bull:parents:P:dependencies").arg("text").exec(&mut rig.redis()).unwrap();
    assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Done);
    assert_eq!(node.run("return await (await kit.queue('demo').getJob('A')).getState()"), json!("completed"));
}

#[tokio::test]
async fn what_was_settling_is_settled() {
    stalled::what_was_settling_is_settled("bullmq", 1).await;
}

#[tokio::test]
async fn a_lock_that_ran_out_is_ours_until_somebody_starts_the_job() {
    stalled::a_lock_that_ran_out_is_ours_until_somebody_starts_the_job("bullmq", &[("ats", "2")]).await;
}
