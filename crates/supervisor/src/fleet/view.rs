//! What others see: the fleet's own record of each process, and the snapshot made of it for a reader.
//!
//! The record holds nothing that changes by itself, so it is published only when something happened; how long a process
//! has been up is worked out when somebody looks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use qfleet_manifest::probes::Sign;
use qfleet_manifest::settings::Work;
use qfleet_manifest::units::shown;
use qfleet_model::name::ProcessName;
use qfleet_model::process::{Pid, ProcessState};
use qfleet_model::snapshot::{
    FleetSnapshot, GroupView, Keeping, ProcessView, ScaleView, ScheduleView, StateWord, Upgrade,
};
use qfleet_model::time::{Moment, WallTime};
use qfleet_model::words::counted;

use super::farewell::Waits;
use super::group::Group;
use super::slot::Slot;
use super::watches::{Watch, watches};
use super::{Fleet, SlotId};
use crate::runtime::Stuck;

/// The published record of the whole fleet.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The daemon's process number.
    pub pid: Pid,
    /// When it began.
    pub started_at: Option<WallTime>,
    /// Draining has begun.
    pub shutting_down: bool,
    /// What the end waits for.
    waits: Option<Waits>,
    /// The last attempt to put another program in the daemon's place.
    pub upgrade: Option<Upgrade>,
    /// A manifest that is being read without end.
    pub stuck: Option<Stuck>,
    /// Groups in manifest order.
    pub groups: Vec<GroupView>,
    /// Processes, group by group, by number.
    pub processes: Vec<Arc<ProcessSeen>>,
}

/// The published record of one process.
#[derive(Debug, Clone)]
pub struct ProcessSeen {
    /// Its slot.
    pub slot: SlotId,
    /// Its name, taken apart.
    pub name: ProcessName,
    /// Everything but the description.
    pub view: ProcessView,
    /// When its living child was spawned.
    spawned: Option<Moment>,
    /// What the description ends with.
    suffix: String,
    /// When it is tried once more, after it was given up.
    tried_at: Option<Moment>,
    /// What the start of its process waits for.
    waits: Option<Arc<str>>,
    /// What to watch of it.
    pub watches: Vec<Watch>,
}

impl Fleet {
    /// The record as it is now. `pid` and `started_at` are the daemon's.
    pub fn seen(&mut self, pid: Pid, started_at: WallTime) -> Seen {
        let mut seen = Seen {
            pid,
            started_at: Some(started_at),
            shutting_down: self.phase.is_ending(),
            waits: self.waits(),
            upgrade: None,
            stuck: None,
            groups: Vec::with_capacity(self.order.len()),
            processes: Vec::with_capacity(self.slots.len()),
        };
        for group in self.order.iter().filter_map(|id| self.groups.get(id)) {
            seen.groups.push(group_view(group));
            let (scaled, rolls) = (scaled(group), group.rollout.is_some());
            let schedule = group.schedule_view(&self.slots);
            for id in &group.slots {
                let Some(slot) = self.slots.get_mut(id) else { continue };
                let suffix = suffix(slot, &scaled, rolls);
                let process = match slot.seen.take() {
                    Some(process) if process.suffix == suffix => process,
                    _ => Arc::new(process_seen(slot, suffix, schedule.as_ref())),
                };
                slot.seen = Some(process.clone());
                seen.processes.push(process);
            }
        }
        seen
    }
}

fn group_view(group: &Group) -> GroupView {
    GroupView {
        name: group.spec.settings.name.clone(),
        kind: group.spec.kind(),
        numprocs: group.width(),
        manifest_numprocs: group.scaled.map(|_| group.spec.settings.process.numprocs),
        rollout: group.rollout.as_ref().map(|running| running.rollout.progress()),
        crash_loop: group.breaker.is_open().then(|| group.breaker.why()),
        scale: group.spec.settings.process.scale.as_ref().map(|rule| ScaleView {
            min: rule.min,
            max: rule.max,
            budget: rule.budget.as_ref().map(|budget| budget.name.clone()),
            why: group.scaler.why().to_owned(),
        }),
    }
}

fn scaled(group: &Group) -> String {
    let process = &group.spec.settings.process;
    match (group.scaled, &process.scale) {
        (Some(to), Some(rule)) => format!(", scaled {to}, manifest {}", rule.range()),
        (Some(to), None) => format!(", scaled {to}, manifest {}", process.numprocs),
        (None, Some(rule)) if !group.removed => format!(", {} of {}", group.width(), rule.range()),
        (None, _) => String::new(),
    }
}

