//! Settings of queues: where the jobs are, and how they are tried.

use std::time::Duration;

use qfleet_model::backoff::Backoff;
use qfleet_model::job::Format;
use serde::{Deserialize, Serialize};

use crate::handler::Handler;
use crate::secret::Secret;

/// How to reach a Redis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisSettings {
    /// Where it is.
    pub target: RedisTarget,
    /// Database number.
    pub database: i64,
    /// ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Certificate authorities for TLS, as a PEM file's path; else the system's.
    pub ca_file: Option<std::path::PathBuf>,
}

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RedisTarget {
    /// Host and port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port number.
        port: u16,
        /// TLS, always with verification.
        tls: bool,
    },
    /// A unix socket.
    Unix {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// Whatever Sentinel says is the master.
    Sentinel {
        /// Sentinels, host and port.
        sentinels: Vec<(String, u16)>,
        /// Name of the master.
        master: String,
        /// TLS to master and sentinels.
        tls: bool,
    },
    /// A node of a cluster: the one that owns the keys in question.
    Cluster {
        /// Nodes that know the others, host and port.
        nodes: Vec<(String, u16)>,
        /// TLS to every node.
        tls: bool,
        /// A key of those in question, which all lie in one slot; not in a manifest, but known where queues are opened.
        #[serde(default)]
        key: Option<String>,
    },
}

impl RedisSettings {
    /// The address for people, never with a password: `redis://db:6379/0`.
    #[must_use]
    pub fn shown(&self) -> String {
        let database = self.database;
        match &self.target {
            RedisTarget::Tcp { host, port, tls } => {
                format!("{}://{host}:{port}/{database}", if *tls { "rediss" } else { "redis" })
            }
            RedisTarget::Unix { path } => format!("redis+unix://{}?db={database}", path.display()),
            RedisTarget::Sentinel { sentinels, master, .. } => {
                let hosts: Vec<String> =
                    sentinels.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                format!("redis-sentinel://{}/{master}/{database}", hosts.join(","))
            }
            RedisTarget::Cluster { nodes, .. } => {
                let hosts: Vec<String> = nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
                format!("redis-cluster://{}", hosts.join(","))
            }
        }
    }
}

impl RedisSettings {
    /// Whether it is surely on this host, so that every host has one of its own.
    #[must_use]
    pub fn is_on_this_host(&self) -> bool {
        let is_loopback = |host: &str| {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        match &self.target {
            RedisTarget::Tcp { host, .. } => is_loopback(host),
            RedisTarget::Unix { .. } => true,
            RedisTarget::Sentinel { sentinels: nodes, .. } | RedisTarget::Cluster { nodes, .. } => {
                nodes.iter().all(|(host, _)| is_loopback(host))
            }
        }
    }
}

/// Who writes the jobs, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its name in the manifest.
    pub name: String,
    /// Family of the queues.
    pub driver: Format,
    /// The Redis.
    pub redis: RedisSettings,
    /// Key prefix.
    pub prefix: String,
    /// Laravel: a reservation lasts this long; renewed while the attempt runs.
    pub retry_after: Duration,
    /// Laravel: the connection's name in the application's configuration, stored with failed jobs.
    pub laravel_name: String,
    /// Laravel: keys with `{braces}` as Laravel 13.5+ writes them on a cluster.
    pub cluster_keys: bool,
}

/// Where Laravel jobs go that failed for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "driver")]
pub enum FailedJobs {
    /// In the Redis of the job's own connection, under its prefix.
    Redis,
}

/// One queue of the manifest as a worker sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// Its name in the manifest.
    pub name: String,
    /// Name of its connection.
    pub connection: String,
    /// Its queues in Redis, most important first.
    pub queues: Vec<String>,
    /// Jobs of this queue at once in one process.
    pub concurrency: u32,
    /// How its jobs are tried.
    pub tuning: Tuning,
    /// First match by job name wins.
    pub routes: Vec<Route>,
    /// The handler when no route matches.
    pub handler: Option<Handler>,
    /// At most so many starts in a time, over all workers.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// What only queues of Node's libraries have; none for others.
    #[serde(default)]
    pub node: Option<NodeRules>,
}

