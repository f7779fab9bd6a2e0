//! Being seen by `getWorkers()`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::{LaneId, QueueDriver};
use qfleet_testkit::Node;
use serde_json::json;

use crate::contract::take;
use crate::rig::{NodeRig, SOON, open};

fn pool(rig: &NodeRig, tag: u32, presence: bool) -> Arc<dyn QueueDriver> {
    let node = NodeRules { presence, ..NodeRules::default() };
    open(rig.connection(), &[("a", &["a"]), ("b", &["b"])], tag, &node)
}

/// Waits until the library sees so many workers of either queue; the drivers go on meanwhile.
async fn seen(node: &Node, a: u32, b: u32) {
    let started = Instant::now();
    loop {
        let counts = node.run(
            "return [(await kit.queue('a').getWorkers()).length, (await kit.queue('b').getWorkers()).length]",
        );
        if counts == json!([a, b]) {
            return;
        }
        assert!(started.elapsed() < SOON, "{counts} are seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Connections of others than the one who asks.
fn connections(rig: &NodeRig) -> usize {
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut rig.redis()).unwrap();
    list.lines().count() - 1
}

pub(crate) async fn a_pool_is_seen_on_each_queue(rig: &NodeRig, library: &str) {
    let node = rig.node(library);
    seen(&node, 0, 0).await;
    let before = connections(rig);
    let (seen_one, other, command) = (pool(rig, 1, true), pool(rig, 2, true), pool(rig, 0, true));
    for driver in [&seen_one, &other, &command] {
        take(&**driver, LaneId(0), 1).await;
    }
    seen(&node, 2, 2).await;
    // Of those two, one connection for commands and one for each queue; nobody has slept yet.
    assert_eq!(connections(rig) - before, 7);
    drop(other);
    seen(&node, 1, 1).await;

    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).exec(&mut rig.redis()).unwrap();
    seen(&node, 1, 1).await;
}

pub(crate) async fn a_worker_of_one_queue_is_seen_and_a_pool_is_not(rig: &NodeRig, library: &str) {
    let node = rig.node(library);
    seen(&node, 0, 0).await;
    let before = connections(rig);
    let hidden = pool(rig, 1, false);
    let alone = open(rig.connection(), &[("a", &["a"])], 2, &NodeRules::default());
    for driver in [&hidden, &alone] {
        take(&**driver, LaneId(0), 1).await;
        driver.wait(&[LaneId(0)], Duration::from_millis(1)).await.unwrap();
    }
    seen(&node, 1, 0).await;
    assert_eq!(connections(rig) - before, 4);
}
