//! Drivers of each family on one cluster, each test part under a prefix of its own.

use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::{Connection, NodeRules, RedisSettings, RedisTarget};
use qfleet_model::job::Format;
use qfleet_queue::driver::{LaneId, QueueDriver};
use qfleet_queue::error::QueueError;
use qfleet_queue::{LaneQueues, OpenSettings};
use qfleet_testkit::RedisCluster;

use crate::contract::Rig;

/// A limit for whatever is to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// The lane of drivers opened by [`worker`].
pub(crate) const DEMO: LaneId = LaneId(0);

/// One family under one prefix.
pub(crate) struct ClusterRig<'a> {
    pub(crate) cluster: &'a RedisCluster,
    pub(crate) family: Format,
    pub(crate) prefix: String,
}

impl Rig for ClusterRig<'_> {
    fn open(&self, tag: u32) -> Arc<dyn QueueDriver> {
        let lanes: &[(&str, &[&str])] = &[("both", &["high", "low"]), ("other", &["other"])];
        open(self.connection(), lanes, tag).unwrap()
    }

    fn payload(&self, name: &str) -> Vec<u8> {
        payload(self.family, name)
    }
}

impl ClusterRig<'_> {
    pub(crate) fn connection(&self) -> Connection {
        let connection = connection(self.cluster, self.family, &self.prefix);
        Connection { retry_after: Duration::from_secs(3), ..connection }
    }
}

/// A job that may be tried three times.
pub(crate) fn payload(family: Format, name: &str) -> Vec<u8> {
    match family {
        Format::Laravel => format!(r#"{{"uuid":"{name}-1","displayName":"{name}","job":"J@fire","maxTries":3,"data":{{}},"id":"{name}","attempts":0}}"#),
        Format::Bull | Format::Bullmq => format!(r#"{{"name":"{name}","data":{{}},"opts":{{"attempts":3}}}}"#),
    }
    .into_bytes()
}

pub(crate) fn settings(cluster: &RedisCluster) -> RedisSettings {
    let nodes = cluster.ports().into_iter().map(|port| (String::from("127.0.0.1"), port)).collect();
    RedisSettings {
        target: RedisTarget::Cluster { nodes, tls: false, key: None },
        database: 0,
        username: None,
        password: None,
        ca_file: None,
    }
}

pub(crate) fn connection(cluster: &RedisCluster, family: Format, prefix: &str) -> Connection {
    Connection {
        name: "crm".into(),
        driver: family,
        redis: settings(cluster),
        prefix: prefix.into(),
        retry_after: Duration::from_secs(90),
        laravel_name: "redis".into(),
        cluster_keys: false,
    }
}

pub(crate) fn open(
    connection: Connection,
    lanes: &[(&str, &[&str])],
    tag: u32,
) -> Result<Arc<dyn QueueDriver>, QueueError> {
    let lane = |(name, queues): &(&str, &[&str])| LaneQueues {
        name: (*name).into(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        delay_as_backoff: false,
        rate_limit: None,
        node: NodeRules { lock_duration: SOON * 2, ..NodeRules::default() },
    };
    let lanes = lanes.iter().map(lane).collect();
    qfleet_queue::open(&OpenSettings { connection, lanes, tag })
}

/// A worker of one queue, with a long lease.
pub(crate) fn worker(connection: &Connection, queue: &str, tag: u32) -> Arc<dyn QueueDriver> {
    open(connection.clone(), &[("demo", &[queue])], tag).unwrap()
}
