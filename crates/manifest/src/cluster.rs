//! Where the keys of a queue lie on a Redis Cluster: what is between braces decides, and one call reaches one place only.

use qfleet_model::job::Format;

use crate::queue::{Connection, RedisSettings, RedisTarget};

/// The part of a key that decides where it lies: what is between the first `{` and the `}` after it, unless that is
/// nothing.
#[must_use]
pub fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    rest.split_once('}').map(|(tag, _)| tag).filter(|tag| !tag.is_empty())
}

/// The name in the braces Laravel 13.5 and newer put around it on a cluster; a name with braces stays as it is.
#[must_use]
pub fn braced(queue: &str) -> String {
    if hash_tag(queue).is_some() { queue.to_owned() } else { format!("{{{queue}}}") }
}

impl Connection {
    /// Whether the queues are on a cluster.
    #[must_use]
    pub fn on_cluster(&self) -> bool {
        matches!(self.redis.target, RedisTarget::Cluster { .. })
    }

    /// What all keys of a queue begin with.
    #[must_use]
    pub fn queue_key(&self, queue: &str) -> String {
        let prefix = &self.prefix;
        match self.driver {
            Format::Laravel if self.cluster_keys => format!("{prefix}queues:{}", braced(queue)),
            Format::Laravel => format!("{prefix}queues:{queue}"),
            Format::Bull | Format::Bullmq => format!("{prefix}:{queue}:"),
        }
    }

    /// The hash tag that keeps all keys of these queues together on a cluster; empty where there is no cluster.
    ///
    /// # Errors
    /// They do not lie together; the text says what to do, for the connection's family.
    pub fn home<'a>(&self, queues: impl IntoIterator<Item = &'a String>) -> Result<String, Scattered> {
        if !self.on_cluster() {
            return Ok(String::new());
        }
        let mut home: Option<(&String, String)> = None;
        for queue in queues {
            let key = self.queue_key(queue);
            let tag = hash_tag(&key).ok_or_else(|| Scattered::untagged(self, queue))?;
            match &home {
                None => home = Some((queue, tag.to_owned())),
                Some((_, known)) if known == tag => {}
                Some((first, _)) => return Err(Scattered::apart(first, queue)),
            }
        }
        Ok(home.map(|(_, tag)| tag).unwrap_or_default())
    }
}

impl RedisSettings {
    /// The same Redis; on a cluster, the node that owns `key`.
    #[must_use]
    pub fn at(&self, key: &str) -> Self {
        let mut settings = self.clone();
        if let RedisTarget::Cluster { key: at, .. } = &mut settings.target {
            *at = Some(key.to_owned());
        }
        settings
    }
}

impl std::fmt::Display for Scattered {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.what, self.hint)
    }
}

/// Keys that are needed together and lie apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scattered {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: String,
}

impl Scattered {
    fn untagged(connection: &Connection, queue: &str) -> Self {
        let (name, prefix) = (&connection.name, &connection.prefix);
        let hint = match connection.driver {
            Format::Laravel => format!(
                "`cluster-keys: true` on connection `{name}` writes `{{{queue}}}` as Laravel 13.5 and newer do; before \
                 that the application's queue has to be named `{{{queue}}}`"
            ),
            Format::Bull | Format::Bullmq => format!(
                "set `prefix: \"{{{prefix}}}\"` on connection `{name}` and in the application, which then keeps all its \
                 queues in one place"
            ),
        };
        Self {
            what: format!("the keys of `{queue}` have no hash tag, so they lie all over the cluster"),
            hint,
        }
    }

    fn apart(first: &str, second: &str) -> Self {
        Self {
            what: format!("`{first}` and `{second}` lie in different places of the cluster"),
            hint: "queues that are taken from together need a common hash tag, such as a prefix with braces; or make \
                   them queues of their own, in a pool if they are to share a process"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_braces_decide() {
        for (key, tag) in [
            ("{bull}:mail:1", Some("bull")),
            ("bull:{mail}:{x}", Some("mail")),
            ("bull:mail:1", None),
            ("a{}b{c}", None),
            ("a{b", None),
            ("a}b{c}", Some("c")),
            ("{{a}}", Some("{a")),
        ] {
            assert_eq!(hash_tag(key), tag, "{key}");
        }
        assert_eq!((braced("mail"), braced("{a}b")), ("{mail}".into(), "{a}b".into()));
    }
}
