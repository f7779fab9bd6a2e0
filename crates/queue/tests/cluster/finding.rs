//! Queues under another prefix are found on whatever node they lie.

use qfleet_manifest::queue::Connection;
use qfleet_model::job::Format;
use qfleet_queue::{PrefixSearch, find_prefix};
use qfleet_testkit::RedisCluster;

use crate::rig::{DEMO, connection, payload, worker};

#[tokio::test]
async fn a_wrong_prefix_is_noticed_on_every_node() {
    let cluster = RedisCluster::start(3, 0);
    let of =
        |prefix: &str| Connection { cluster_keys: true, ..connection(&cluster, Format::Laravel, prefix) };
    for queue in ["a", "b", "c", "d"] {
        let driver = worker(&of("crm_"), queue, 0);
        driver.push(DEMO, queue, &payload(Format::Laravel, "n"), None).await.unwrap();
        assert_eq!(find_prefix(&of("crm_"), queue).await.unwrap(), PrefixSearch::AsWritten);
        let PrefixSearch::Elsewhere(found) = find_prefix(&of("other_"), queue).await.unwrap() else {
            panic!("`{queue}` is not there")
        };
        assert_eq!((found.len(), found[0].prefix.as_str(), found[0].jobs), (1, "crm_", 1));
    }
}
