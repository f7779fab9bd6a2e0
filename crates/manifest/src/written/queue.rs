//! A queue, or the `defaults` under all of them.

use std::time::Duration;

use qfleet_model::backoff::Backoff;

use crate::handler::Handler;
use crate::keys::{self, Table};
use crate::queue::{Override, RateLimit, Redeliver, Route};
use crate::section::Section;
use crate::value::Value;
use crate::written::handler;
use crate::written::node::{self, NodeWritten};
use crate::written::process::{self, ProcessWritten};
use crate::written::scale::{self, ScaleWritten};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// What is said of a queue; the rest comes from the layer below.
#[derive(Clone, Default)]
pub(crate) struct QueueWritten<'c> {
    /// With its place, since it must exist.
    pub(crate) connection: Option<(String, Value<'c>)>,
    pub(crate) queues: Option<Vec<String>>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) tries: Option<u32>,
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) over: Override,
    pub(crate) sleep: Option<Duration>,
    pub(crate) snooze_max: Option<u32>,
    pub(crate) snooze_age: Option<Duration>,
    pub(crate) max_delay: Option<Duration>,
    pub(crate) delay_as_backoff: Option<bool>,
    pub(crate) redeliver: Option<Redeliver>,
    pub(crate) handler: Option<Handler>,
    pub(crate) routes: Option<Vec<Route>>,
    /// A handler or routes are in the file, right or wrong.
    pub(crate) has_handler: bool,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) node: NodeWritten,
    pub(crate) process: ProcessWritten,
    pub(crate) worker: WorkerWritten,
}

/// What only worker processes have. `Some(None)` switches a limit of the layer below off.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerWritten {
    pub(crate) max_time: Option<Option<Duration>>,
    pub(crate) max_jobs: Option<Option<u64>>,
    pub(crate) memory: Option<Option<u64>>,
    pub(crate) start_wait: Option<Duration>,
    pub(crate) overlap: Option<bool>,
    pub(crate) kill_after: Option<Duration>,
    pub(crate) scale: ScaleWritten,
}

impl WorkerWritten {
    #[must_use]
    pub(crate) fn over(self, below: &Self) -> Self {
        Self {
            max_time: self.max_time.or(below.max_time),
            max_jobs: self.max_jobs.or(below.max_jobs),
            memory: self.memory.or(below.memory),
            start_wait: self.start_wait.or(below.start_wait),
            overlap: self.overlap.or(below.overlap),
            kill_after: self.kill_after.or(below.kill_after),
            scale: self.scale.over(&below.scale),
        }
    }
}

impl QueueWritten<'_> {
    /// This layer over another.
    #[must_use]
    pub(crate) fn over(self, below: &Self) -> Self {
        Self {
            connection: self.connection.or_else(|| below.connection.clone()),
            queues: self.queues,
            concurrency: self.concurrency.or(below.concurrency),
            tries: self.tries.or(below.tries),
            timeout: self.timeout.or(below.timeout),
            backoff: self.backoff.or_else(|| below.backoff.clone()),
            over: Override {
                tries: self.over.tries.or(below.over.tries),
                timeout: self.over.timeout.or(below.over.timeout),
                backoff: self.over.backoff.or_else(|| below.over.backoff.clone()),
            },
            sleep: self.sleep.or(below.sleep),
            snooze_max: self.snooze_max.or(below.snooze_max),
            snooze_age: self.snooze_age.or(below.snooze_age),
            max_delay: self.max_delay.or(below.max_delay),
            delay_as_backoff: self.delay_as_backoff.or(below.delay_as_backoff),
            redeliver: self.redeliver.or(below.redeliver),
            handler: self.handler.or_else(|| below.handler.clone()),
            routes: self.routes.or_else(|| below.routes.clone()),
            has_handler: self.has_handler || below.has_handler,
            rate_limit: self.rate_limit,
            node: self.node.over(&below.node),
            process: self.process.over(&below.process),
            worker: self.worker.over(&below.worker),
        }
    }
}

pub(crate) fn read<'c>(value: &Value<'c>, table: &'static Table) -> Option<QueueWritten<'c>> {
    let section = value.section(table)?;
    let over = section.read("override", read_override).unwrap_or_default();
    let queues = if table.knows("queue") { section.read("queue", read_names) } else { None };
    let rate_limit =
        if table.knows("rate-limit") { section.read("rate-limit", node::read_rate_limit) } else { None };
    Some(QueueWritten {
        connection: section.read("connection", |value| Some((value.line()?, value.clone()))),
        queues,
        concurrency: section.read("concurrency", read_concurrency),
        tries: section.read("tries", read_tries),
        timeout: section.read("timeout", read_timeout),
        backoff: section.read("backoff", read_backoff),
        over,
        sleep: section.read("sleep", read_sleep),
        snooze_max: section.read("snooze-max", |value| value.number(0..=1_000_000)),
        snooze_age: section.read("snooze-age", |value| value.duration(Duration::ZERO..=YEAR)),
        max_delay: section.read("max-delay", |value| value.duration(Duration::from_secs(1)..=YEAR)),
        delay_as_backoff: section.read("delay-as-backoff", Value::flag),
        redeliver: section.read("redeliver", |value| {
            value.word(&[("at-once", Redeliver::AtOnce), ("after-deadline", Redeliver::AfterDeadline)], &[])
        }),
        handler: section.read("handler", handler::read),
        routes: section.read("routes", handler::read_routes),
        has_handler: section.get("handler").is_some() || section.get("routes").is_some(),
        rate_limit,
        node: node::read(&section),
        process: process::read(&section),
        worker: read_worker(&section),
    })
}

