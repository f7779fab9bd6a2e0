//! What only queues of Node's libraries have: locks, stalled jobs, what is kept of finished jobs, limits of starts.

use std::time::Duration;

use qfleet_model::job::Format;

use crate::keys;
use crate::queue::{Connection, Keep, NodeRules, RateLimit};
use crate::section::Section;
use crate::units::shown;
use crate::value::Value;
use crate::written::connection::library;

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// A list of so many minutes is still read at a stretch.
const METRICS: Duration = Duration::from_secs(90 * 86_400);

/// Keys that are for Laravel's queues only, with what to do instead.
const LARAVEL_ONLY: &[(&str, &str)] =
    &[("delay-as-backoff", "remove it: such a job says its `backoff` itself, else the queue does")];

/// What is said of a queue; the rest comes from the layer below.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeWritten {
    lock_duration: Option<Duration>,
    stalled_interval: Option<Duration>,
    max_stalled: Option<u32>,
    keep_completed: Option<Option<Keep>>,
    keep_failed: Option<Option<Keep>>,
    /// In minutes; 0 is off.
    metrics: Option<u32>,
    accept_version: Option<u32>,
}

impl NodeWritten {
    /// This layer over another.
    #[must_use]
    pub(crate) fn over(self, below: &Self) -> Self {
        Self {
            lock_duration: self.lock_duration.or(below.lock_duration),
            stalled_interval: self.stalled_interval.or(below.stalled_interval),
            max_stalled: self.max_stalled.or(below.max_stalled),
            keep_completed: self.keep_completed.or(below.keep_completed),
            keep_failed: self.keep_failed.or(below.keep_failed),
            metrics: self.metrics.or(below.metrics),
            accept_version: self.accept_version.or(below.accept_version),
        }
    }

    /// With the defaults filled in.
    pub(crate) fn rules(&self) -> NodeRules {
        let usual = NodeRules::default();
        NodeRules {
            lock_duration: self.lock_duration.unwrap_or(usual.lock_duration),
            stalled_interval: self.stalled_interval.unwrap_or(usual.stalled_interval),
            max_stalled: self.max_stalled.unwrap_or(usual.max_stalled),
            keep_completed: self.keep_completed.flatten(),
            keep_failed: self.keep_failed.flatten(),
            metrics: self.metrics.unwrap_or(usual.metrics),
            accept_version: self.accept_version,
            ..usual
        }
    }
}

pub(crate) fn read(section: &Section<'_>) -> NodeWritten {
    NodeWritten {
        lock_duration: section.read("lock-duration", |value| value.duration(Duration::from_secs(1)..=DAY)),
        stalled_interval: section
            .read("stalled-interval", |value| value.duration(Duration::from_secs(1)..=DAY)),
        max_stalled: section.read("max-stalled", |value| value.number(0..=1_000_000)),
        keep_completed: section.read("keep-completed", read_keep),
        keep_failed: section.read("keep-failed", read_keep),
        metrics: section.read("metrics", read_metrics),
        accept_version: section.read("accept-version", |value| value.number(1..=1_000_000)),
    }
}

/// `all`, how many, or `{count, age}`. `Some(None)` is all.
fn read_keep(value: &Value<'_>) -> Option<Option<Keep>> {
    let count = |value: &Value<'_>| value.number::<u64>(0..=i64::MAX);
    if !value.is_map() {
        if value.written() == "all" {
            return Some(None);
        }
        return Some(Some(Keep { count: Some(count(value)?), age: None }));
    }
    let section = value.section(&keys::KEEP)?;
    if section.get("count").is_none() && section.get("age").is_none() {
        section.missing("count", "like `{count: 100, age: 1d}`; or write `all`");
        return None;
    }
    let age = section.read("age", |value| value.duration(Duration::from_secs(1)..=YEAR));
    Some(Some(Keep { count: section.read("count", count), age }))
}

/// How far back finished jobs are counted by the minute, in minutes. The libraries take a number of minutes, and a bare
/// number would be seconds here: it needs its unit.
fn read_metrics(value: &Value<'_>) -> Option<u32> {
    if ["0", "off"].contains(&value.written()) {
        return Some(0);
    }
    let text = value.text_or_number()?;
    if let Ok(minutes) = text.trim().parse::<u32>() {
        let meant = shown(Duration::from_secs(u64::from(minutes) * 60));
        value.problem_with_hint("needs a unit", format!("`{minutes}` minutes are `{meant}`"));
        return None;
    }
    let span = value.duration(Duration::from_secs(60)..=METRICS)?;
    u32::try_from(span.as_secs().div_ceil(60)).ok()
}

/// Starts in a time, of queues of any family.
pub(crate) fn read_rate_limit(value: &Value<'_>) -> Option<RateLimit> {
    if !value.is_map() {
        value.problem_with_hint("must be a section", "like `{max: 20, per: 60s}`");
        return None;
    }
    let section = value.section(&keys::RATE_LIMIT)?;
    for (key, hint) in [
        ("max", "starts in one window: `{max: 20, per: 60s}`"),
        ("per", "length of the window: `{max: 20, per: 60s}`"),
    ] {
        if section.get(key).is_none() {
            section.missing(key, hint);
        }
    }
    let max = section.read("max", |value| value.number(1..=i64::from(u32::MAX)));
    let per = section.read("per", |value| value.duration(Duration::from_millis(1)..=YEAR));
    Some(RateLimit { max: max?, per: per? })
}

/// Keys of a queue that its connection's family does not have. `defaults` serve queues of all families.
pub(crate) fn check(queue: &Value<'_>, connection: &Connection) {
    let written = if queue.is_map() { queue.entries().unwrap_or_default() } else { Vec::new() };
    for (key, value) in &written {
        let name = &connection.name;
        match connection.driver {
            Format::Laravel if keys::NODE.contains(&key.as_str()) => {
                let hint = if key == "lock-duration" {
                    "write `retry-after` on the connection"
                } else {
                    "remove it: it is for Bull and BullMQ queues"
                };
                value
                    .problem_at_key(format!("`{key}` is not for the Laravel queues of `{name}`"), Some(hint));
            }
            family @ (Format::Bull | Format::Bullmq) => {
                if let Some((_, hint)) = LARAVEL_ONLY.iter().find(|(only, _)| only == key) {
                    value.problem_at_key(
                        format!("`{key}` is not for the {} queues of `{name}`", library(family)),
                        Some(hint),
                    );
                }
            }
            Format::Laravel => {}
        }
    }
}
