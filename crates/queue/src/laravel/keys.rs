//! Where things are in Redis: Laravel's four keys of a queue, and ours beside them.

use qfleet_manifest::queue::Connection;

/// Makes the names of keys; one place for prefix and hash tags.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    braces: bool,
}

impl Keys {
    /// For one connection.
    pub(crate) fn new(connection: &Connection) -> Self {
        Self { prefix: connection.prefix.clone(), braces: connection.cluster_keys }
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
        if self.braces { self.own("paused:", queue) } else { format!("{}qfleet:paused", self.prefix) }
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
        format!("{}qfleet:unreadable", self.prefix)
    }

    /// Failed jobs by date: a sorted set of ids.
    pub(crate) fn failed(&self) -> String {
        format!("{}qfleet:failed", self.prefix)
    }

    /// The same for one queue.
    pub(crate) fn failed_in(&self, queue: &str) -> String {
        format!("{}qfleet:failed-in:{queue}", self.prefix)
    }

    /// One failed job.
    pub(crate) fn failed_record(&self, id: &str) -> String {
        format!("{}qfleet:failed:{id}", self.prefix)
    }

    fn own(&self, kind: &str, queue: &str) -> String {
        format!("{}qfleet:{kind}{}", self.prefix, self.tagged(queue))
    }

    /// The name in the braces Laravel 13.5 and newer put around it on a cluster; a name with braces stays as it is.
    fn tagged(&self, queue: &str) -> String {
        let has_braces =
            queue.split_once('{').and_then(|(_, rest)| rest.find('}')).is_some_and(|length| length > 0);
        if self.braces && !has_braces { format!("{{{queue}}}") } else { queue.to_owned() }
    }
}
