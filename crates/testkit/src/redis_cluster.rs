//! Real servers joined to a Redis Cluster: slots over several masters, replicas on demand, to be moved and killed at will.

use std::time::Duration;

use redis::{Cmd, Value, cmd};

use crate::{RedisServer, eventually};

const SETTLES_WITHIN: Duration = Duration::from_secs(180);
const SLOTS: u16 = 16_384;
/// A node that is silent for this long has failed; shorter, and a busy machine fails nodes over that are well.
const NODE_TIMEOUT: Duration = Duration::from_millis(2000);
/// The same where nobody could take over: then a failure is nothing but an outage.
const NODE_TIMEOUT_ALONE: Duration = Duration::from_secs(15);

/// Masters with the slots shared out evenly, and as many replicas for each.
#[derive(Debug)]
pub struct RedisCluster {
    /// First the masters, then their replicas in the same order.
    nodes: Vec<RedisServer>,
    password: Option<String>,
}

impl RedisCluster {
    /// Starts it and waits until every node knows all others and every replica follows its master.
    #[must_use]
    pub fn start(masters: usize, replicas: usize) -> Self {
        Self::launch(masters, replicas, None)
    }

    /// The same, where every node asks for a password.
    #[must_use]
    pub fn with_password(masters: usize, replicas: usize, password: &str) -> Self {
        Self::launch(masters, replicas, Some(password))
    }

