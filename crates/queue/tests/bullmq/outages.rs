//! Lost requests and lost replies: no job is lost, none runs twice, every verdict counts once.

use std::time::Duration;

use qfleet_queue::NodeSettings;
use qfleet_queue::driver::{Ask, DeadWorker, QueueDriver, Settled, Settlement};
use qfleet_queue::error::QueueError;
use qfleet_testkit::Scratch;

use crate::contract::{job_of, names, take};
use crate::proxy::{Cut, Proxy};
use crate::rig::{DEMO, NodeRig, bury, complete, connection, open, retry};

async fn fill(driver: &dyn QueueDriver, jobs: &[&str]) {
    for name in jobs {
        let payload = format!(r#"{{"name":"{name}","data":1,"opts":{{"attempts":3}}}}"#);
        driver.push(DEMO, "demo", payload.as_bytes(), None).await.unwrap();
    }
}

#[tokio::test]
async fn cut_calls_lose_and_double_nothing() {
    for cut in [Cut::Request, Cut::Reply] {
        let (rig, scratch) = (NodeRig::bullmq(), Scratch::new());
        let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
        let driver =
            open(connection(proxy.socket.clone()), &[("demo", &["demo"])], 5, &NodeSettings::default());
        fill(&*driver, &["done", "again", "later", "bad", "back", "next"]).await;
        let jobs = take(&*driver, DEMO, 5).await.jobs;
        let verdicts = [
            complete("1"),
            retry(Duration::ZERO, "once"),
            retry(Duration::from_secs(60), "once"),
            bury("bad"),
            qfleet_model::outcome::Verdict::GiveBack,
        ];
        let settle: Vec<Settlement> = jobs
            .iter()
            .zip(verdicts)
            .map(|(job, verdict)| Settlement { receipt: job.receipt.clone(), verdict })
            .collect();
        proxy.cut(cut);
        let asks = [Ask { lane: DEMO, at_most: 2 }];
        let error = driver.turn(&settle, &asks, driver.mark()).await.unwrap_err();
        assert!(matches!(error, QueueError::Unreachable(_)), "{error:?}");
        assert_eq!(driver.unanswered().len(), 1);
        let turn = driver.turn(&settle, &asks, driver.mark()).await.unwrap();
        assert_eq!(turn.settled, [Settled::Done; 5], "{cut:?}");
        let mut taken: Vec<String> = turn.jobs.iter().map(|job| job_of(job).name.clone()).collect();
        taken.sort();
        assert_eq!(taken, ["back", "next"], "{cut:?}");
        let rest = take(&*driver, DEMO, 9).await;
        assert_eq!(names(&rest.jobs), ["again"], "{cut:?}");
        assert_eq!(job_of(&rest.jobs[0]).attempt, 2);
        let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
        assert_eq!((depth.waiting, depth.delayed, depth.reserved, depth.failed), (0, 1, 3, 1), "{cut:?}");
        for job in turn.jobs.iter().chain(&rest.jobs) {
            assert_eq!(crate::contract::settle(&*driver, job, complete("1")).await, Settled::Done);
        }
    }
}

/// The worker dies before it sees what its last call took.
#[tokio::test]
async fn jobs_of_a_lost_reply_go_back_when_the_worker_dies() {
    let (rig, scratch) = (NodeRig::bullmq(), Scratch::new());
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let dead = open(connection(proxy.socket.clone()), &[("demo", &["demo"])], 5, &NodeSettings::default());
    fill(&*dead, &["a", "b"]).await;
    take(&*dead, DEMO, 0).await;
    proxy.cut(Cut::Reply);
    let mark = dead.mark();
    dead.turn(&[], &[Ask { lane: DEMO, at_most: 2 }], mark).await.unwrap_err();
    drop(dead);
    let living = rig.worker(6);
    assert!(take(&*living, DEMO, 2).await.jobs.is_empty());
    let dead = DeadWorker { tag: 5, marks: vec![mark], held: Vec::new() };
    assert_eq!(living.recover(&dead).await.unwrap().returned, 2);
    assert_eq!(take(&*living, DEMO, 2).await.jobs.len(), 2);
}

/// A schedule whose next iteration could not be made goes on when the job is found again.
#[tokio::test]
async fn a_schedule_survives_a_cut_between_two_calls() {
    let (rig, scratch) = (NodeRig::bullmq(), Scratch::new());
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').upsertJobScheduler('s', {every: 3600000}, {name: 'tick'}); const [job] = await kit.queue('demo').getDelayed(); if (job) await job.promote()");
    let driver = open(connection(proxy.socket.clone()), &[("demo", &["demo"])], 5, &NodeSettings::default());
    proxy.cut(Cut::Reply);
    driver.turn(&[], &[Ask { lane: DEMO, at_most: 1 }], driver.mark()).await.unwrap_err();
    let turn = take(&*driver, DEMO, 1).await;
    assert_eq!(names(&turn.jobs), ["tick"]);
    assert_eq!(driver.depth(&[DEMO]).await.unwrap()[0].delayed, 1);
}

#[tokio::test]
async fn a_server_that_restarts_loses_nothing() {
    let server = qfleet_testkit::RedisServer::builder().append_only().start();
    let rig = NodeRig { server, family: qfleet_model::job::Format::Bullmq };
    let driver = rig.worker(1);
    fill(&*driver, &["a", "b", "c"]).await;
    let jobs = take(&*driver, DEMO, 2).await.jobs;
    rig.server.kill9();
    let settle: Vec<Settlement> =
        jobs.iter().map(|job| Settlement { receipt: job.receipt.clone(), verdict: complete("1") }).collect();
    let asks = [Ask { lane: DEMO, at_most: 2 }];
    driver.turn(&settle, &asks, driver.mark()).await.unwrap_err();
    rig.server.restart();
    let turn = driver.turn(&settle, &asks, driver.mark()).await.unwrap();
    assert_eq!(turn.settled, [Settled::Done; 2]);
    assert_eq!(names(&turn.jobs), ["c"]);
}

/// Calls are cut all the time, workers of ours are dropped in between, and a worker of the library takes part.
#[tokio::test]
async fn three_hundred_jobs_pass_a_line_that_breaks_all_the_time() {
    let (rig, scratch) = (NodeRig::bullmq(), Scratch::new());
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let node = rig.node("bullmq");
    node.run(
        "await kit.queue('demo').addBulk(Array.from({length: 300}, (_, n) => ({name: 'n' + n, opts: {attempts: 2, backoff: n % 3 === 0 ? 10 : 0}})));
         await kit.worker('demo', async () => { await kit.sleep(5) })",
    );
    let settings = NodeSettings { lock_duration: Duration::from_secs(20), ..NodeSettings::default() };
    let driver = open(connection(proxy.socket.clone()), &[("demo", &["demo"])], 9, &settings);
    let mut settle: Vec<Settlement> = Vec::new();
    let started = std::time::Instant::now();
    for call in 0.. {
        match call % 7 {
            2 => proxy.cut(Cut::Reply),
            5 => proxy.cut(Cut::Request),
            _ => {}
        }
        let turn = match driver.turn(&settle, &[Ask { lane: DEMO, at_most: 4 }], driver.mark()).await {
            Ok(turn) => turn,
            Err(QueueError::Unreachable(_)) => continue,
            Err(other) => panic!("{other}"),
        };
        assert!(turn.settled.iter().all(|settled| *settled == Settled::Done), "{:?}", turn.settled);
        settle = turn
            .jobs
            .into_iter()
            .map(|reserved| {
                let job = job_of(&reserved);
                let pause =
                    job.limits.backoff.as_ref().map(|rule| rule.after(job.attempt)).unwrap_or_default();
                let verdict = if job.attempt == 1 { retry(pause, "once") } else { complete("2") };
                Settlement { receipt: reserved.receipt, verdict }
            })
            .collect();
        proxy.cut(Cut::No);
        let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
        if settle.is_empty() && depth.waiting + depth.delayed + depth.reserved == 0 {
            break;
        }
        assert!(started.elapsed() < crate::rig::SOON * 4, "{depth:?}");
    }
    let ended: Vec<String> = rig
        .events()
        .into_iter()
        .filter(|event| event["event"] == "completed")
        .map(|event| event["jobId"].clone())
        .collect();
    let once: std::collections::BTreeSet<&String> = ended.iter().collect();
    assert_eq!((ended.len(), once.len()), (300, 300));
    for id in 1..=300 {
        let hash = rig.hash(&id.to_string());
        // Every start ended in one verdict: nothing ran that nobody knew of.
        assert_eq!(hash["ats"], hash["atm"], "job {id}: {hash:?}");
    }
}
