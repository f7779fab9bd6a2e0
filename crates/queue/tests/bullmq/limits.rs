//! Rate limits and global concurrency.

use std::time::{Duration, Instant};

use qfleet_queue::driver::QueueDriver;
use qfleet_queue::{NodeSettings, RateLimit};
use serde_json::json;

use crate::contract::{settle, take, take_soon};
use crate::rig::{BullmqRig, DEMO, SOON, complete};

async fn fill(driver: &dyn QueueDriver, jobs: usize) {
    for _ in 0..jobs {
        driver.push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    }
}

fn limit(max: u32, per: u64) -> NodeSettings {
    let rate_limit = Some(RateLimit { max, per: Duration::from_millis(per) });
    NodeSettings { rate_limit, ..NodeSettings::default() }
}

#[tokio::test]
async fn a_window_lets_so_many_start() {
    let rig = BullmqRig::new();
    let driver = rig.worker_with(1, &limit(3, 400));
    fill(&*driver, 7).await;
    let mut started = Vec::new();
    let (begun, mut first_due) = (Instant::now(), None);
    while started.len() < 7 {
        let turn = take(&*driver, DEMO, 10).await;
        assert!(turn.jobs.len() <= 3);
        if turn.next_due.is_some() && first_due.is_none() {
            first_due = turn.next_due;
        }
        for job in &turn.jobs {
            started.push(begun.elapsed());
            settle(&*driver, job, complete("1")).await;
        }
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started[3] - started[0] >= Duration::from_millis(390), "{started:?}");
    assert!(started[6] - started[3] >= Duration::from_millis(390), "{started:?}");
    assert!(first_due.is_some(), "a limited queue says when it goes on");
}

#[tokio::test]
async fn the_queues_own_limit_wins_and_is_shared_with_node() {
    let rig = BullmqRig::new();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').setGlobalRateLimit(2, 60000)");
    let driver = rig.worker_with(1, &limit(5, 60_000));
    fill(&*driver, 4).await;
    assert_eq!(take(&*driver, DEMO, 1).await.jobs.len(), 1);
    node.run("kit.memory.ran = 0; await kit.worker('demo', async () => { kit.memory.ran++ }); await kit.sleep(300)");
    assert_eq!(node.run("return kit.memory.ran"), json!(1));
    let turn = take(&*driver, DEMO, 1).await;
    assert!(turn.jobs.is_empty() && turn.more.is_empty() && turn.next_due.is_some());
}

#[tokio::test]
async fn a_limit_of_the_moment_is_obeyed() {
    let rig = BullmqRig::new();
    let node = rig.node("bullmq");
    let driver = rig.worker_with(1, &limit(100, 60_000));
    fill(&*driver, 1).await;
    node.run("await kit.queue('demo').rateLimit(300)");
    let begun = Instant::now();
    take_soon(&*driver, DEMO, SOON).await;
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn no_more_run_than_the_queue_allows() {
    let rig = BullmqRig::new();
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
        (NodeSettings::default(), "", vec![]),
        (limit(100, 60_000), "", vec![DEMO]),
        (NodeSettings::default(), "await kit.queue('demo').setGlobalRateLimit(100, 60000)", vec![DEMO]),
        (NodeSettings::default(), "await kit.queue('demo').setGlobalConcurrency(100)", vec![DEMO]),
    ] {
        let rig = BullmqRig::new();
        rig.node("bullmq").run(in_the_store);
        let driver = rig.worker_with(1, &settings);
        fill(&*driver, 1).await;
        assert_eq!(take(&*driver, DEMO, 10).await.limited, limited, "{settings:?} {in_the_store}");
        assert_eq!(take(&*driver, DEMO, 10).await.limited, limited, "an empty queue: {in_the_store}");
    }
}
