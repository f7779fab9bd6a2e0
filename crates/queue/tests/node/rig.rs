//! A Redis of its own for each test, drivers on it, and Node beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::{Connection, NodeRules, RateLimit, RedisSettings, RedisTarget};
use qfleet_model::job::Format;
use qfleet_model::outcome::{Note, Output, Reason, Verdict};
use qfleet_queue::driver::{LaneId, QueueDriver};
use qfleet_queue::{LaneQueues, OpenSettings};
use qfleet_testkit::{Node, RedisServer};
use redis::Commands as _;
use serde_json::{Value, json};

use crate::contract::Rig;

/// The lane of a driver opened by [`NodeRig::worker`].
pub(crate) const DEMO: LaneId = LaneId(0);
/// A limit for whatever is to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) struct NodeRig {
    pub(crate) server: RedisServer,
    pub(crate) family: Format,
}

impl NodeRig {
    pub(crate) fn bull() -> Self {
        Self { server: RedisServer::start(), family: Format::Bull }
    }

    pub(crate) fn bullmq() -> Self {
        Self { server: RedisServer::start(), family: Format::Bullmq }
    }

    /// For queues of this library.
    pub(crate) fn of(library: &str) -> Self {
        if library == "bull" { Self::bull() } else { Self::bullmq() }
    }

    /// A Node process with `bull`, `bullmq` (5) or `bullmq6`.
    pub(crate) fn node(&self, library: &str) -> Node {
        Node::start(library, &self.server)
    }

    pub(crate) fn connection(&self) -> Connection {
        Connection { driver: self.family, ..connection(self.server.socket()) }
    }

    /// A worker of the queue `demo`, as one is that was told nothing.
    pub(crate) fn worker(&self, tag: u32) -> Arc<dyn QueueDriver> {
        self.worker_with(tag, &NodeRules::default())
    }

