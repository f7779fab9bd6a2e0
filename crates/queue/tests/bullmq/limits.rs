//! Rate limits and global concurrency.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_queue::driver::{Ask, LaneId, QueueDriver, Settlement};
use serde_json::json;

use crate::contract::{settle, take, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, Settings, complete, limited, soon};

async fn fill(driver: &dyn QueueDriver, jobs: usize) {
    for _ in 0..jobs {
        driver.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_window_lets_so_many_start() {
    let rig = NodeRig::bullmq();
    let driver = rig.worker_with(1, limited(3, 400));
    fill(&*driver, 7).await;
    let mut started = Vec::new();
    let (begun, mut first_due) = (Instant::now(), None);
    while started.len() < 7 {
        let asked = begun.elapsed();
        let turn = take(&*driver, DEMO, 10).await;
        assert!(turn.jobs.len() <= 3);
        if turn.next_due.is_some() && first_due.is_none() {
            first_due = turn.next_due;
        }
        for job in &turn.jobs {
            started.push((asked, begun.elapsed()));
            settle(&*driver, job, complete("1")).await;
        }
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A window begins after it was asked for, and the next one before the answer came.
    assert!(started[3].1 - started[0].0 >= Duration::from_millis(390), "{started:?}");
    assert!(started[6].1 - started[3].0 >= Duration::from_millis(390), "{started:?}");
    assert!(first_due.is_some(), "a limited queue says when it goes on");
}

#[tokio::test]
async fn the_queues_own_limit_wins_and_is_shared_with_node() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').setGlobalRateLimit(2, 60000)");
    let driver = rig.worker_with(1, limited(5, 60_000));
    fill(&*driver, 4).await;
    assert_eq!(take(&*driver, DEMO, 1).await.jobs.len(), 1);
    node.run("kit.memory.ran = 0; await kit.worker('demo', async () => { kit.memory.ran++ })");
    soon(&node, "the library's worker", "return kit.memory.ran === 1");
    node.run("await kit.sleep(300)");
    assert_eq!(node.run("return kit.memory.ran"), json!(1));
    let turn = take(&*driver, DEMO, 1).await;
    assert!(turn.jobs.is_empty() && turn.more.is_empty() && turn.next_due.is_some());
}

#[tokio::test]
async fn a_limit_of_the_moment_is_obeyed() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let driver = rig.worker_with(1, limited(100, 60_000));
    fill(&*driver, 1).await;
    let begun = Instant::now();
    node.run("await kit.queue('demo').rateLimit(300)");
    take_soon(&*driver, DEMO, SOON).await;
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn no_more_run_than_the_queue_allows() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').setGlobalConcurrency(2)");
    let (first, second) = (rig.worker(1), rig.worker(2));
    fill(&*first, 4).await;
    let jobs = take(&*first, DEMO, 10).await.jobs;
    assert_eq!(jobs.len(), 2);
    assert!(take(&*second, DEMO, 10).await.jobs.is_empty());
    settle(&*first, &jobs[0], complete("1")).await;
    assert_eq!(take(&*second, DEMO, 10).await.jobs.len(), 1);
}

#[tokio::test]
async fn a_turn_tells_of_limits_in_the_manifest_and_in_the_store() {
    for (settings, in_the_store, limited) in [
        (Settings::default(), "", vec![]),
        (limited(100, 60_000), "", vec![DEMO]),
        (Settings::default(), "await kit.queue('demo').setGlobalRateLimit(100, 60000)", vec![DEMO]),
        (Settings::default(), "await kit.queue('demo').setGlobalConcurrency(100)", vec![DEMO]),
    ] {
        let rig = NodeRig::bullmq();
        rig.node("bullmq").run(in_the_store);
        let driver = rig.worker_with(1, &settings);
        fill(&*driver, 1).await;
        assert_eq!(take(&*driver, DEMO, 10).await.limited, limited, "{settings:?} {in_the_store}");
        assert_eq!(take(&*driver, DEMO, 10).await.limited, limited, "an empty queue: {in_the_store}");
    }
}

const NEXT: LaneId = LaneId(1);

#[tokio::test]
async fn jobs_that_may_not_start_wake_nobody_until_they_may() {
    let rig = NodeRig::bullmq();
    let lanes: [(&str, &[&str]); 2] = [("demo", &["demo"]), ("next", &["next"])];
    let driver = crate::rig::open(rig.connection(), &lanes, 1, limited(1, 700));
    fill(&*driver, 3).await;
    let begun = Instant::now();
    let asks = [DEMO, NEXT].map(|lane| Ask { lane, at_most: 5 });
    assert_eq!(driver.turn(&[], &asks, driver.mark()).await.unwrap().jobs.len(), 1);
    let sleeping = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.wait(&[DEMO, NEXT], Duration::from_secs(20)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    // Another job there is no news, one in the other queue is.
    fill(&*driver, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(begun.elapsed() > Duration::from_millis(600) || !sleeping.is_finished());
    driver.push(NEXT, "next", br#"{"name":"n","data":1}"#, None).await.unwrap();
    sleeping.await.unwrap().unwrap();
    let turn = driver.turn(&[], &asks, driver.mark()).await.unwrap();
    assert_eq!(crate::contract::names(&turn.jobs).last(), Some(&"n"));
    let marker: u32 = redis::cmd("ZCARD").arg("bull:demo:marker").query(&mut rig.redis()).unwrap();
    assert_eq!(marker, 1, "a worker without the limit finds it");
    driver.wait(&[DEMO, NEXT], Duration::from_secs(20)).await.unwrap();
    let slept = begun.elapsed();
    assert!(slept >= Duration::from_millis(700) && slept < Duration::from_secs(15), "{slept:?}");
    assert_eq!(take(&*driver, DEMO, 5).await.jobs.len(), 1);
}

/// As with the library, who has no limit of its own neither obeys nor counts.
#[tokio::test]
async fn a_worker_without_a_limit_does_not_know_of_others() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let (limited, free) = (rig.worker_with(1, limited(2, 60_000)), rig.worker(2));
    fill(&*free, 6).await;
    node.run("await kit.queue('demo').rateLimit(60000)");
    assert!(take(&*limited, DEMO, 5).await.jobs.is_empty());
    assert_eq!(take(&*free, DEMO, 3).await.jobs.len(), 3);
    redis::cmd("DEL").arg("bull:demo:limiter").exec(&mut rig.redis()).unwrap();
    assert_eq!(take(&*limited, DEMO, 5).await.jobs.len(), 2);
    assert_eq!(take(&*free, DEMO, 5).await.jobs.len(), 1);
    let counted: u32 = redis::cmd("GET").arg("bull:demo:limiter").query(&mut rig.redis()).unwrap();
    assert_eq!(counted, 2);
}

/// Version 6 counts only what runs.
#[tokio::test]
async fn a_job_that_fails_without_running_counts_as_in_its_version() {
    for (library, left) in [("bullmq", 1), ("bullmq6", 2)] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        node.run("for (const name of ['a', 'b', 'c', 'd']) await kit.queue('demo').add(name)");
        redis::cmd("HSET").arg(&["bull:demo:1", "defa", "no"]).exec(&mut rig.redis()).unwrap();
        let driver = rig.worker_with(1, limited(2, 60_000));
        assert_eq!(take(&*driver, DEMO, 9).await.jobs.len(), left, "{library}");
    }
}

/// As with the library.
#[tokio::test]
async fn a_counter_without_an_end_holds_nobody() {
    let rig = NodeRig::bullmq();
    let driver = rig.worker_with(1, limited(2, 60_000));
    fill(&*driver, 3).await;
    redis::cmd("SET").arg("bull:demo:limiter").arg(7).exec(&mut rig.redis()).unwrap();
    assert_eq!(take(&*driver, DEMO, 9).await.jobs.len(), 3);
}

#[tokio::test]
async fn a_queue_that_becomes_empty_is_drained_once() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        let driver = rig.worker(1);
        let drained = || rig.event_names().iter().filter(|name| *name == "drained").count();
        for round in 1..=3 {
            node.run("for (const name of ['a', 'b', 'c']) await kit.queue('demo').add(name)");
            let jobs = take(&*driver, DEMO, 3).await.jobs;
            settle(&*driver, &jobs[0], complete("1")).await;
            assert_eq!(drained(), round - 1, "{library}: two are at work");
            let both = jobs[1..]
                .iter()
                .map(|job| Settlement { receipt: job.receipt.clone(), verdict: complete("1") });
            let ask = Ask { lane: DEMO, at_most: 5 };
            driver.turn(&both.collect::<Vec<_>>(), &[ask], driver.mark()).await.unwrap();
            assert_eq!(drained(), round, "{library}");
            // Looking at an empty queue is no news.
            for _ in 0..3 {
                take(&*driver, DEMO, 5).await;
            }
            assert_eq!(drained(), round, "{library}");
        }
    }
}
