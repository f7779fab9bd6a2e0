//! Rate limits, ours and theirs on the same counter.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::contract::{names, settle, take};
use crate::rig::{DEMO, NodeRig, SOON, complete, limited, soon};

#[tokio::test]
async fn a_window_lets_so_many_start_and_keeps_their_order() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "for (let n = 1; n <= 7; n++) await kit.queue('demo').add('n' + n, {}, {priority: n === 7 ? 1 : 0})",
    );
    let driver = rig.worker_with(1, limited(3, 400));
    let (mut started, mut order) = (Vec::new(), Vec::new());
    let (begun, mut first_due) = (Instant::now(), None);
    while started.len() < 7 {
        let asked = begun.elapsed();
        let turn = take(&*driver, DEMO, 10).await;
        assert!(turn.jobs.len() <= 3 && turn.limited == [DEMO]);
        first_due = first_due.or(turn.next_due);
        for job in &turn.jobs {
            started.push((asked, begun.elapsed()));
            order.push(names(std::slice::from_ref(job))[0].to_owned());
            settle(&*driver, job, complete("1")).await;
        }
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(order, ["n7", "n1", "n2", "n3", "n4", "n5", "n6"]);
    // A window begins after it was asked for, and the next one before the answer came.
    assert!(started[3].1 - started[0].0 >= Duration::from_millis(390), "{started:?}");
    assert!(started[6].1 - started[3].0 >= Duration::from_millis(390), "{started:?}");
    assert!(first_due.is_some(), "a limited queue says when it goes on");
}

#[tokio::test]
async fn the_window_is_shared_with_node() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("for (let n = 1; n <= 4; n++) await kit.queue('demo').add('a', {})");
    let driver = rig.worker_with(1, limited(2, 60_000));
    assert_eq!(take(&*driver, DEMO, 1).await.jobs.len(), 1);
    node.run(
        "kit.memory.ran = 0;
         await kit.worker('demo', async () => { kit.memory.ran++ }, {limiter: {max: 2, duration: 60000}})",
    );
    // It puts the first one that is too many off.
    soon(&node, "the limit", "return (await kit.queue('demo').getJobCounts()).delayed > 0");
    assert_eq!(node.run("return kit.memory.ran"), json!(1));
    let turn = take(&*driver, DEMO, 1).await;
    assert!(turn.jobs.is_empty() && turn.more.is_empty() && turn.next_due.is_some());
}

/// What a peer put off because of the limit is not noted as put off any more when we start it.
#[tokio::test]
async fn a_job_the_library_put_off_is_started_by_us() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "for (let n = 1; n <= 2; n++) await kit.queue('demo').add('a', {});
         const worker = await kit.worker('demo', async () => 1, {limiter: {max: 1, duration: 300}});
         await kit.until(async () => (await kit.queue('demo').getJobCounts()).delayed > 0); await worker.close(true)",
    );
    let driver = rig.worker_with(1, limited(1, 300));
    let job = crate::contract::take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &job, complete("1")).await;
    assert!(rig.redis_keys("bull:demo:limiter:*").is_empty(), "{:?}", rig.redis_keys("*"));
}