/// What was decided about its number, after whatever else there is to say. `rolls`: a rolling restart is under way.
fn suffix(slot: &Slot, scaled: &str, rolls: bool) -> String {
    let paused = slot.report.as_ref().map(|report| report.paused.as_slice()).unwrap_or_default();
    let lanes = match &slot.spec.settings.work {
        Work::Queue(settings) | Work::Pool(settings) => settings.lanes.len(),
        Work::Program { .. } | Work::Schedule(_) => 0,
    };
    let stays_behind = slot.outdated && !rolls && slot.is_up();
    let earlier = if stays_behind { ", has earlier settings" } else { "" };
    let scaled = match (&slot.ailment, &slot.state) {
        (Some(ailment), ProcessState::Running { .. }) => format!("{earlier}, {ailment}{scaled}"),
        (Some(_) | None, _) => format!("{earlier}{scaled}"),
    };
    match paused {
        [] => scaled,
        all if all.len() >= lanes => format!("{scaled} (paused)"),
        some => format!("{scaled} (paused: {})", some.join(", ")),
    }
}

fn process_seen(slot: &Slot, suffix: String, schedule: Option<&ScheduleView>) -> ProcessSeen {
    let (spawned, waits) = match &slot.state {
        ProcessState::Running { spawned, .. } => (Some(*spawned), None),
        ProcessState::Spawning { .. } => {
            (None, slot.hindrance.as_ref().map(|hindrance| hindrance.words.clone()))
        }
        ProcessState::Starting { old_worker: Some(pid), .. } => {
            (None, Some(Arc::from(format!("waiting for old worker pid {pid}"))))
        }
        ProcessState::Starting { ready: false, old_worker: None, failure: None, .. }
            if slot.ailment.is_none() =>
        {
            let ready = slot.spec.settings.process.ready.as_ref();
            let speaks = ready.is_some_and(|ready| ready.sign == Sign::Notify);
            (None, speaks.then(|| Arc::from("not ready yet: waiting for its `READY=1`")))
        }
        ProcessState::Starting { old_worker: None, .. } => (None, slot.ailment.as_deref().map(Arc::from)),
        ProcessState::Stopping { fault: Some(fault), .. } => (None, Some(Arc::from(&*fault.why))),
        ProcessState::Stopped
        | ProcessState::Stopping { fault: None, .. }
        | ProcessState::Backoff { .. }
        | ProcessState::Exited { .. }
        | ProcessState::Fatal { .. } => (None, None),
    };
    let tried_at = slot.due().filter(|_| matches!(slot.state, ProcessState::Fatal { .. }));
    let view = ProcessView {
        name: slot.label.to_string(),
        group: slot.name.group.clone(),
        number: slot.name.number,
        state: slot.state.word(),
        pid: slot.state.pid(),
        since: slot.since,
        exit: slot.exit.clone(),
        description: String::new(),
        error: slot.error.clone(),
        started_at: slot.started_at,
        stopped_at: slot.stopped_at,
        crashes: slot.crashes,
        report: slot.report.clone(),
        tree: Keeping::default(),
        schedule: schedule.cloned(),
    };
    ProcessSeen {
        slot: slot.id,
        name: slot.name.clone(),
        view,
        spawned,
        tried_at,
        suffix,
        waits,
        watches: watches(slot),
    }
}

/// The snapshot for somebody who looks now, with dates in their time zone.
#[must_use]
pub fn render(seen: &Seen, now: Moment, zone: &TimeZone) -> FleetSnapshot {
    let view = |process: &Arc<ProcessSeen>| ProcessView {
        description: describe(process, now, zone),
        ..process.view.clone()
    };
    FleetSnapshot {
        pid: seen.pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: seen.started_at,
        shutting_down: seen.shutting_down,
        ending: seen.waits.as_ref().map(|waits| waits.said(now)),
        upgrade: seen.upgrade.clone(),
        reading: seen.stuck.as_ref().map(|stuck| stuck.said(now)),
        groups: seen.groups.clone(),
        processes: seen.processes.iter().map(view).collect(),
    }
}

