//! Queues under another prefix are found on whatever node they lie.

use qfleet_manifest::queue::Connection;
use qfleet_model::job::Format;
use qfleet_queue::{Oddity, PrefixSearch, find_prefix, inspect_queue};
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

#[tokio::test]
async fn what_is_odd_about_a_queue_is_seen_on_every_node() {
    let cluster = RedisCluster::start(3, 0);
    for prefix in ["{a}", "{b}", "{c}", "{d}"] {
        let connection = connection(&cluster, Format::Bullmq, prefix);
        assert_eq!(inspect_queue(&connection, "mail", None).await.unwrap(), []);
        let meta = format!("{prefix}:mail:meta");
        let mut node = cluster.connection(&meta);
        redis::cmd("HSET").arg(&meta).arg("version").arg("bullmq:99.0.0").exec(&mut node).unwrap();
        let found: Vec<Oddity> = inspect_queue(&connection, "mail", None).await.unwrap();
        assert_eq!(found.len(), 1, "{prefix}: {found:?}");
    }
}