    pub(crate) fn worker_with(&self, tag: u32, settings: impl Into<Settings>) -> Arc<dyn QueueDriver> {
        open(self.connection(), &[("demo", &["demo"])], tag, settings)
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

    /// The keys of a pattern.
    pub(crate) fn redis_keys(&self, pattern: &str) -> Vec<String> {
        self.redis().keys(pattern).unwrap()
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

/// What a worker is told about each of its queues.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) rules: NodeRules,
    pub(crate) rate_limit: Option<RateLimit>,
}

impl From<&NodeRules> for Settings {
    fn from(rules: &NodeRules) -> Self {
        Self { rules: rules.clone(), rate_limit: None }
    }
}

impl From<&Self> for Settings {
    fn from(settings: &Self) -> Self {
        settings.clone()
    }
}

/// So many starts in so many milliseconds, and nothing else.
pub(crate) fn limited(max: u32, per: u64) -> Settings {
    let rate_limit = Some(RateLimit { max, per: Duration::from_millis(per) });
    Settings { rate_limit, ..Settings::default() }
}

pub(crate) fn open(
    connection: Connection,
    lanes: &[(&str, &[&str])],
    tag: u32,
    settings: impl Into<Settings>,
) -> Arc<dyn QueueDriver> {
    let Settings { rules, rate_limit } = settings.into();
    let lane = |(name, queues): &(&str, &[&str])| LaneQueues {
        name: (*name).into(),
        queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
        delay_as_backoff: false,
        rate_limit,
        node: rules.clone(),
    };
    let lanes = lanes.iter().map(lane).collect();
    qfleet_queue::open(&OpenSettings { connection, lanes, tag }).unwrap()
}

/// Short locks and frequent looks for stalled jobs.
pub(crate) fn hasty() -> NodeRules {
    NodeRules {
        lock_duration: Duration::from_secs(2),
        stalled_interval: Duration::from_millis(1500),
        ..NodeRules::default()
    }
}

impl Rig for NodeRig {
    fn open(&self, tag: u32) -> Arc<dyn QueueDriver> {
        open(self.connection(), &[("both", &["high", "low"]), ("other", &["other"])], tag, &hasty())
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

/// Works as a worker with one job at a time does, until `count` verdicts are settled: each call settles and takes.
pub(crate) async fn work(
    driver: &dyn QueueDriver,
    count: usize,
    mut verdict: impl FnMut(&qfleet_model::job::Job) -> Verdict,
) {
    use qfleet_queue::driver::{Ask, Settlement};
    let started = std::time::Instant::now();
    let (mut settle, mut settled) = (Vec::new(), 0);
    loop {
        let turn = driver.turn(&settle, &[Ask { lane: DEMO, at_most: 1 }], driver.mark()).await.unwrap();
        assert!(turn.broken.is_empty(), "{:?}", turn.broken);
        assert_eq!(turn.settled, vec![qfleet_queue::driver::Settled::Done; settle.len()]);
        settled += settle.len();
        let jobs = turn.jobs.iter();
        settle = jobs
            .map(|job| Settlement {
                receipt: job.receipt.clone(),
                verdict: verdict(job.job.as_ref().unwrap()),
            })
            .collect();
        if settled >= count {
            assert!(settle.is_empty(), "more jobs than {count}");
            return;
        }
        assert!(started.elapsed() < SOON, "only {settled} of {count} verdicts");
        if settle.is_empty() {
            let due = turn.next_due.map_or(Duration::from_millis(50), |due| due.since(now()));
            driver.wait(&[DEMO], due.min(Duration::from_secs(1))).await.unwrap();
        }
    }
}

pub(crate) fn now() -> qfleet_model::time::WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    qfleet_model::time::WallTime::from_millis(since.as_millis() as i64)
}

/// Every key there is, as people would compare two of them: dates and times cut off, streams without their ids.
pub(crate) fn dump(redis: &mut redis::Connection) -> BTreeMap<String, Value> {
    let keys: Vec<String> = redis.keys("*").unwrap();
    let mut all = BTreeMap::new();
    for key in keys {
        // Markers only wake; what stands there depends on who sleeps. A check for stalled jobs has its own time.
        if key.ends_with(":marker") || key.ends_with(":stalled-check") || key.ends_with(":stalled") {
            continue;
        }
        let kind: String = redis::cmd("TYPE").arg(&key).query(redis).unwrap();
        let value = match kind.as_str() {
            "string" => json!(redis.get::<_, String>(&key).unwrap()),
            "hash" => json!(redis.hgetall::<_, BTreeMap<String, String>>(&key).unwrap()),
            "list" => json!(redis.lrange::<_, Vec<String>>(&key, 0, -1).unwrap()),
            "set" => json!(redis.smembers::<_, std::collections::BTreeSet<String>>(&key).unwrap()),
            // By member: which of two dates is earlier depends on the clock.
            "zset" => json!(redis.zrange_withscores::<_, BTreeMap<String, String>>(&key, 0, -1).unwrap()),
            _ => {
                let rows: Vec<(String, Vec<String>)> =
                    redis::cmd("XRANGE").arg(&key).arg("-").arg("+").query(redis).unwrap();
                json!(rows.into_iter().map(|(_, fields)| fields).collect::<Vec<_>>())
            }
        };
        all.insert(timeless(&key), timeless_value(value));
    }
    all
}

fn timeless_value(value: Value) -> Value {
    match value {
        Value::String(text) => json!(timeless(&text)),
        Value::Array(items) => items.into_iter().map(timeless_value).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (timeless(&name), timeless_value(value))).collect()
        }
        other => other,
    }
}

/// A text with every date in it as `T`: 13 digits (milliseconds) or 16 and more (scores).
fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for letter in text.chars().chain(['\0']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        out.push_str(if digits.len() >= 13 { "T" } else { &digits });
        digits.clear();
        if letter != '\0' {
            out.push(letter);
        }
    }
    // Parsed and printed again where it is JSON, since the order of keys is arbitrary.
    match serde_json::from_str::<Value>(&out) {
        Ok(value @ Value::Object(_)) => value.to_string(),
        _ => out,
    }
}
