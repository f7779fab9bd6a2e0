//! A Redis of its own for each test, and drivers on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qfleet_manifest::queue::{Connection, RedisSettings, RedisTarget};
use qfleet_model::job::Format;
use qfleet_queue::driver::QueueDriver;
use qfleet_queue::{LaneQueues, OpenSettings};
use qfleet_testkit::RedisServer;

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

    /// A driver on a connection with changes.
    pub(crate) fn open_on(&self, connection: Connection, tag: u32) -> Arc<dyn QueueDriver> {
        open(connection, tag)
    }
}

/// Everything but the address as the tests like it.
pub(crate) fn connection(redis: RedisSettings) -> Connection {
    Connection {
        name: "crm".into(),
        driver: Format::Laravel,
        redis,
        prefix: PREFIX.into(),
        retry_after: Duration::from_secs(1),
        laravel_name: "redis".into(),
        cluster_keys: false,
    }
}

/// The lanes of the contract on any connection.
pub(crate) fn open(connection: Connection, tag: u32) -> Arc<dyn QueueDriver> {
    let lane = |name: &str, queues: &[&str]| LaneQueues {
        name: name.into(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        delay_as_backoff: true,
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
