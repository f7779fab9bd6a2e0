//! Schedules: when a date has come, what becomes of it, and what is remembered of runs.
//!
//! A schedule is a group with one slot, at rest between its runs. Where runs may overlap it gets another slot whenever all
//! it has are busy, up to [`MOST_AT_ONCE`]; they stay, with the last output of each. The dates come from the wall clock and
//! its rules from `model`; the timer is monotonic and set anew whenever the wall clock was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::settings::{Missed, Overlap, ScheduleSettings, Work};
use qfleet_model::process::{Patience, ProcessEvent, ProcessState};
use qfleet_model::schedule::{Course, Timetable, Turn, delay, turn};
use qfleet_model::snapshot::{RunEnd, RunView, ScheduleView};
use qfleet_model::time::{Moment, WallTime};
use serde::{Deserialize, Serialize};

use super::group::{Group, GroupId, Spec};
use super::slot::Slot;
use super::{Effect, Fleet, Now, SlotId, Timer};

/// Runs of one schedule that may overlap; a date that comes while so many are under way is left out.
pub(super) const MOST_AT_ONCE: u32 = 8;

/// Hosts agree about a date at least this long: their clocks differ.
const AGREED_FOR: Duration = Duration::from_secs(600);

/// What is remembered of a schedule.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Schedule {
    course: Course,
    /// Slots that were ever needed at once, if not one.
    more: u32,
    /// Runs that were asked for and are not over.
    runs: BTreeMap<SlotId, Run>,
    /// A date that waits for the end of the run before.
    waits: Option<WallTime>,
    last: Option<RunView>,
    missed: u64,
    left_out: u64,
    /// When to look at it again.
    pub(super) due_at: Option<Moment>,
}

/// A run that is not over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Run {
    /// The date it is for; `None`: somebody wants it now.
    date: Option<WallTime>,
    began: Option<(Moment, WallTime)>,
    /// It is stopped then.
    deadline: Option<Moment>,
    /// Why we stopped it.
    cut: Option<Cut>,
    /// Another host has this date.
    elsewhere: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Cut {
    TimedOut,
    Replaced,
}

/// What the child of a run has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFor {
    /// The date it runs for.
    pub date: WallTime,
    /// So long nobody else may take the same date.
    pub agreed_for: Duration,
}

impl Spec {
    pub(super) fn schedule(&self) -> Option<&ScheduleSettings> {
        match &self.settings.work {
            Work::Schedule(settings) => Some(settings),
            Work::Queue(_) | Work::Pool(_) | Work::Program { .. } => None,
        }
    }
}

impl Schedule {
    /// Slots there should be.
    pub(super) fn width(&self) -> u32 {
        1 + self.more
    }
}

impl Group {
    /// Takes care that a group that is a schedule has what schedules have, and one that is none has not.
    pub(super) fn keep_schedule(&mut self, before: Option<&Timetable>, now: Now) {
        let Some(timetable) = &self.spec.timetable else {
            self.schedule = None;
            return;
        };
        let schedule = self.schedule.get_or_insert_default();
        if self.spec.schedule().is_none_or(|settings| settings.overlap != Overlap::Allow) {
            schedule.more = 0;
        }
        if before != Some(timetable) {
            schedule.course.follow(timetable, now.wall);
        }
    }

    /// What others see of the schedule.
    pub(super) fn schedule_view(&self, slots: &BTreeMap<SlotId, Slot>) -> Option<ScheduleView> {
        let schedule = self.schedule.as_ref()?;
        Some(ScheduleView {
            next: schedule.course.next.filter(|_| !self.removed),
            last: schedule.last.clone(),
            held: self.is_held(slots),
            waits: schedule.waits,
            missed: schedule.missed,
            left_out: schedule.left_out,
        })
    }

    fn is_held(&self, slots: &BTreeMap<SlotId, Slot>) -> bool {
        self.slots.iter().filter_map(|id| slots.get(id)).all(|slot| slot.held)
    }
}

