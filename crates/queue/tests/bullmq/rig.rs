//! A Redis of its own for each test, drivers on it, and Node beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::{Connection, RedisSettings, RedisTarget};
use qfleet_model::job::Format;
use qfleet_model::outcome::{Note, Output, Reason, Verdict};
use qfleet_queue::driver::{LaneId, QueueDriver};
use qfleet_queue::{LaneQueues, NodeSettings, OpenSettings};
use qfleet_testkit::{Node, RedisServer};
use redis::Commands as _;
use serde_json::{Value, json};

use crate::contract::Rig;

/// The lane of a driver opened by [`BullmqRig::worker`].
pub(crate) const DEMO: LaneId = LaneId(0);
/// A limit for whatever is to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct BullmqRig {
    pub(crate) server: RedisServer,
}

impl BullmqRig {
    pub(crate) fn new() -> Self {
        Self { server: RedisServer::start() }
    }

    /// A Node process with `bullmq` (5) or `bullmq6`.
    pub(crate) fn node(&self, library: &str) -> Node {
        Node::start(library, &self.server)
    }

    pub(crate) fn connection(&self) -> Connection {
        connection(self.server.socket())
    }

    /// A worker of the queue `demo`, as one is that was told nothing.
    pub(crate) fn worker(&self, tag: u32) -> Arc<dyn QueueDriver> {
        self.worker_with(tag, NodeSettings::default())
    }

    pub(crate) fn worker_with(&self, tag: u32, node: NodeSettings) -> Arc<dyn QueueDriver> {
        open(self.connection(), &[("demo", &["demo"])], tag, node)
    }

    /// A connection of the test's own.
    pub(crate) fn redis(&self) -> redis::Connection {
        self.server.connection()
    }

    /// The hash of a job of `demo`.
    pub(crate) fn hash(&self, id: &str) -> BTreeMap<String, String> {
        self.redis().hgetall(format!("bull:demo:{id}")).unwrap()
    }

    /// Every event of `demo` so far, without the stream's ids.
    pub(crate) fn events(&self) -> Vec<BTreeMap<String, String>> {
        let rows: Vec<(String, BTreeMap<String, String>)> =
            redis::cmd("XRANGE").arg("bull:demo:events").arg("-").arg("+").query(&mut self.redis()).unwrap();
        rows.into_iter().map(|(_, fields)| fields).collect()
    }

    /// Their names alone.
    pub(crate) fn event_names(&self) -> Vec<String> {
        self.events().into_iter().map(|mut event| event.remove("event").unwrap()).collect()
    }
}

/// Everything but the address as the tests like it.
pub(crate) fn connection(socket: std::path::PathBuf) -> Connection {
    Connection {
        name: "crm".into(),
        driver: Format::Bullmq,
        redis: RedisSettings {
            target: RedisTarget::Unix { path: socket },
            database: 0,
            username: None,
            password: None,
            ca_file: None,
        },
        prefix: "bull".into(),
        retry_after: Duration::from_secs(90),
        laravel_name: "redis".into(),
        cluster_keys: false,
    }
}

pub(crate) fn open(
    connection: Connection,
    lanes: &[(&str, &[&str])],
    tag: u32,
    node: NodeSettings,
) -> Arc<dyn QueueDriver> {
    let lane = |(name, queues): &(&str, &[&str])| LaneQueues {
        name: (*name).into(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        delay_as_backoff: false,
        node: node.clone(),
    };
    let lanes = lanes.iter().map(lane).collect();
    qfleet_queue::open(&OpenSettings { connection, lanes, tag }).unwrap()
}

/// Short locks and frequent looks for stalled jobs.
pub(crate) fn hasty() -> NodeSettings {
    NodeSettings {
        lock_duration: Duration::from_millis(700),
        stalled_interval: Duration::from_millis(500),
        ..NodeSettings::default()
    }
}

impl Rig for BullmqRig {
    fn open(&self, tag: u32) -> Arc<dyn QueueDriver> {
        open(self.connection(), &[("both", &["high", "low"]), ("other", &["other"])], tag, hasty())
    }

    fn payload(&self, name: &str) -> Vec<u8> {
        serde_json::to_vec(&json!({"name": name, "data": {"who": "ann"}})).unwrap()
    }
}

pub(crate) fn complete(result: &str) -> Verdict {
    Verdict::Complete { result: Some(Output::Json(result.as_bytes().to_vec())) }
}

pub(crate) fn retry(after: Duration, text: &str) -> Verdict {
    let note = Note { exception: true, reason: Some(Reason::plain(text)), ..Note::default() };
    Verdict::Retry { after, note }
}

pub(crate) fn bury(text: &str) -> Verdict {
    Verdict::Bury { reason: Reason::plain(text) }
}

/// Asks Node again and again until it says anything but `null` or `false`.
#[track_caller]
pub(crate) fn soon(node: &Node, what: &str, code: &str) -> Value {
    qfleet_testkit::eventually(SOON, what, || {
        let value = node.run(code);
        (!value.is_null() && value != Value::Bool(false)).then_some(value)
    })
}
