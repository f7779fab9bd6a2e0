//! Fleets in which the library's workers and ours share a queue.

use std::time::Duration;

use qfleet_queue::driver::Ask;

use crate::rig::{DEMO, NodeRig, SOON, complete};

#[tokio::test]
async fn a_thousand_jobs_are_completed_once_each() {
    for library in ["bullmq", "bullmq6"] {
        crate::node::fleet::a_thousand_jobs_are_completed_once_each(&NodeRig::bullmq(), library).await;
    }
}

/// A burst that left one marker wakes more than one sleeper.
#[tokio::test]
async fn our_takes_wake_the_librarys_workers() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let driver = rig.worker(1);
    node.run("kit.memory.at = 0; await kit.worker('demo', async () => { kit.memory.at = Date.now() }, {drainDelay: 100}); await kit.sleep(200)");
    let sleeping = tokio::spawn({
        let driver = driver.clone();
        async move {
            driver.wait(&[DEMO], SOON).await.unwrap();
            driver.turn(&[], &[Ask { lane: DEMO, at_most: 1 }], driver.mark()).await.unwrap()
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    tokio::task::yield_now().await;
    let pushed = node.run(
        "const at = Date.now(); await kit.queue('demo').addBulk([{name: 'a'}, {name: 'b'}, {name: 'c'}]); return at",
    );
    let turn = sleeping.await.unwrap();
    for job in turn.jobs {
        crate::contract::settle(&*driver, &job, complete("1")).await;
    }
    let at = crate::rig::soon(&node, "the library's worker", "return kit.memory.at || null");
    let took = at.as_u64().unwrap() - pushed.as_u64().unwrap();
    assert!(took < 60_000, "woken after {took} ms");
}
