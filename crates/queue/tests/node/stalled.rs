//! Dead workers: theirs, found by the check for stalled jobs, and ours, whose jobs come back at once.

use std::time::{Duration, Instant};

use qfleet_queue::driver::{
    Ask, DeadHold, DeadState, DeadVerdict, DeadWorker, QueueDriver, Recovered, Renewal, Reserved, Settled,
    Waited,
};
use qfleet_testkit::Scratch;
use serde_json::json;

use crate::contract::{job_of, names, settle, take, take_one, take_soon};
use crate::node::outages::through;
use crate::proxy::{Cut, Proxy};
use crate::rig::{DEMO, NodeRig, SOON, complete, hasty, soon};

pub(crate) const STALLED: &str = "job stalled more than allowable limit";

pub(crate) fn hold(job: &Reserved, state: DeadState) -> DeadHold {
    DeadHold { lane: job.lane, queue: job.receipt.queue(), digest: job.receipt.digest(), state }
}

pub(crate) fn started() -> DeadState {
    DeadState::Started { alone: false, not_before: None }
}

pub(crate) async fn recover(driver: &dyn QueueDriver, tag: u32, held: Vec<DeadHold>) -> Recovered {
    let dead = DeadWorker { tag, marks: Vec::new(), held };
    let recovered = driver.recover(&dead).await.unwrap();
    let again = driver.recover(&dead).await.unwrap();
    assert_eq!(again, Recovered { returned: 0, buried: 0, gone: dead.held.len() as u32 });
    recovered
}

#[tokio::test]
async fn a_dead_node_workers_job_comes_to_us() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {})");
        let dying = rig.node(library);
        dying.run("await kit.worker('demo', () => { kit.memory.got = true; return new Promise(() => {}) }, {lockDuration: 500})");
        soon(&dying, "the library's worker", "return kit.memory.got || null");
        dying.kill9();
        redis::cmd("DEL").arg("bull:demo:stalled-check").exec(&mut rig.redis()).unwrap();
        let driver = rig.worker_with(1, &hasty());
        let job = take_soon(&*driver, DEMO, SOON).await;
        assert_eq!((job_of(&job).attempt, job_of(&job).history.crashes), (1, 1));
        assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Done);
    }
}

#[tokio::test]
async fn our_dead_workers_job_comes_to_node() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {})");
        let dead = rig.worker_with(1, &hasty());
        take_one(&*dead, DEMO).await;
        drop(dead);
        redis::cmd("DEL").arg("bull:demo:stalled-check").exec(&mut rig.redis()).unwrap();
        node.run(
            "kit.memory.ended = 0;
             const worker = await kit.worker('demo', async () => 1, {stalledInterval: 300});
             worker.on('completed', () => kit.memory.ended++)",
        );
        soon(&node, "the library's worker", "return kit.memory.ended === 1");
    }
}

/// A worker that is woken again and again for nothing stops listening for a while.
#[tokio::test]
async fn looking_for_stalled_jobs_is_no_wake_up() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let node = rig.node(library);
        let driver = rig.worker_with(1, &hasty());
        // Bull's messages wake once as soon as they are listened to.
        for _ in 0..2 {
            take(&*driver, DEMO, 1).await;
            let _heard = driver.wait(&[DEMO], Duration::from_millis(300)).await.unwrap();
        }
        for _ in 0..3 {
            take(&*driver, DEMO, 1).await;
            // Several times as long as from one look to the next.
            let quiet = hasty().stalled_interval * 4;
            assert_eq!(driver.wait(&[DEMO], quiet).await.unwrap(), Waited::TimedOut, "{library}");
        }
        let patient = rig.worker(2);
        take(&*patient, DEMO, 1).await;
        let _heard = patient.wait(&[DEMO], Duration::from_millis(300)).await.unwrap();
        take(&*patient, DEMO, 1).await;
        node.run("await kit.queue('demo').add('a', {})");
        assert_eq!(patient.wait(&[DEMO], SOON).await.unwrap(), Waited::Woken, "{library}");
    }
}