/// supervisorctl's third column.
fn describe(process: &ProcessSeen, now: Moment, zone: &TimeZone) -> String {
    let view = &process.view;
    let mut text = match (view.state, view.pid) {
        (StateWord::Running, Some(pid)) => {
            let up = process.spawned.map(|spawned| now.since(spawned)).unwrap_or_default();
            format!("pid {pid}, uptime {}", uptime(up))
        }
        (StateWord::Starting, _) => process.waits.as_deref().unwrap_or_default().to_owned(),
        (StateWord::Stopping, _) if process.waits.is_some() => {
            process.waits.as_deref().unwrap_or_default().to_owned()
        }
        (StateWord::Stopping, _) => match view.report.as_ref().map(|report| report.running) {
            Some(jobs) if jobs > 0 => format!("waiting for {}", counted(jobs, "job", "jobs")),
            Some(_) | None => String::new(),
        },
        (StateWord::Fatal, _) if view.schedule.is_some() => String::new(),
        (StateWord::Backoff | StateWord::Fatal, _) => {
            view.error.clone().unwrap_or_else(|| String::from("unknown error"))
        }
        (StateWord::Stopped | StateWord::Exited, _) if view.schedule.is_some() => String::new(),
        (StateWord::Stopped | StateWord::Exited, _) => match view.stopped_at {
            Some(at) => date(at, zone),
            None => String::from("Not started"),
        },
        (StateWord::Running | StateWord::Unknown, _) => String::new(),
    };
    if let Some(at) = process.tried_at {
        text.push_str(&format!("; tried once more in {}", rounded(at.since(now))));
    }
    if let Some(schedule) = &view.schedule {
        for part in dates(schedule, view.state.is_down(), zone) {
            text.push_str(", ");
            text.push_str(&part);
        }
    }
    text.push_str(&process.suffix);
    if text.starts_with(", ") {
        text.drain(..2);
    }
    text
}

/// What there is to say of a schedule: its last run, while none is under way, and its next.
fn dates(schedule: &ScheduleView, at_rest: bool, zone: &TimeZone) -> Vec<String> {
    let mut parts = Vec::new();
    match &schedule.last {
        Some(last) if at_rest => {
            let took = last.began.map_or_else(String::new, |_| format!(" after {}", uptime(last.took)));
            parts.push(format!("last {} {}{took}", date(last.ended, zone), last.end.said()));
        }
        None if at_rest => parts.push(String::from("Not started")),
        Some(_) | None => {}
    }
    parts.push(match (schedule.held, schedule.waits, schedule.next) {
        (true, _, _) => String::from("held by a `stop`"),
        (false, Some(_), _) => String::from("next when this run is over"),
        (false, None, Some(next)) => format!("next {}", date(next, zone)),
        (false, None, None) => String::from("has no more dates"),
    });
    parts
}

/// A pause as people say it.
fn rounded(pause: Duration) -> String {
    let seconds = pause.as_secs();
    shown(Duration::from_secs(if seconds > 3600 { seconds - seconds % 60 } else { seconds }))
}

/// `0:00:03`, `23:59:59`, `1 day, 2:03:04`, `2 days, 0:00:00`.
fn uptime(up: Duration) -> String {
    let seconds = up.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        _ => format!("{days} days, {clock}"),
    }
}

/// `Nov 20 11:21 PM`, in local time.
fn date(at: WallTime, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(at.as_millis()) {
        Ok(stamp) => stamp.to_zoned(zone.clone()).strftime("%b %d %I:%M %p").to_string(),
        Err(_) => String::from("out of range"),
    }
}

/// The name that looks most like what was typed, if any does.
pub(crate) fn similar<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let scored = names.into_iter().map(|name| (strsim::damerau_levenshtein(typed, name), name));
    let (distance, name) = scored.min()?;
    (distance <= typed.len().max(name.len()) / 3).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_written_as_supervisorctl_writes_it() {
        for (seconds, text) in [
            (0, "0:00:00"),
            (3, "0:00:03"),
            (3661, "1:01:01"),
            (86_399, "23:59:59"),
            (86_400 + 7384, "1 day, 2:03:04"),
            (2 * 86_400, "2 days, 0:00:00"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn dates_are_local_and_short() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(date(WallTime::from_seconds(1_795_209_660), &zone), "Nov 20 11:21 PM");
        assert_eq!(date(WallTime::from_seconds(1_767_225_665), &TimeZone::UTC), "Jan 01 12:01 AM");
    }

    #[test]
    fn only_names_that_are_close_are_suggested() {
        let names = ["messages", "messages:messages_00", "emails"];
        assert_eq!(similar("mesages", names).as_deref(), Some("messages"));
        assert_eq!(similar("webhooks", names), None);
    }
}