/// Keys that only the processes of a queue have; a queue in a pool must not have them.
pub(crate) fn process_keys<'c>(value: &Value<'c>) -> Vec<(String, Value<'c>)> {
    let of_processes =
        |name: &str| keys::POOL.knows(name) && !["queues", "concurrency", "sleep"].contains(&name);
    let entries = if value.is_map() { value.entries().unwrap_or_default() } else { Vec::new() };
    entries.into_iter().filter(|(name, _)| of_processes(name)).collect()
}

pub(crate) fn read_worker(section: &Section<'_>) -> WorkerWritten {
    WorkerWritten {
        max_time: section.read("max-time", |value| {
            process::switchable(value, |value| value.duration(Duration::from_secs(1)..=YEAR))
        }),
        max_jobs: section
            .read("max-jobs", |value| process::switchable(value, |value| value.number(1..=i64::MAX))),
        memory: section.read("memory", |value| {
            process::switchable(value, |value| value.size(4 * 1024 * 1024..=1 << 50))
        }),
        overlap: section.read("overlap", Value::flag),
        start_wait: section
            .read("start-wait", |value| value.duration(Duration::from_secs(1)..=Duration::from_secs(3_600))),
        kill_after: section
            .read("kill-after", |value| value.duration(Duration::ZERO..=process::LONGEST_STOP)),
        scale: section.read("scale", scale::read).unwrap_or_default(),
    }
}

pub(crate) fn read_concurrency(value: &Value<'_>) -> Option<u32> {
    value.number(1..=100_000)
}

pub(crate) fn read_sleep(value: &Value<'_>) -> Option<Duration> {
    value.duration(Duration::from_millis(10)..=Duration::from_secs(3_600))
}

fn read_tries(value: &Value<'_>) -> Option<u32> {
    value.number(0..=i64::from(u32::MAX))
}

/// Zero is unlimited.
pub(crate) fn read_timeout(value: &Value<'_>) -> Option<Option<Duration>> {
    let timeout = value.duration(Duration::ZERO..=YEAR)?;
    Some((!timeout.is_zero()).then_some(timeout))
}

fn read_override(value: &Value<'_>) -> Option<Override> {
    let section = value.section(&keys::OVERRIDE)?;
    Some(Override {
        tries: section.read("tries", read_tries),
        timeout: section.read("timeout", read_timeout),
        backoff: section.read("backoff", read_backoff),
    })
}

/// A pause, a list of them, or `{type, delay}`.
fn read_backoff(value: &Value<'_>) -> Option<Backoff> {
    let pause = |value: &Value<'_>| value.duration(Duration::ZERO..=DAY);
    if value.is_list() {
        let items = value.list()?;
        if items.is_empty() {
            value.problem_with_hint("is an empty list", "no pause is written `0`");
        }
        let steps: Vec<Duration> = items.iter().filter_map(pause).collect();
        return (steps.len() == items.len() && !steps.is_empty()).then_some(Backoff::Steps(steps));
    }
    if !value.is_map() {
        // artisan takes `--backoff=1,5,10`; as text it is one value here.
        if value.written().contains(',') {
            value.problem_with_hint("several pauses are a list", format!("write `[{}]`", value.written()));
            return None;
        }
        return pause(value).map(Backoff::Fixed);
    }
    let section = value.section(&keys::BACKOFF)?;
    if section.get("delay").is_none() {
        section.missing("delay", "like `{type: exponential, delay: 5s}`");
    }
    let delay = section.read("delay", pause);
    let exponential =
        section.read("type", |value| value.word(&[("exponential", true), ("fixed", false)], &["custom"]));
    if section.get("type").is_none() {
        section.missing("type", "`exponential` or `fixed`");
    }
    let (delay, exponential) = (delay?, exponential?);
    Some(if exponential { Backoff::Exponential(delay) } else { Backoff::Fixed(delay) })
}

/// Names of queues in Redis, most important first.
fn read_names(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.list_or_one()?;
    if items.is_empty() {
        value.problem_with_hint("names no queue", "remove it to use the key itself as name");
        return None;
    }
    let mut names = Vec::new();
    for item in &items {
        let Some(name) = item.line() else { continue };
        if name.contains(',') {
            item.problem_with_hint("several queues are a list", format!("write `[{name}]`"));
        } else if names.contains(&name) {
            item.problem(format!("the queue `{name}` is here twice"));
        } else {
            names.push(name);
        }
    }
    Some(names)
}
