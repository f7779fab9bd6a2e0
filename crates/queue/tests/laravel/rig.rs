//! A Redis of its own for each test, and drivers on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qfleet_manifest::queue::{Connection, NodeRules, RateLimit, RedisSettings, RedisTarget};
use qfleet_model::job::Format;
use qfleet_queue::driver::QueueDriver;
use qfleet_queue::{LaneQueues, OpenSettings};
use qfleet_testkit::RedisServer;
use redis::Commands as _;

use crate::contract::Rig;

pub(crate) const PREFIX: &str = "app_database_";

pub(crate) struct LaravelRig {
    pub(crate) server: RedisServer,
    made: AtomicU32,
}

impl LaravelRig {
    pub(crate) fn new() -> Self {
        Self::on(RedisServer::start())
    }

    pub(crate) fn on(server: RedisServer) -> Self {
        Self { server, made: AtomicU32::new(0) }
    }

    /// A connection with a short lease.
    pub(crate) fn connection(&self) -> Connection {
        connection(RedisSettings {
            target: RedisTarget::Unix { path: self.server.socket() },
            database: 0,
            username: None,
            password: None,
            ca_file: None,
        })
    }

    /// A connection of the test's own.
    pub(crate) fn redis(&self) -> redis::Connection {
        self.server.connection()
    }

    /// Puts a payload into a ready list as a producer does.
    pub(crate) fn produce(&self, queue: &str, payload: impl AsRef<[u8]>) {
        let mut pipe = redis::pipe();
        pipe.rpush(ready(queue), payload.as_ref()).rpush(ready(queue) + ":notify", 1);
        pipe.exec(&mut self.redis()).unwrap();
    }

    /// Members of a list, first to last.
    pub(crate) fn list(&self, key: &str) -> Vec<Vec<u8>> {
        self.redis().lrange(key, 0, -1).unwrap()
    }

    /// Members of a sorted set with their scores.
    pub(crate) fn set(&self, key: &str) -> Vec<(Vec<u8>, f64)> {
        self.redis().zrange_withscores(key, 0, -1).unwrap()
    }

    /// All keys, sorted.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.redis().keys("*").unwrap();
        keys.sort();
        keys
    }
}

/// The ready list of a queue.
pub(crate) fn ready(queue: &str) -> String {
    format!("{PREFIX}queues:{queue}")
}

/// The delayed set of a queue.
pub(crate) fn delayed(queue: &str) -> String {
    ready(queue) + ":delayed"
}

/// The reserved set of a queue.
pub(crate) fn reserved(queue: &str) -> String {
    ready(queue) + ":reserved"
}

/// The wake-up list of a queue.
pub(crate) fn notify(queue: &str) -> String {
    ready(queue) + ":notify"
}

/// Everything but the address as the tests like it.
pub(crate) fn connection(redis: RedisSettings) -> Connection {
    Connection {
        name: "crm".into(),
        driver: Format::Laravel,
        redis,
        prefix: PREFIX.into(),
        retry_after: Duration::from_secs(3),
        laravel_name: "redis".into(),
        cluster_keys: false,
    }
}

/// The lanes of the contract on any connection.
pub(crate) fn open(connection: Connection, tag: u32) -> Arc<dyn QueueDriver> {
    open_limited(connection, tag, None)
}

/// The same, with a limit of starts for each lane.
pub(crate) fn open_limited(
    connection: Connection,
    tag: u32,
    rate_limit: Option<RateLimit>,
) -> Arc<dyn QueueDriver> {
    let lane = |name: &str, queues: &[&str]| LaneQueues {
        name: name.into(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        delay_as_backoff: true,
        rate_limit,
        node: NodeRules::default(),
    };
    let lanes = vec![lane("both", &["high", "low"]), lane("other", &["other"])];
    qfleet_queue::open(&OpenSettings { connection, lanes, tag }).unwrap()
}

impl Rig for LaravelRig {
    fn open(&self, tag: u32) -> Arc<dyn QueueDriver> {
        open(self.connection(), tag)
    }

    fn payload(&self, name: &str) -> Vec<u8> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let job = r#""job":"Illuminate\\Queue\\CallQueuedHandler@call","maxTries":null,"data":{"e":[]}"#;
        format!(r#"{{"uuid":"u-{number}","displayName":"{name}",{job},"id":"i-{number}","attempts":0}}"#)
            .into_bytes()
    }
}