    /// How to reach it: `redis-cluster://127.0.0.1:port,127.0.0.1:port`, with every node, and the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        let nodes: Vec<String> = self.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis-cluster://{login}{}", nodes.join(","))
    }

    /// The nodes' ports on 127.0.0.1.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(RedisServer::port).collect()
    }

    /// The nodes: first those that were masters at first, then those that were replicas.
    #[must_use]
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// The slot of a key.
    #[must_use]
    pub fn slot(&self, key: &str) -> u16 {
        let mut living =
            self.nodes.iter().find_map(|node| node.client().get_connection().ok()).expect("a living node");
        cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut living).expect("the slot of a key")
    }

    /// The node that owns a key by its own word.
    #[must_use]
    pub fn owner(&self, key: &str) -> &RedisServer {
        eventually(SETTLES_WITHIN, &format!("an owner of `{key}`"), || {
            self.nodes.iter().find(|node| {
                let Ok(mut node) = node.client().get_connection() else { return false };
                match cmd("EXISTS").arg(key).query::<u8>(&mut node) {
                    Ok(_) => true,
                    // The key is not there, and the slot is about to move.
                    Err(error) => error.code() == Some("ASK"),
                }
            })
        })
    }

    /// A blocking connection to the owner of a key.
    #[must_use]
    pub fn connection(&self, key: &str) -> redis::Connection {
        self.owner(key).connection()
    }

    /// Every key on every master.
    #[must_use]
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let all = self.nodes.iter().filter(|node| is_master(node));
        let mut keys: Vec<String> =
            all.flat_map(|node| ask::<Vec<String>>(node, cmd("KEYS").arg(pattern))).collect();
        keys.sort_unstable();
        keys
    }

    /// Says that the slot of `key` is about to move to `to`: from now on keys that are not there are not here either.
    pub fn begin_move(&self, key: &str, to: &RedisServer) {
        let (slot, from) = (self.slot(key), self.owner(key));
        let set = |node, what: &str, other| {
            tell(node, cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(what).arg(id(other)));
        };
        set(to, "IMPORTING", from);
        set(from, "MIGRATING", to);
    }

    /// Moves up to `count` keys of the slot of `key`, which is about to move; says how many there were.
    pub fn move_keys(&self, key: &str, to: &RedisServer, count: usize) -> usize {
        let (slot, from) = (self.slot(key), self.owner(key));
        let keys: Vec<Vec<u8>> = ask(from, cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(count));
        if !keys.is_empty() {
            self.migrate(from, to, &keys);
        }
        keys.len()
    }

    /// Moves this key alone, whose slot is about to move.
    pub fn move_key(&self, key: &str, to: &RedisServer) {
        self.migrate(self.owner(key), to, &[key.as_bytes().to_vec()]);
    }

    fn migrate(&self, from: &RedisServer, to: &RedisServer, keys: &[Vec<u8>]) {
        let mut migrate = cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(to.port()).arg("").arg(0).arg(5000);
        if let Some(password) = &self.password {
            migrate.arg("AUTH").arg(password);
        }
        tell(from, migrate.arg("KEYS").arg(keys));
    }

    /// Ends the move: the slot of `key` is `to`'s now.
    pub fn end_move(&self, key: &str, to: &RedisServer) {
        let slot = self.slot(key);
        // The new owner first: at no moment has the slot no owner at all.
        let others = self.nodes.iter().filter(|node| node.port() != to.port() && is_master(node));
        for node in std::iter::once(to).chain(others) {
            tell(node, cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("NODE").arg(id(to)));
        }
    }

    /// All of it: the slot of `key` moves to `to`, a few keys at a time.
    pub fn move_slot(&self, key: &str, to: &RedisServer) {
        self.begin_move(key, to);
        while self.move_keys(key, to, 10) > 0 {}
        self.end_move(key, to);
    }

    /// Waits until the replicas have all that the owner of `key` has written so far.
    pub fn wait_for_replicas(&self, key: &str) {
        let mut owner = self.connection(key);
        let offset = |node: &mut redis::Connection, name: &str| {
            info(node, name).and_then(|text| text.parse::<i64>().ok())
        };
        let reached = offset(&mut owner, "master_repl_offset").expect("a master's offset");
        let port = self.owner(key).port().to_string();
        eventually(SETTLES_WITHIN, "the replicas to catch up", || {
            let behind =
                self.nodes.iter().filter_map(|node| node.client().get_connection().ok()).any(|mut node| {
                    info(&mut node, "master_port").as_ref() == Some(&port)
                        && offset(&mut node, "slave_repl_offset").is_none_or(|offset| offset < reached)
                });
            (!behind).then_some(())
        });
    }

    /// Waits until every living node finds the cluster well.
    pub fn wait_until_well(&self) {
        eventually(SETTLES_WITHIN, "the cluster to be well", || {
            let living = self.nodes.iter().filter_map(|node| node.client().get_connection().ok());
            let mut well = living.map(|mut node| {
                let info = cmd("CLUSTER").arg("INFO").query::<String>(&mut node).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains(&format!("cluster_slots_ok:{SLOTS}"))
            });
            well.all(|well| well).then_some(())
        });
    }

    fn launch(masters: usize, replicas: usize, password: Option<&str>) -> Self {
        let mut settings = RedisServer::builder().cluster();
        if let Some(password) = password {
            settings = settings.password(password).config(&format!("masterauth {password}"));
        }
        let node_timeout = if replicas == 0 { NODE_TIMEOUT_ALONE } else { NODE_TIMEOUT };
        settings = settings.config(&format!("cluster-node-timeout {}", node_timeout.as_millis()));
        // A replica may have been cut off for a while before its master dies.
        settings =
            settings.config("cluster-replica-validity-factor 0").config("cluster-allow-replica-migration no");
        let nodes = (0..masters * (1 + replicas)).map(|_| settings.start()).collect();
        let all = Self { nodes, password: password.map(str::to_owned) };
        all.join(masters);
        all
    }

    fn join(&self, masters: usize) {
        let share = |number: usize| u16::try_from(usize::from(SLOTS) * number / masters).unwrap_or(SLOTS);
        for (number, node) in self.nodes.iter().enumerate() {
            tell(node, cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(number + 1));
            if number < masters {
                let (first, last) = (share(number), share(number + 1) - 1);
                tell(node, cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last));
            }
            if number == 0 {
                continue;
            }
            let bus: u16 = ask::<(String, String)>(node, cmd("CONFIG").arg("GET").arg("cluster-port"))
                .1
                .parse()
                .expect("a port");
            tell(&self.nodes[0], cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port()).arg(bus));
        }
        for (number, node) in self.nodes.iter().enumerate().skip(masters) {
            let master = id(&self.nodes[number % masters]);
            eventually(SETTLES_WITHIN, "a node to know its master", || {
                let mut node = node.connection();
                cmd("CLUSTER").arg("REPLICATE").arg(&master).query::<Value>(&mut node).ok()
            });
        }
        self.wait_until_well();
        eventually(SETTLES_WITHIN, "the replicas to follow their masters", || {
            let followed = |node: &RedisServer| info(&mut node.connection(), "master_link_status");
            self.nodes[masters..].iter().all(|node| followed(node).as_deref() == Some("up")).then_some(())
        });
    }
}

fn ask<T: redis::FromRedisValue>(node: &RedisServer, command: &Cmd) -> T {
    command.query(&mut node.connection()).unwrap_or_else(|error| panic!("a node refused: {error}"))
}

fn tell(node: &RedisServer, command: &Cmd) {
    ask::<Value>(node, command);
}

fn id(node: &RedisServer) -> String {
    ask(node, cmd("CLUSTER").arg("MYID"))
}

fn is_master(node: &RedisServer) -> bool {
    node.client().get_connection().is_ok_and(|mut node| info(&mut node, "role").as_deref() == Some("master"))
}

fn info(node: &mut redis::Connection, name: &str) -> Option<String> {
    let text: String = cmd("INFO").arg("replication").query(node).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::to_owned))
}
