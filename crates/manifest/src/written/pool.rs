//! A pool: several queues in the same worker processes.

use std::time::Duration;

use crate::keys;
use crate::value::Value;
use crate::written::process::{self, ProcessWritten};
use crate::written::queue::{self, WorkerWritten};

pub(crate) struct PoolWritten<'c> {
    /// Members with their places, since they must exist.
    pub(crate) queues: Vec<(String, Value<'c>)>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) sleep: Option<Duration>,
    /// Where it says that each queue is to be seen.
    pub(crate) presence: Option<Value<'c>>,
    pub(crate) process: ProcessWritten,
    pub(crate) worker: WorkerWritten,
}

pub(crate) fn read<'c>(value: &Value<'c>) -> Option<PoolWritten<'c>> {
    let section = value.section(&keys::POOL)?;
    let members = section.read("queues", Value::list).unwrap_or_default();
    if section.get("queues").is_none() || section.get("queues").is_some_and(Value::is_empty) {
        section.missing("queues", "name the queues that share these processes: `queues: [a, b]`");
    } else if members.is_empty()
        && let Some(value) = section.get("queues").filter(|value| value.is_list())
    {
        value.problem("names no queue");
    }
    Some(PoolWritten {
        queues: members.into_iter().filter_map(|member| Some((member.line()?, member))).collect(),
        concurrency: section.read("concurrency", queue::read_concurrency),
        sleep: section.read("sleep", queue::read_sleep),
        presence: section.read("presence", read_presence).flatten(),
        process: process::read(&section),
        worker: queue::read_worker(&section),
    })
}

/// The place of `all`; `none` is what there is without it.
fn read_presence<'c>(value: &Value<'c>) -> Option<Option<Value<'c>>> {
    let all = value.word(&[("none", false), ("all", true)], &[])?;
    Some(all.then(|| value.clone()))
}
