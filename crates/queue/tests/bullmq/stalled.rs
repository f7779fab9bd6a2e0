//! Dead workers: theirs, found by the check for stalled jobs, and ours, whose jobs come back at once.

use std::time::{Duration, Instant};

use qfleet_queue::driver::{
    DeadHold, DeadState, DeadVerdict, DeadWorker, QueueDriver, Recovered, Renewal, Reserved, Settled,
};
use serde_json::json;

use crate::contract::{job_of, names, settle, take, take_one, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, complete, hasty, soon};

const STALLED: &str = "job stalled more than allowable limit";

fn hold(job: &Reserved, state: DeadState) -> DeadHold {
    DeadHold { lane: job.lane, queue: job.receipt.queue(), digest: job.receipt.digest(), state }
}

fn started() -> DeadState {
    DeadState::Started { alone: false, not_before: None }
}

async fn recover(driver: &dyn QueueDriver, tag: u32, held: Vec<DeadHold>) -> Recovered {
    let dead = DeadWorker { tag, marks: Vec::new(), held };
    let recovered = driver.recover(&dead).await.unwrap();
    let again = driver.recover(&dead).await.unwrap();
    assert_eq!(again, Recovered { returned: 0, buried: 0, gone: dead.held.len() as u32 });
    recovered
}

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
async fn what_was_settling_is_settled() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("for (const name of ['done', 'counted', 'uncounted', 'other']) await kit.queue('demo').add(name, {}, {attempts: 3})");
    let (dead, living) = (rig.worker(77), rig.worker(2));
    let jobs = take(&*dead, DEMO, 4).await.jobs;
    drop(dead);
    let due = crate::rig::now() + Duration::from_secs(60);
    let verdicts = [
        DeadVerdict::Complete,
        DeadVerdict::Again { due, counted: true },
        DeadVerdict::Again { due, counted: false },
        DeadVerdict::Other,
    ];
    let held =
        jobs.iter().zip(verdicts).map(|(job, verdict)| hold(job, DeadState::Settling(verdict))).collect();
    assert_eq!(recover(&*living, 77, held).await.returned, 4);
    let made = node.run(
        "const seen = []; for (const id of ['1', '2', '3', '4']) { const job = await kit.queue('demo').getJob(id);
           seen.push([await job.getState(), job.attemptsMade]) } return seen",
    );
    assert_eq!(made, json!([["completed", 1], ["delayed", 1], ["delayed", 0], ["waiting", 0]]));
}

#[tokio::test]
async fn a_dead_node_workers_job_comes_to_us() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {})");
        let dying = rig.node(library);
        dying.run("await kit.worker('demo', () => { kit.memory.got = true; return new Promise(() => {}) }, {lockDuration: 500})");
        soon(&dying, "the library's worker", "return kit.memory.got || null");
        dying.kill9();
        redis::cmd("DEL").arg("bull:demo:stalled-check").exec(&mut rig.redis()).unwrap();
        let driver = rig.worker_with(1, &hasty());
        let job = take_soon(&*driver, DEMO, SOON).await;
        assert_eq!((job_of(&job).attempt, job_of(&job).history.crashes), (1, 1), "{library}");
        assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Done);
    }
}

#[tokio::test]
async fn our_dead_workers_job_comes_to_node() {
    let rig = NodeRig::bullmq();
    let dead = rig.worker_with(1, &hasty());
    dead.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    take_one(&*dead, DEMO).await;
    drop(dead);
    let node = rig.node("bullmq");
    node.run("kit.memory.ended = 0; const worker = await kit.worker('demo', async () => 1, {stalledInterval: 300}); worker.on('completed', () => kit.memory.ended++)");
    soon(&node, "the library's worker", "return kit.memory.ended === 1");
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
    let (first, second) = (rig.worker_with(1, &hasty()), rig.worker_with(2, &hasty()));
    first.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    let held = take_one(&*first, DEMO).await;
    let mut checks = std::collections::BTreeSet::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(1800) {
        take(&*second, DEMO, 1).await;
        assert_eq!(first.renew(std::slice::from_ref(&held.receipt)).await.unwrap(), [Renewal::Held]);
        let check: Option<String> =
            redis::cmd("GET").arg("bull:demo:stalled-check").query(&mut rig.redis()).unwrap();
        checks.extend(check);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((3..=5).contains(&checks.len()), "{checks:?}");
}

#[tokio::test]
async fn a_lock_that_ran_out_is_ours_until_somebody_starts_the_job() {
    let rig = NodeRig::bullmq();
    let driver = rig.worker(1);
    driver.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    let job = take_one(&*driver, DEMO).await;
    let unlock = || redis::cmd("DEL").arg("bull:demo:1:lock").exec(&mut rig.redis()).unwrap();
    unlock();
    assert_eq!(driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap(), [Renewal::Held]);
    let holder: String = redis::cmd("GET").arg("bull:demo:1:lock").query(&mut rig.redis()).unwrap();
    assert!(holder.starts_with("qfleet-00001-"), "{holder}");
    // Somebody else started it meanwhile, and lost its lock as well.
    unlock();
    redis::cmd("HINCRBY").arg("bull:demo:1").arg("ats").arg(1).exec(&mut rig.redis()).unwrap();
    assert_eq!(driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap(), [Renewal::Lost]);
    assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Lost);
}

#[tokio::test]
async fn a_stolen_lock_and_a_removed_job_are_lost() {
    let rig = NodeRig::bullmq();
    let driver = rig.worker(1);
    for _ in 0..2 {
        driver.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    }
    let jobs = take(&*driver, DEMO, 2).await.jobs;
    redis::cmd("SET").arg("bull:demo:1:lock").arg("thief").exec(&mut rig.redis()).unwrap();
    let node = rig.node("bullmq");
    let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
    assert_eq!(driver.renew(&receipts).await.unwrap(), [Renewal::Lost, Renewal::Held]);
    assert_eq!(settle(&*driver, &jobs[0], complete("1")).await, Settled::Lost);
    node.run("await kit.queue('demo').pause(); await kit.queue('demo').obliterate({force: true})");
    assert_eq!(settle(&*driver, &jobs[1], complete("1")).await, Settled::Lost);
    assert!(rig.redis_keys("bull:demo:2*").is_empty(), "{:?}", rig.redis_keys("*"));
}

/// Somebody took the job out of `active` by hand: it must not be in two places.
#[tokio::test]
async fn a_job_moved_by_hand_is_not_moved_again() {
    let rig = NodeRig::bullmq();
    let driver = rig.worker(1);
    driver.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    let job = take_one(&*driver, DEMO).await;
    redis::cmd("LMOVE")
        .arg(&["bull:demo:active", "bull:demo:wait", "LEFT", "RIGHT"])
        .exec(&mut rig.redis())
        .unwrap();
    assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Lost);
    assert!(rig.redis_keys("bull:demo:completed").is_empty());
    assert_eq!(names(&take(&*driver, DEMO, 5).await.jobs), ["a"]);
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
