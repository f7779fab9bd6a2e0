//! Where the queues of Node's libraries are in Redis, and what we keep beside them.

/// Makes the names of keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// For one connection.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Start of all keys of a queue.
    pub(crate) fn base(&self, queue: &str) -> String {
        format!("{}:{queue}:", self.prefix)
    }

    /// Its settings.
    pub(crate) fn meta(&self, queue: &str) -> String {
        self.base(queue) + "meta"
    }

    /// Start of the keys of counters kept beside jobs; the job's id follows.
    pub(crate) fn notes(&self, queue: &str) -> String {
        format!("{}:qfleet:job:{queue}:", self.prefix)
    }

    /// The name of a connection by which the library sees a worker of a queue.
    pub(crate) fn worker(&self, queue: &str) -> String {
        use base64::Engine as _;
        format!("{}:{}", self.prefix, base64::engine::general_purpose::STANDARD.encode(queue))
    }

    /// Finds the key of this name of all queues, in `SCAN`.
    pub(crate) fn every(&self, name: &str) -> String {
        format!("{}:*:{name}", crate::redis::pattern(&self.prefix))
    }

    /// The queue such a key belongs to.
    pub(crate) fn queue_of<'a>(&self, key: &'a str, name: &str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)?.strip_prefix(':')?.strip_suffix(name)?.strip_suffix(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_the_libraries_look() {
        let keys = Keys::new("{app}");
        assert_eq!(keys.meta("demo"), "{app}:demo:meta");
        assert_eq!(keys.queue_of("{app}:a:b:meta", "meta"), Some("a:b"));
        assert_eq!(Keys::new("a*").every("meta"), "a\\*:*:meta");
        assert_eq!(Keys::new("bull").worker("demo"), "bull:ZGVtbw==");
    }
}