/// What a worker of a Bull or BullMQ queue is told about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRules {
    /// A lock lasts this long when its worker is lost; renewed while the attempt runs.
    pub lock_duration: Duration,
    /// Stalled jobs are looked for this often.
    pub stalled_interval: Duration,
    /// A job that stalled more often than this has failed.
    pub max_stalled: u32,
    /// Which completed jobs stay when the job does not say; `None` is all.
    pub keep_completed: Option<Keep>,
    /// Which failed jobs stay when the job does not say; `None` is all.
    pub keep_failed: Option<Keep>,
    /// Minutes of finished jobs that are counted one by one for dashboards; 0 is off.
    #[serde(default)]
    pub metrics: u32,
    /// A major version of the library that is worked although nobody has tested that.
    pub accept_version: Option<u32>,
    /// In a pool, the queue has a connection of its own by which the library sees its workers.
    #[serde(default)]
    pub presence: bool,
}

/// What the libraries do by themselves.
impl Default for NodeRules {
    fn default() -> Self {
        Self {
            lock_duration: Duration::from_secs(30),
            stalled_interval: Duration::from_secs(30),
            max_stalled: 1,
            keep_completed: None,
            keep_failed: None,
            metrics: 0,
            accept_version: None,
            presence: false,
        }
    }
}

/// Which finished jobs stay; what neither limit speaks against does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The newest so many.
    pub count: Option<u64>,
    /// Those not older than this, in whole seconds.
    pub age: Option<Duration>,
}

/// A limit of starts in a fixed window, which begins with its first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Starts in one window.
    pub max: u32,
    /// Length of the window.
    pub per: Duration,
}

/// How jobs are tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Tries when the job does not say; 0 is unlimited.
    pub tries: u32,
    /// Longest run when the job does not say; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// Pause before another attempt when the job does not say; `None` is at once.
    pub backoff: Option<Backoff>,
    /// What wins even over the job.
    pub over: Override,
    /// Charged snoozes a job may have.
    pub snooze_max: u32,
    /// A charged snooze this long after the first delivery fails the job.
    pub snooze_age: Duration,
    /// Longest delay a handler may ask for.
    pub max_delay: Duration,
    /// Follow Laravel 12.11+: a job's own dispatch delay is its backoff when it has no other.
    pub delay_as_backoff: bool,
    /// After a worker's death, deliver again at once, or only after the deadline of the delivery.
    pub redeliver: Redeliver,
}

/// Limits that win over what the job says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Override {
    /// Tries.
    pub tries: Option<u32>,
    /// Longest run; `Some(None)` is unlimited.
    pub timeout: Option<Option<Duration>>,
    /// Pause before another attempt.
    pub backoff: Option<Backoff>,
}

/// When a dead worker's started jobs are delivered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redeliver {
    /// At once.
    AtOnce,
    /// When the receiver's deadline has passed.
    AfterDeadline,
}

/// A handler for some job names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Job name; `*` stands for any text.
    pub name: String,
    /// Who gets these jobs.
    pub handler: Handler,
}

impl Route {
    /// Whether a job of this name takes this route.
    #[must_use]
    pub fn matches(&self, job_name: &str) -> bool {
        let mut parts = self.name.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = job_name.strip_prefix(first) else { return false };
        let mut last = None;
        for part in parts {
            if let Some(before) = last.replace(part) {
                let Some(at) = rest.find(before) else { return false };
                rest = &rest[at + before.len()..];
            }
        }
        last.map_or(rest.is_empty(), |end: &str| rest.ends_with(end))
    }
}

impl Lane {
    /// The handler for a job of this name.
    #[must_use]
    pub fn handler_for(&self, job_name: &str) -> Option<&Handler> {
        self.routes
            .iter()
            .find(|route| route.matches(job_name))
            .map(|route| &route.handler)
            .or(self.handler.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, matches) in [
            ("App\\Jobs\\Thumb*", "App\\Jobs\\Thumbnail", true),
            ("App\\Jobs\\Thumb*", "App\\Jobs\\Other", false),
            ("*", "anything", true),
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("ab*ba", "aba", false),
            ("*x", "xxx", true),
        ] {
            let route = Route { name: pattern.to_owned(), handler: Handler::shell_line("true") };
            assert_eq!(route.matches(name), matches, "{pattern} against {name}");
        }
    }
}