/// After an outage that was longer than the locks everybody comes back at another moment.
#[tokio::test]
async fn who_comes_back_first_leaves_the_others_their_jobs() {
    for library in crate::LIBRARIES {
        let (rig, scratch) = (NodeRig::of(library), Scratch::new());
        let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
        let node = rig.node(library);
        let (late, early) = (rig.worker_with(1, &hasty()), through(&proxy, &rig, &hasty()));
        node.run("await kit.queue('demo').add('a', {})");
        let job = take_one(&*late, DEMO).await;
        // Seen once, it is stalled when it is seen again without a lock.
        redis::cmd("DEL").arg("bull:demo:stalled-check").exec(&mut rig.redis()).unwrap();
        take(&*early, DEMO, 1).await;
        let lock = || redis::cmd("EXISTS").arg("bull:demo:1:lock").query::<u32>(&mut rig.redis()).unwrap();
        while lock() == 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        proxy.cut(Cut::Request);
        early.turn(&[], &[Ask { lane: DEMO, at_most: 1 }], early.mark()).await.unwrap_err();
        // Longer than it takes until it looks again.
        let ends = Instant::now() + hasty().stalled_interval + Duration::from_millis(250);
        while Instant::now() < ends {
            assert!(take(&*early, DEMO, 1).await.jobs.is_empty(), "{library}");
            assert!(early.renew(&[]).await.unwrap().is_empty());
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        let receipt = job.receipt.clone();
        assert_eq!(late.renew(&[receipt]).await.unwrap(), [Renewal::Held], "{library}");
        assert_eq!(settle(&*late, &job, complete("1")).await, Settled::Done);
    }
}

#[tokio::test]
async fn a_stolen_lock_and_a_removed_job_are_lost() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let driver = rig.worker(1);
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {}); await kit.queue('demo').add('b', {})");
        let jobs = take(&*driver, DEMO, 2).await.jobs;
        redis::cmd("SET").arg("bull:demo:1:lock").arg("thief").exec(&mut rig.redis()).unwrap();
        let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
        assert_eq!(driver.renew(&receipts).await.unwrap(), [Renewal::Lost, Renewal::Held]);
        assert_eq!(settle(&*driver, &jobs[0], complete("1")).await, Settled::Lost);
        node.run("await kit.queue('demo').pause(); await kit.queue('demo').obliterate({force: true})");
        assert_eq!(settle(&*driver, &jobs[1], complete("1")).await, Settled::Lost);
        assert!(rig.redis_keys("bull:demo:2*").is_empty(), "{:?}", rig.redis_keys("*"));
    }
}

/// Somebody took the job out of `active` by hand: it must not be in two places.
#[tokio::test]
async fn a_job_moved_by_hand_is_not_moved_again() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let driver = rig.worker(1);
        rig.node(library).run("await kit.queue('demo').add('a', {})");
        let job = take_one(&*driver, DEMO).await;
        let lists = &["bull:demo:active", "bull:demo:wait", "LEFT", "RIGHT"];
        redis::cmd("LMOVE").arg(lists).exec(&mut rig.redis()).unwrap();
        assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Lost);
        assert!(rig.redis_keys("bull:demo:completed").is_empty());
        assert_eq!(names(&take(&*driver, DEMO, 5).await.jobs), ["a"]);
    }
}

/// What the library counts of a job that is completed at its first start is `completed`.
pub(crate) async fn what_was_settling_is_settled(library: &str, completed: u32) {
    let rig = NodeRig::of(library);
    let node = rig.node(library);
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
    assert_eq!(made, json!([["completed", completed], ["delayed", 1], ["delayed", 0], ["waiting", 0]]));
}

/// Any of these fields says that somebody else started it.
pub(crate) async fn a_lock_that_ran_out_is_ours_until_somebody_starts_the_job(
    library: &str,
    fields: &[(&str, &str)],
) {
    for (field, value) in fields {
        let rig = NodeRig::of(library);
        let driver = rig.worker(1);
        rig.node(library).run("await kit.queue('demo').add('a', {})");
        let job = take_one(&*driver, DEMO).await;
        let unlock = || redis::cmd("DEL").arg("bull:demo:1:lock").exec(&mut rig.redis()).unwrap();
        unlock();
        assert_eq!(driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap(), [Renewal::Held]);
        let holder: String = redis::cmd("GET").arg("bull:demo:1:lock").query(&mut rig.redis()).unwrap();
        assert!(holder.starts_with("qfleet-00001-"), "{holder}");
        // Somebody else started it meanwhile, or is about to, and has no lock either.
        unlock();
        redis::cmd("HSET").arg("bull:demo:1").arg(field).arg(value).exec(&mut rig.redis()).unwrap();
        assert_eq!(driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap(), [Renewal::Lost]);
        assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Lost);
    }
}
