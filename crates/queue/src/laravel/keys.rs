//! Where things are in Redis: Laravel's four keys of a queue, and ours beside them.

use qfleet_manifest::cluster::{braced, hash_tag};
use qfleet_manifest::queue::{Connection, RedisTarget};

/// Makes the names of keys; one place for prefix and hash tags.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    braces: bool,
    /// What keeps keys that are no queue's own beside the queues on a cluster: their hash tag, in braces.
    home: String,
}

impl Keys {
    /// For one connection; on a cluster, for the queues that lie together with the key it is opened at.
    pub(crate) fn new(connection: &Connection) -> Self {
        let at = match &connection.redis.target {
            RedisTarget::Cluster { key: Some(key), .. } => hash_tag(key),
            _ => None,
        };
        // A prefix with a tag does it alone.
        let home = at.filter(|_| hash_tag(&connection.prefix).is_none());
        Self {
            prefix: connection.prefix.clone(),
            braces: connection.cluster_keys,
            home: home.map(|tag| format!("{{{tag}}}")).unwrap_or_default(),
        }
    }

    /// The ready list; `:delayed`, `:reserved` and `:notify` follow from it.
    pub(crate) fn ready(&self, queue: &str) -> String {
        format!("{}queues:{}", self.prefix, self.tagged(queue))
    }

    /// One `1` for each job made ready.
    pub(crate) fn notify(&self, queue: &str) -> String {
        self.ready(queue) + ":notify"
    }

    /// The set of paused queues. On a cluster each queue has its own, since one call reads the keys of one slot only.
    pub(crate) fn paused(&self, queue: &str) -> String {
        if self.braces { self.own("paused:", queue) } else { self.common("paused") }
    }

    /// Start of the keys of counters kept beside jobs; the job's identity follows.
    pub(crate) fn counters(&self, queue: &str) -> String {
        self.own("job:", queue) + ":"
    }

    /// Starts in the present window of a rate limit.
    pub(crate) fn limiter(&self, queue: &str) -> String {
        self.own("limiter:", queue)
    }

    /// Discarded jobs of the last day.
    pub(crate) fn discarded(&self, queue: &str) -> String {
        self.own("discarded:", queue)
    }

    /// Payloads that could not be read, by date: a sorted set of ids.
    pub(crate) fn unreadable(&self, queue: &str) -> String {
        self.own("unreadable:", queue)
    }

    /// One of them.
    pub(crate) fn unreadable_record(&self, queue: &str, id: &str) -> String {
        format!("{}:{id}", self.unreadable(queue))
    }

    /// Names of the queues that have, or had, unreadable payloads.
    pub(crate) fn unreadable_queues(&self) -> String {
        self.common("unreadable")
    }

    /// Failed jobs by date: a sorted set of ids.
    pub(crate) fn failed(&self) -> String {
        self.common("failed")
    }

    /// The same for one queue.
    pub(crate) fn failed_in(&self, queue: &str) -> String {
        format!("{}{queue}", self.common("failed-in:"))
    }

    /// One failed job.
    pub(crate) fn failed_record(&self, id: &str) -> String {
        format!("{}{id}", self.common("failed:"))
    }

    /// Names of the queues that may have failed jobs, on a cluster; lies by itself.
    pub(crate) fn failing_queues(&self) -> String {
        format!("{}qfleet:failing", self.prefix)
    }

    fn common(&self, kind: &str) -> String {
        format!("{}qfleet:{kind}{}", self.prefix, self.home)
    }

    fn own(&self, kind: &str, queue: &str) -> String {
        format!("{}qfleet:{kind}{}", self.prefix, self.tagged(queue))
    }

    fn tagged(&self, queue: &str) -> String {
        if self.braces { braced(queue) } else { queue.to_owned() }
    }
}
