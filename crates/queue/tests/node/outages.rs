//! Lost requests and lost replies: no job is lost, none runs twice, every verdict counts once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::Connection;
use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::{Ask, DeadWorker, QueueDriver, Renewal, Settled, Settlement};
use qfleet_queue::error::QueueError;
use qfleet_testkit::{Node, Scratch};
use serde_json::{Value, json};

use crate::contract::{job_of, names, take};
use crate::proxy::{Cut, Proxy};
use crate::rig::{DEMO, NodeRig, SOON, bury, complete, connection, open, retry, soon};

fn fill(rig: &NodeRig, jobs: &[&str]) -> Node {
    let node = rig.node(if rig.family == qfleet_model::job::Format::Bull { "bull" } else { "bullmq" });
    node.run(&format!(
        "for (const name of {}) await kit.queue('demo').add(name, {{}}, {{attempts: 3}})",
        json!(jobs)
    ));
    node
}

/// A worker whose line to Redis can be cut.
pub(crate) fn through(proxy: &Proxy, rig: &NodeRig, settings: &NodeRules) -> Arc<dyn QueueDriver> {
    let connection = Connection { driver: rig.family, ..connection(proxy.socket.clone()) };
    open(connection, &[("demo", &["demo"])], 5, settings)
}

fn counts(node: &Node, states: &str) -> Value {
    node.run(&format!(
        "const counts = await kit.queue('demo').getJobCounts(); return {states}.map((state) => counts[state])"
    ))
}

pub(crate) async fn cut_calls_lose_and_double_nothing(rig: fn() -> NodeRig) {
    for cut in [Cut::Request, Cut::Reply] {
        let (rig, scratch) = (rig(), Scratch::new());
        let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
        let node = fill(&rig, &["done", "again", "later", "bad", "back", "next"]);
        let driver = through(&proxy, &rig, &NodeRules::default());
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
        let counts = counts(&node, "['waiting', 'delayed', 'active', 'failed']");
        assert_eq!(counts, json!([0, 1, 3, 1]), "{cut:?}");
        for job in turn.jobs.iter().chain(&rest.jobs) {
            assert_eq!(crate::contract::settle(&*driver, job, complete("1")).await, Settled::Done);
        }
    }
}

/// The worker dies before it sees what its last call took.
pub(crate) async fn jobs_of_a_lost_reply_go_back_when_the_worker_dies(rig: NodeRig) {
    let scratch = Scratch::new();
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let dead = through(&proxy, &rig, &NodeRules::default());
    fill(&rig, &["a", "b"]);
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

/// `rig` keeps what it acknowledged.
pub(crate) async fn a_server_that_restarts_loses_nothing(rig: NodeRig) {
    let driver = rig.worker(1);
    drop(fill(&rig, &["a", "b", "c"]));
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

/// A server that takes no writes for a while has given no job to anybody else.
pub(crate) async fn jobs_stay_ours_while_the_server_takes_no_writes(rig: NodeRig) {
    let node = fill(&rig, &["a"]);
    let driver = rig.worker(1);
    let job = crate::contract::take_one(&*driver, DEMO).await;
    let receipts = std::slice::from_ref(&job.receipt);
    let set = |name: &str, value: &str| {
        redis::cmd("CONFIG").arg(&["SET", name, value]).exec(&mut rig.redis()).unwrap();
    };
    set("min-replicas-to-write", "1");
    let renewed = driver.renew(receipts).await;
    assert!(matches!(renewed, Err(QueueError::Unreachable(_))), "an outage, and yet {renewed:?}");
    set("min-replicas-to-write", "0");

    set("maxmemory", "1");
    assert_eq!(
        driver.renew(receipts).await.unwrap(),
        [Renewal::Held],
        "a lock takes no memory that was not there"
    );
    set("maxmemory", "0");
    assert_eq!(crate::contract::settle(&*driver, &job, complete("1")).await, Settled::Done);
    assert_eq!(counts(&node, "['active', 'completed']"), json!([0, 1]));
}

/// Calls are cut all the time, and a worker of the library takes part.
pub(crate) async fn three_hundred_jobs_pass_a_line_that_breaks_all_the_time(rig: &NodeRig, library: &str) {
    let scratch = Scratch::new();
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let node = rig.node(library);
    node.run(
        "await kit.listen('demo');
         await kit.queue('demo').addBulk(Array.from({length: 300}, (_, n) => ({name: 'n' + n, opts: {attempts: 2, backoff: n % 3 === 0 ? 10 : 0}})));
         await kit.worker('demo', async () => { await kit.sleep(5) })",
    );
    let settings = NodeRules { lock_duration: Duration::from_secs(20), ..NodeRules::default() };
    let driver = through(&proxy, rig, &settings);
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
        if settle.is_empty()
            && counts(&node, "['waiting', 'delayed', 'active', 'prioritized']")
                .as_array()
                .unwrap()
                .iter()
                .all(|count| count.as_u64().unwrap_or_default() == 0)
        {
            break;
        }
        assert!(started.elapsed() < SOON * 4, "jobs are left");
    }
    let ended = soon(
        &node,
        "the events",
        "const ended = kit.seen('demo').filter(([name]) => name === 'completed').map(([, {jobId}]) => jobId);
         return ended.length >= 300 && ended",
    );
    let once: BTreeSet<&str> = ended.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((ended.as_array().unwrap().len(), once.len()), (300, 300));
}
