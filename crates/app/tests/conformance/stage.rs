//! What a behaviour is played on: a Redis, a Node process with one of the libraries, a receiver for what handlers get, and
//! fleets that work the queues.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use qfleet_testkit::{Answer, Node, Received, Receiver, RedisServer, eventually};
use redis::Commands as _;
use serde_json::{Value, json};

use crate::support::{Fleet, SOON};

/// One of Node's libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Library {
    /// Its package, as the tests install it.
    package: &'static str,
    /// The driver for it in a manifest.
    pub(crate) driver: &'static str,
}

impl Library {
    pub(crate) fn bullmq5() -> Self {
        Self { package: "bullmq", driver: "bullmq" }
    }

    pub(crate) fn bullmq6() -> Self {
        Self { package: "bullmq6", driver: "bullmq" }
    }

    pub(crate) fn bull4() -> Self {
        Self { package: "bull", driver: "bull" }
    }

    pub(crate) fn is_bull(self) -> bool {
        self.driver == "bull"
    }

    /// The field of a job that counts how often it stalled.
    pub(crate) fn stall_counter(self) -> &'static str {
        if self.is_bull() { "stalledCounter" } else { "stc" }
    }
}

/// The stage of one test.
pub(crate) struct Stage {
    pub(crate) library: Library,
    pub(crate) node: Node,
    pub(crate) receiver: Receiver,
    pub(crate) redis: RedisServer,
}

impl Stage {
    /// A stage whose HTTP handlers answer as told; handlers of a queue get its name as path.
    pub(crate) fn new(
        library: Library,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::on(RedisServer::start(), library, answer)
    }

    /// The same on a server of another kind.
    pub(crate) fn on(
        redis: RedisServer,
        library: Library,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let node = Node::start(library.package, &redis);
        Self { library, node, receiver: Receiver::start(answer), redis }
    }

    /// A second Node process, to be killed.
    pub(crate) fn another_node(&self) -> Node {
        Node::start(self.library.package, &self.redis)
    }

    /// A fleet that works these queues, each with settings in YAML's flow style; all its processes are up.
    pub(crate) fn fleet(&self, queues: &[(&str, &str)]) -> Fleet {
        Fleet::start_and_wait(&self.manifest(queues))
    }

    /// The manifest of such a fleet. Whatever wakes nobody is looked for after a minute.
    pub(crate) fn manifest(&self, queues: &[(&str, &str)]) -> String {
        let (driver, redis, receiver) = (self.library.driver, self.redis.url(), self.receiver.url());
        let mut text =
            format!("connections:\n  shop: {{driver: {driver}, redis: {{url: '{redis}'}}}}\nqueues:\n");
        for (name, more) in queues {
            let handler = if more.starts_with("handler:") {
                String::new()
            } else {
                format!("handler: {{http: '{receiver}/{name}'}}, ")
            };
            let sleep = if more.contains("sleep:") { "" } else { "sleep: 60, " };
            text.push_str(&format!("  {name}: {{{handler}{sleep}{more}}}\n"));
        }
        text
    }

    /// Runs code in Node; gives what it returns.
    #[track_caller]
    pub(crate) fn run(&self, code: &str) -> Value {
        self.node.run(code)
    }

    /// Asks Node until it returns something.
    #[track_caller]
    pub(crate) fn soon(&self, what: &str, code: &str) -> Value {
        eventually(SOON, what, || {
            let value = self.node.run(code);
            (!value.is_null() && value != json!(false)).then_some(value)
        })
    }

    /// Waits until the library's listener has heard so often of an event, and says how often it has then.
    #[track_caller]
    pub(crate) fn heard(&self, queue: &str, event: &str, times: usize) -> usize {
        let code = format!(
            "const heard = kit.seen('{queue}').filter(([event]) => event === '{event}').length
             return heard >= {times} && heard"
        );
        let heard = self.soon(&format!("`{event}` to be heard {times} times of `{queue}`"), &code);
        usize::try_from(heard.as_u64().unwrap()).unwrap()
    }

    /// Waits until a queue has so many completed and failed jobs.
    #[track_caller]
    pub(crate) fn ended(&self, queue: &str, completed: usize, failed: usize) {
        let code = format!(
            "const counts = await kit.queue('{queue}').getJobCounts()
             return counts.completed >= {completed} && counts.failed >= {failed} && counts"
        );
        let what = format!("{completed} completed and {failed} failed jobs in `{queue}`");
        let counts = self.soon(&what, &code);
        assert_eq!(
            (&counts["completed"], &counts["failed"]),
            (&json!(completed), &json!(failed)),
            "{counts}"
        );
    }

    /// What the handlers of a queue got so far.
    pub(crate) fn got(&self, queue: &str) -> Vec<Received> {
        let path = format!("/{queue}");
        self.receiver.requests().into_iter().filter(|request| request.path == path).collect()
    }

    /// Names of the jobs that a queue's handlers got, in order.
    pub(crate) fn names(&self, queue: &str) -> Vec<String> {
        self.got(queue).iter().map(|request| request.header("Job-Name").unwrap().to_owned()).collect()
    }

    /// Waits until the handlers of a queue got so many jobs.
    #[track_caller]
    pub(crate) fn wait_for(&self, queue: &str, count: usize) -> Vec<Received> {
        eventually(SOON, &format!("{count} deliveries from `{queue}`"), || {
            let got = self.got(queue);
            (got.len() >= count).then_some(got)
        })
    }

    /// The hash of a job.
    pub(crate) fn hash(&self, queue: &str, id: &str) -> BTreeMap<String, String> {
        self.redis.connection().hgetall(format!("bull:{queue}:{id}")).unwrap()
    }
}

/// A moment in milliseconds since 1970, as Node counts.
pub(crate) fn millis(at: Instant) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from((now - at.elapsed()).as_millis()).unwrap()
}

/// Says which job it is about, for closures that answer.
pub(crate) fn job(request: &Received) -> &str {
    request.header("Job-Name").unwrap_or_default()
}

/// Which attempt it is.
pub(crate) fn attempt(request: &Received) -> u32 {
    request.header("Job-Attempt").and_then(|text| text.parse().ok()).unwrap_or_default()
}
