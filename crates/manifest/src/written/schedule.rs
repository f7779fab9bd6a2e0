//! A schedule: a command that runs at its dates.

use std::time::Duration;

use jiff::tz::TimeZone;
use qfleet_model::schedule::{Missed, Overlap, Timetable};
use qfleet_model::time::WallTime;

use crate::keys;
use crate::section::Section;
use crate::units::shown;
use crate::value::Value;
use crate::written::process::{self, ProcessWritten};
use crate::written::program;
use crate::written::queue::read_timeout;

const DAY: Duration = Duration::from_secs(86_400);

/// Dates look the same from everywhere; this is where their distance is measured (1 January 2026).
const SOME_DATE: WallTime = WallTime::from_seconds(1_767_225_600);

/// What a schedule has beyond its process.
pub(crate) struct ScheduleWritten<'c> {
    pub(crate) argv: Vec<String>,
    pub(crate) cron: Option<(String, Value<'c>)>,
    pub(crate) zone: Option<TimeZone>,
    pub(crate) overlap: Overlap,
    pub(crate) timeout: Option<Duration>,
    pub(crate) jitter: Option<(Duration, Value<'c>)>,
    pub(crate) missed: Missed,
    pub(crate) once: Option<(OnceWritten, Value<'c>)>,
    pub(crate) exitcodes: Vec<i32>,
    pub(crate) stop_signal: i32,
    pub(crate) redirect_stderr: bool,
    pub(crate) process: ProcessWritten,
}

/// Over which Redis the hosts agree.
pub(crate) enum OnceWritten {
    /// That of the whole manifest.
    Redis,
    /// That of a connection.
    Connection(String),
}

pub(crate) fn read<'c>(value: &Value<'c>) -> Option<ScheduleWritten<'c>> {
    let section = value.section(&keys::SCHEDULE)?;
    if section.get("cron").is_none() {
        section.missing("cron", "when it runs, like `cron: \"* * * * *\"` for each minute");
    }
    if section.get("command").is_none() {
        section.missing("command", "what to execute, like `command: php artisan schedule:run`");
    }
    program::without_expansions(&section);
    let overlaps =
        [Overlap::Skip, Overlap::Queue, Overlap::Kill, Overlap::Allow].map(|rule| (rule.key(), rule));
    let missed = [Missed::Skip, Missed::RunOnce].map(|rule| (rule.key(), rule));
    Some(ScheduleWritten {
        argv: section.read("command", program::read_command).unwrap_or_default(),
        cron: read_with(&section, "cron", Value::line),
        zone: section.read("timezone", read_zone),
        overlap: section.read("overlap", |value| value.word(&overlaps, &[])).unwrap_or(Overlap::Skip),
        timeout: section.read("timeout", read_timeout).flatten(),
        jitter: read_with(&section, "jitter", |value| value.duration(Duration::ZERO..=DAY)),
        missed: section.read("missed", |value| value.word(&missed, &[])).unwrap_or(Missed::Skip),
        once: read_with(&section, "once", read_once),
        exitcodes: program::read_exitcodes(&section).unwrap_or_else(|| vec![0]),
        stop_signal: section.read("stop-signal", Value::signal).unwrap_or(15),
        redirect_stderr: section.read("redirect-stderr", Value::flag).unwrap_or(false),
        process: process::read_run(&section),
    })
}

/// What a key says, with its place.
fn read_with<'c, T>(
    section: &Section<'c>,
    key: &str,
    read: impl FnOnce(&Value<'c>) -> Option<T>,
) -> Option<(T, Value<'c>)> {
    let value = section.get(key)?;
    Some((read(value)?, value.clone()))
}

/// A name of the time zone database.
pub(crate) fn read_zone(value: &Value<'_>) -> Option<TimeZone> {
    let name = value.line()?;
    let zone = value.context.world.time_zone(&name);
    if zone.is_none() {
        value.problem_with_hint(
            format!("there is no time zone `{name}`"),
            "write it as `Europe/Paris`; all but `UTC` need the system's time zone database (the package `tzdata`)",
        );
    }
    zone
}

fn read_once(value: &Value<'_>) -> Option<OnceWritten> {
    if !value.is_map() {
        return value.word(&[("redis", ())], &[]).map(|()| OnceWritten::Redis);
    }
    let section = value.section(&keys::ONCE)?;
    if section.get("connection").is_none() {
        section.missing("connection", "or write `once: redis` for the Redis of the whole manifest");
    }
    section.read("connection", Value::line).map(OnceWritten::Connection)
}

/// The pattern in its zone, if that is one; what is wrong with it is noted.
pub(crate) fn timetable(written: &ScheduleWritten<'_>, zone: TimeZone) -> Option<Timetable> {
    let (pattern, value) = written.cron.as_ref()?;
    let table = match Timetable::new(pattern, zone) {
        Ok(table) => table,
        Err(bad) => {
            match bad.hint {
                Some(hint) => value.problem_with_hint(bad.what, hint),
                None => value.problem(bad.what),
            }
            return None;
        }
    };
    if let Some((jitter, value)) = &written.jitter
        && let Some(interval) = table.shortest_interval(SOME_DATE)
        && *jitter >= interval
    {
        value.problem(format!("must be shorter than the time between two dates, {}", shown(interval)));
    }
    Some(table)
}
