//! The whole file as written.

use jiff::tz::TimeZone;

use crate::keys;
use crate::names;
use crate::queue::{Connection, FailedJobs, RedisSettings};
use crate::section::Section;
use crate::settings::{Control, Logging, Overall};
use crate::value::Value;
use crate::written::pool::{self, PoolWritten};
use crate::written::program::{self, ProgramWritten};
use crate::written::queue::{self, QueueWritten};
use crate::written::scale::{self, BudgetWritten};
use crate::written::schedule::{self, ScheduleWritten};
use crate::written::{connection, daemon, redis};

/// Something with a name, and where it is.
pub(crate) struct Named<'c, T> {
    pub(crate) name: String,
    pub(crate) value: Value<'c>,
    pub(crate) written: T,
}

pub(crate) struct Document<'c> {
    /// The whole file.
    pub(crate) root: Value<'c>,
    pub(crate) redis: RedisSettings,
    pub(crate) connections: Vec<Connection>,
    pub(crate) defaults: QueueWritten<'c>,
    pub(crate) queues: Vec<Named<'c, QueueWritten<'c>>>,
    pub(crate) pools: Vec<Named<'c, PoolWritten<'c>>>,
    pub(crate) programs: Vec<Named<'c, ProgramWritten>>,
    pub(crate) schedules: Vec<Named<'c, ScheduleWritten<'c>>>,
    /// Of schedules that have none of their own.
    pub(crate) zone: Option<TimeZone>,
    pub(crate) budgets: Vec<Named<'c, BudgetWritten<'c>>>,
    pub(crate) failed_jobs: FailedJobs,
    pub(crate) control: Control,
    pub(crate) logging: Logging,
    pub(crate) overall: Overall,
    /// Names of connections that are in the file but wrong, so that using them is no second problem.
    pub(crate) broken_connections: Vec<String>,
    /// Names of all queues that are in the file.
    queue_names: Vec<String>,
}

impl<'c> Document<'c> {
    /// Where a key of a group is written: with the group, or in the layer below.
    pub(crate) fn written_at(&self, group: &str, key: &str) -> Option<Value<'c>> {
        let named = |of: &str, value: &Value<'c>| (of == group).then(|| value.clone());
        let queues = self.queues.iter().filter_map(|queue| named(&queue.name, &queue.value));
        let pools = self.pools.iter().filter_map(|pool| named(&pool.name, &pool.value));
        let programs = self.programs.iter().filter_map(|program| named(&program.name, &program.value));
        let schedules = self.schedules.iter().filter_map(|schedule| named(&schedule.name, &schedule.value));
        let own = queues
            .chain(pools)
            .chain(programs)
            .chain(schedules)
            .next()
            .and_then(|value| value.child_at(&[key]));
        own.or_else(|| self.root.child_at(&["defaults", key]))
    }

    /// Whether a queue of this name is in the file, right or wrong.
    pub(crate) fn queue_is_named(&self, name: &str) -> bool {
        self.queue_names.iter().any(|known| known == name)
    }
}

pub(crate) fn read<'c>(root: &Value<'c>) -> Option<Document<'c>> {
    let entries = root.entries()?;
    // Sections for the author's own use, such as YAML anchors.
    let entries = entries.into_iter().filter(|(name, _)| !name.starts_with("x-")).collect();
    let section = Section::open(root.clone(), &keys::DOCUMENT, entries);
    let redis = section.read("redis", redis::read).unwrap_or_else(redis::local);
    let connections =
        section.get("connections").map(|value| connection::read_all(value, &redis)).unwrap_or_default();
    let broken_connections = broken_connections(&section, &connections);
    Some(Document {
        root: root.clone(),
        redis,
        connections,
        broken_connections,
        queue_names: names_in(&section, "queues"),
        defaults: section.read("defaults", |value| queue::read(value, &keys::DEFAULTS)).unwrap_or_default(),
        queues: named(&section, "queues", |value| queue::read(value, &keys::QUEUE)),
        pools: named(&section, "pools", pool::read),
        programs: named(&section, "programs", program::read),
        schedules: named(&section, "schedules", schedule::read),
        zone: section.read("timezone", schedule::read_zone),
        budgets: named(&section, "budgets", scale::read_budget),
        failed_jobs: section.read("failed-jobs", connection::read_failed_jobs).unwrap_or(FailedJobs::Redis),
        control: section.read("control", daemon::read_control).unwrap_or_else(daemon::default_control),
        logging: section.read("logging", daemon::read_logging).unwrap_or_else(daemon::default_logging),
        overall: daemon::read_overall(&section),
    })
}

fn named<'c, T>(
    section: &Section<'c>,
    key: &str,
    read: impl Fn(&Value<'c>) -> Option<T>,
) -> Vec<Named<'c, T>> {
    let entries = section.get(key).and_then(Value::entries).unwrap_or_default();
    let named = entries.into_iter().filter(|(name, value)| names::check(name, value));
    named.filter_map(|(name, value)| Some(Named { name, written: read(&value)?, value })).collect()
}

fn broken_connections(section: &Section<'_>, good: &[Connection]) -> Vec<String> {
    let all = names_in(section, "connections").into_iter();
    all.filter(|name| !good.iter().any(|connection| connection.name == *name)).collect()
}

fn names_in(section: &Section<'_>, key: &str) -> Vec<String> {
    let entries = section.get(key).filter(|value| value.is_map()).and_then(Value::entries);
    entries.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}
