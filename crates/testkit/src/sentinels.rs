//! A master, a replica and sentinels that watch them: what a failover looks like from outside.

use std::time::Duration;

use redis::Value;

use crate::{RedisServer, eventually};

const SETTLES_WITHIN: Duration = Duration::from_secs(180);
const MASTER_NAME: &str = "mymaster";

/// Two servers and their sentinels. Failure is noticed after two seconds without an answer; sooner, and a busy machine has
/// failovers that nobody asked for.
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<RedisServer>,
    replica: RedisServer,
    master: RedisServer,
}

impl Sentinels {
    /// Starts all and waits until every sentinel knows every other part. `count` is the number of sentinels.
    #[must_use]
    pub fn start(count: usize) -> Self {
        Self::launch(count, None)
    }

    /// The same, where both servers ask for a password (the sentinels do not).
    #[must_use]
    pub fn with_password(count: usize, password: &str) -> Self {
        Self::launch(count, Some(password))
    }

    /// The name the sentinels know the master by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        MASTER_NAME
    }

    /// Addresses of the sentinels, `127.0.0.1:port` each.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect()
    }

    /// How to reach the master of the moment: `redis-sentinel://host:port,host:port/mymaster/0`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis-sentinel://{}/{MASTER_NAME}/0", self.addresses().join(","))
    }

    /// The server that was the master at first.
    #[must_use]
    pub fn master(&self) -> &RedisServer {
        &self.master
    }

    /// The server that was the replica at first.
    #[must_use]
    pub fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// The sentinels themselves.
    #[must_use]
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The server that the first sentinel calls master now.
    #[must_use]
    pub fn current_master(&self) -> &RedisServer {
        if master_port(&self.sentinels[0]) == Some(self.replica.port()) {
            &self.replica
        } else {
            &self.master
        }
    }

    /// Has the sentinels swap the roles, as an operator would, and waits until all of them say so.
    pub fn fail_over(&self) {
        let before = self.current_master().port();
        // "No good replica" for a moment after the last change.
        eventually(SETTLES_WITHIN, "a sentinel to accept `SENTINEL FAILOVER`", || {
            let mut sentinel = self.sentinels[0].connection();
            redis::cmd("SENTINEL").arg("FAILOVER").arg(MASTER_NAME).query::<()>(&mut sentinel).ok()
        });
        self.wait_for_new_master(before);
    }

    /// Waits until every sentinel names another master than the one on port `before`, and that one says it is master.
    pub fn wait_for_new_master(&self, before: u16) {
        eventually(SETTLES_WITHIN, "the sentinels to name a new master", || {
            let changed =
                self.sentinels.iter().all(|one| master_port(one).is_some_and(|port| port != before));
            (changed && info(self.current_master(), "role").as_deref() == Some("master")).then_some(())
        });
    }

    fn launch(count: usize, password: Option<&str>) -> Self {
        let mut settings = RedisServer::builder().tcp();
        if let Some(password) = password {
            // Either may be the replica one day.
            settings = settings.password(password).config(&format!("masterauth {password}"));
        }
        let master = settings.start();
        let replica = settings.replica_of(&master).start();
        let watch = |_| {
            let mut sentinel = RedisServer::builder().sentinel().config(&format!(
                "sentinel monitor {MASTER_NAME} 127.0.0.1 {} {}",
                master.port(),
                count / 2 + 1
            ));
            if let Some(password) = password {
                sentinel = sentinel.config(&format!("sentinel auth-pass {MASTER_NAME} {password}"));
            }
            sentinel
                .config(&format!("sentinel down-after-milliseconds {MASTER_NAME} 2000"))
                .config(&format!("sentinel failover-timeout {MASTER_NAME} 3000"))
                .config(&format!("sentinel parallel-syncs {MASTER_NAME} 1"))
                .start()
        };
        let all = Self { sentinels: (0..count).map(watch).collect(), replica, master };
        all.wait_until_settled();
        all
    }

    fn wait_until_settled(&self) {
        eventually(SETTLES_WITHIN, "the replica to follow its master", || {
            (info(&self.replica, "master_link_status").as_deref() == Some("up")).then_some(())
        });
        let others = (self.sentinels.len() - 1).to_string();
        eventually(SETTLES_WITHIN, "the sentinels to know each other and the replica", || {
            self.sentinels
                .iter()
                .all(|sentinel| {
                    let master = master_fields(sentinel);
                    field(&master, "num-slaves") == Some("1".into())
                        && field(&master, "num-other-sentinels").as_ref() == Some(&others)
                        && field(&master, "flags") == Some("master".into())
                })
                .then_some(())
        });
    }
}

fn master_fields(sentinel: &RedisServer) -> Vec<String> {
    let mut connection = sentinel.connection();
    redis::cmd("SENTINEL").arg("MASTER").arg(MASTER_NAME).query(&mut connection).unwrap_or_default()
}

fn field(fields: &[String], name: &str) -> Option<String> {
    fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone())
}

fn master_port(sentinel: &RedisServer) -> Option<u16> {
    let mut connection = sentinel.client().get_connection().ok()?;
    let answer: Value =
        redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(MASTER_NAME).query(&mut connection).ok()?;
    let (_host, port): (String, u16) = redis::from_redis_value(answer).ok()?;
    Some(port)
}

fn info(server: &RedisServer, name: &str) -> Option<String> {
    let mut connection = server.client().get_connection().ok()?;
    let text: String = redis::cmd("INFO").arg("replication").query(&mut connection).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
}