impl Fleet {
    /// The daemon begins: what was missed since the dates that are known to have been dealt with?
    pub(super) fn begin_schedules(&mut self, dealt: &BTreeMap<String, WallTime>, now: Now) {
        for id in self.order.clone() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let (Some(timetable), Some(schedule)) = (&group.spec.timetable, &mut group.schedule) else {
                continue;
            };
            let catches_up = group.spec.schedule().is_some_and(|it| it.missed == Missed::RunOnce);
            let name = &group.spec.settings.name;
            let known = dealt.get(name).copied().filter(|_| catches_up);
            schedule.course = Course::new(timetable, known, now.wall);
            if catches_up && known.is_none() {
                self.effects.push(Effect::Remember { schedule: name.clone(), date: now.wall });
            }
            self.look_at_schedule(id, now);
        }
    }

    /// The wall clock was set.
    pub(super) fn look_at_schedules(&mut self, now: Now) {
        for id in self.order.clone() {
            self.look_at_schedule(id, now);
        }
    }

    /// What time has brought to a schedule, and when to look again. To be called whenever its settings, its runs or the
    /// wall clock have changed, too.
    pub(super) fn look_at_schedule(&mut self, id: GroupId, now: Now) {
        if !self.phase.is_up() || self.groups.get(&id).is_none_or(|it| it.schedule.is_none() || it.removed) {
            return;
        }
        self.end_overdue_runs(id, now);
        self.dates_came(id, now);
        self.set_alarm(id, now);
    }

    fn end_overdue_runs(&mut self, id: GroupId, now: Now) {
        let Some(schedule) = self.groups.get_mut(&id).and_then(|group| group.schedule.as_mut()) else {
            return;
        };
        let mut overdue = Vec::new();
        for (slot, run) in &mut schedule.runs {
            if run.deadline.is_some_and(|at| at <= now.moment) {
                run.deadline = None;
                run.cut = Some(Cut::TimedOut);
                overdue.push(*slot);
            }
        }
        for slot in overdue {
            self.log_slot(slot, true, String::from("runs longer than its `timeout`, is stopped"));
            self.tell(slot, ProcessEvent::Stop(Patience::Limited), now);
        }
    }

    fn dates_came(&mut self, id: GroupId, now: Now) {
        let seed = self.seed;
        let Some(group) = self.groups.get_mut(&id) else { return };
        let spec = group.spec.clone();
        let (Some(schedule), Some(settings), Some(timetable)) =
            (&mut group.schedule, spec.schedule(), &spec.timetable)
        else {
            return;
        };
        let name = spec.settings.name.as_str();
        let before = schedule.course;
        let due = schedule.course.pass(timetable, |date| delay(settings.jitter, name, date, seed), now.wall);
        if schedule.course == before {
            return;
        }
        schedule.missed += u64::from(due.missed);
        let dealt = schedule.course.dealt.filter(|_| schedule.course.dealt != before.dealt);
        let catches_up = settings.missed == Missed::RunOnce;
        if let Some(date) = dealt.filter(|_| catches_up) {
            self.effects.push(Effect::Remember { schedule: name.to_owned(), date });
        }
        self.schedule_changed(id);
        if group_is_held(self.groups.get(&id), &self.slots) {
            return;
        }
        if due.missed > 0 {
            self.log(true, Arc::from(name), None, missed_in_words(due.missed, catches_up));
        }
        if let Some(date) = due.on_time.or(due.last_missed.filter(|_| catches_up)) {
            self.date_came(id, settings.overlap, date, now);
        }
    }

    fn date_came(&mut self, id: GroupId, overlap: Overlap, date: WallTime, now: Now) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        // One that still waits is as good as this one, which is newer.
        if let Some(schedule) = &mut group.schedule
            && schedule.waits.take().is_some()
        {
            schedule.left_out += 1;
        }
        let name: Arc<str> = Arc::from(group.spec.settings.name.as_str());
        let busy: Vec<SlotId> =
            group.slots.iter().copied().filter(|id| self.slots.get(id).is_some_and(is_busy)).collect();
        let running = u32::try_from(busy.len()).unwrap_or(u32::MAX);
        match turn(overlap, running, MOST_AT_ONCE) {
            Turn::Start => match self.free_slot(id, now) {
                Some(slot) => self.begin_run(slot, Some(date), now),
                None => self.leave_out(id, name, "no slot is free"),
            },
            Turn::LeaveOut => self.leave_out(id, name, "the run before is not over"),
            Turn::Wait => self.let_wait(id, name, date),
            Turn::Replace => {
                self.let_wait(id, name, date);
                for slot in busy {
                    self.mark_cut(id, slot, Cut::Replaced);
                    self.tell(slot, ProcessEvent::Stop(Patience::Limited), now);
                }
            }
        }
    }

    fn leave_out(&mut self, id: GroupId, name: Arc<str>, why: &str) {
        if let Some(schedule) = self.groups.get_mut(&id).and_then(|group| group.schedule.as_mut()) {
            schedule.left_out += 1;
        }
        self.log(false, name, None, format!("a date is left out: {why}"));
    }

    fn let_wait(&mut self, id: GroupId, name: Arc<str>, date: WallTime) {
        let Some(schedule) = self.groups.get_mut(&id).and_then(|group| group.schedule.as_mut()) else {
            return;
        };
        schedule.waits = Some(date);
        self.log(false, name, None, "runs when the run before is over");
    }

    fn mark_cut(&mut self, id: GroupId, slot: SlotId, cut: Cut) {
        let schedule = self.groups.get_mut(&id).and_then(|group| group.schedule.as_mut());
        if let Some(run) = schedule.and_then(|schedule| schedule.runs.get_mut(&slot)) {
            run.cut.get_or_insert(cut);
        }
    }

    /// A slot for another run: one at rest, or a new one where runs may overlap.
    pub(super) fn free_slot(&mut self, id: GroupId, now: Now) -> Option<SlotId> {
        let free = |slot: &Slot| slot.state.is_at_rest() && !slot.held && !slot.retiring;
        let group = self.groups.get(&id)?;
        if let Some(slot) = group.slots.iter().find(|id| self.slots.get(id).is_some_and(free)) {
            return Some(*slot);
        }
        let overlaps = group.spec.schedule().is_some_and(|it| it.overlap == Overlap::Allow);
        let schedule = self.groups.get_mut(&id)?.schedule.as_mut()?;
        if !overlaps || schedule.width() >= MOST_AT_ONCE {
            return None;
        }
        schedule.more += 1;
        self.resize(id, now).first().copied()
    }

    /// Begins a run in a slot at rest: for a date, or because somebody wants it now.
    pub(super) fn begin_run(&mut self, slot: SlotId, date: Option<WallTime>, now: Now) {
        let Some(group) = self.slots.get(&slot).map(|slot| slot.group) else { return };
        if let Some(schedule) = self.groups.get_mut(&group).and_then(|group| group.schedule.as_mut()) {
            schedule.runs.insert(slot, Run { date, ..Run::default() });
            self.tell(slot, ProcessEvent::Start, now);
        }
    }

    /// What the child of a slot has to know about the run it is for.
    pub(super) fn run_for(&self, slot: &Slot) -> Option<RunFor> {
        let group = self.groups.get(&slot.group)?;
        let date = group.schedule.as_ref()?.runs.get(&slot.id)?.date?;
        let next = group.spec.timetable.as_ref().and_then(|timetable| timetable.after(date));
        // Whoever was away looks back for one date at most.
        let agreed_for = next.map_or(AGREED_FOR, |next| next.since(date).saturating_mul(2).max(AGREED_FOR));
        Some(RunFor { date, agreed_for })
    }

    /// The run in this slot is wanted by somebody from now on, whatever date it was for.
    pub(super) fn is_wanted_now(&mut self, slot: SlotId) {
        if let Some(run) = self.run_in(slot) {
            *run = Run::default();
        }
    }

    fn run_in(&mut self, slot: SlotId) -> Option<&mut Run> {
        let group = self.slots.get(&slot)?.group;
        self.groups.get_mut(&group)?.schedule.as_mut()?.runs.get_mut(&slot)
    }

    /// The child of a run lives: its time begins.
    pub(super) fn run_began(&mut self, slot: SlotId, now: Now) {
        let Some(group) = self.slots.get(&slot).map(|slot| slot.group) else { return };
        let timeout = self.groups.get(&group).and_then(|it| it.spec.schedule()).and_then(|it| it.timeout);
        let Some(run) = self.run_in(slot) else { return };
        run.began = Some((now.moment, now.wall));
        run.deadline = timeout.map(|timeout| now.moment + timeout);
        self.set_alarm(group, now);
    }

    /// Another host has the date of this run.
    pub(super) fn runs_elsewhere(&mut self, slot: SlotId) {
        if let Some(run) = self.run_in(slot) {
            run.elsewhere = true;
        }
        self.log_slot(slot, false, String::from("another host has this date"));
    }

    pub(super) fn is_elsewhere(&mut self, slot: SlotId) -> bool {
        self.run_in(slot).is_some_and(|run| run.elsewhere)
    }

    /// Takes note of a run whose slot has come to rest.
    pub(super) fn note_run_over(&mut self, id: SlotId, now: Now) {
        let Some(slot) = self.slots.get(&id).filter(|slot| slot.state.is_at_rest()) else { return };
        let Some(group) = self.groups.get_mut(&slot.group) else { return };
        let Some(run) = group.schedule.as_mut().and_then(|schedule| schedule.runs.remove(&id)) else {
            return;
        };
        let end = match (&slot.state, run.cut) {
            _ if run.elsewhere => RunEnd::Elsewhere,
            (ProcessState::Fatal { why, .. }, _) => RunEnd::NotStarted { why: why.clone() },
            (_, Some(Cut::TimedOut)) => RunEnd::TimedOut,
            (_, Some(Cut::Replaced)) => RunEnd::Replaced,
            (ProcessState::Exited { exit, expected }, None) => {
                RunEnd::Ended { exit: exit.clone(), expected: *expected }
            }
            (_, None) => RunEnd::Stopped,
        };
        let (began, took) = match run.began {
            Some((moment, wall)) => (Some(wall), now.moment.since(moment)),
            None => (None, Duration::ZERO),
        };
        let group_id = slot.group;
        if let Some(schedule) = &mut group.schedule {
            schedule.last = Some(RunView { date: run.date, began, ended: now.wall, took, end });
        }
        self.schedule_changed(group_id);
    }

    /// Begins the run that waited for the end of another one.
    pub(super) fn advance_schedule(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get(&id) else { return };
        if group.schedule.as_ref().is_none_or(|schedule| schedule.waits.is_none()) {
            return;
        }
        let busy = group.slots.iter().any(|id| self.slots.get(id).is_some_and(is_busy));
        let never = !self.phase.is_up() || group.removed || group.is_held(&self.slots);
        if busy && !never {
            return;
        }
        let Some(schedule) = self.groups.get_mut(&id).and_then(|group| group.schedule.as_mut()) else {
            return;
        };
        let date = schedule.waits.take();
        self.schedule_changed(id);
        if !never && let Some(slot) = self.free_slot(id, now) {
            self.begin_run(slot, date, now);
        }
    }

    /// Sets the timer for whatever comes first: its next date or the end of a run's time.
    fn set_alarm(&mut self, id: GroupId, now: Now) {
        let seed = self.seed;
        let Some(group) = self.groups.get_mut(&id) else { return };
        let (Some(schedule), Some(settings)) = (&mut group.schedule, group.spec.schedule()) else { return };
        let name = group.spec.settings.name.as_str();
        let date = schedule
            .course
            .next
            .map(|date| now.moment + (date + delay(settings.jitter, name, date, seed)).since(now.wall));
        let at = schedule.runs.values().filter_map(|run| run.deadline).chain(date).min();
        if schedule.due_at != at {
            schedule.due_at = at;
            if let Some(at) = at {
                self.wake(at, Timer::Schedule(id));
            }
        }
    }

    /// When to look at the schedule again.
    pub(super) fn alarm_of(&self, id: GroupId) -> Option<Moment> {
        self.groups.get(&id)?.schedule.as_ref()?.due_at
    }

    /// That time has come.
    pub(super) fn alarm(&mut self, id: GroupId, now: Now) {
        if let Some(schedule) = self.groups.get_mut(&id).and_then(|group| group.schedule.as_mut()) {
            schedule.due_at = None;
        }
        self.look_at_schedule(id, now);
    }

    /// What others see of the schedule is not true any more.
    pub(super) fn schedule_changed(&mut self, id: GroupId) {
        let slots = self.groups.get(&id).map(|group| group.slots.clone()).unwrap_or_default();
        for slot in slots {
            if let Some(slot) = self.slots.get_mut(&slot) {
                slot.seen = None;
            }
        }
        self.changed = true;
    }
}

fn is_busy(slot: &Slot) -> bool {
    !slot.state.is_at_rest()
}

fn group_is_held(group: Option<&Group>, slots: &BTreeMap<SlotId, Slot>) -> bool {
    group.is_some_and(|group| group.is_held(slots))
}

fn missed_in_words(missed: u32, catches_up: bool) -> String {
    let dates = if missed == 1 { String::from("a date was") } else { format!("{missed} dates were") };
    let then =
        if catches_up { "it runs once for all of them" } else { "`missed: run-once` would make up for it" };
    format!("{dates} missed: the daemon was away, or the clock was set; {then}")
}
