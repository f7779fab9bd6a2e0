//! The slots of one group: how many there are and what they are called, how far its rolling restart is, and how a group
//! that was removed goes.

use std::collections::VecDeque;
use std::sync::Arc;

use qfleet_manifest::settings::{Group as GroupSettings, Work};
use qfleet_model::crash_loop::Breaker;
use qfleet_model::name::ProcessName;
use qfleet_model::process::{Patience, ProcessEvent, ProcessKind, ProcessPolicy};
use qfleet_model::rollout::{Rollout, Standing};
use qfleet_model::scale::Scaler;
use qfleet_model::schedule::Timetable;
use qfleet_model::snapshot::GroupKind;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::slot::Slot;
use super::turns::Want;
use super::{AskId, Effect, Fleet, Now, SlotId};

/// One group; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct GroupId(pub(super) u32);

/// A group's settings, and what they mean for the life of its processes.
/// Written down are the settings alone: what they mean is for the one who reads them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Arc<GroupSettings>", into = "Arc<GroupSettings>")]
pub(super) struct Spec {
    pub(super) settings: Arc<GroupSettings>,
    pub(super) policy: ProcessPolicy,
    /// Of a schedule.
    pub(super) timetable: Option<Timetable>,
}

impl From<Arc<GroupSettings>> for Spec {
    fn from(settings: Arc<GroupSettings>) -> Self {
        let process = &settings.process;
        let kind = match settings.work {
            Work::Queue(_) | Work::Pool(_) => ProcessKind::Worker,
            Work::Program { .. } | Work::Schedule(_) => ProcessKind::Program,
        };
        let policy = ProcessPolicy {
            kind,
            startsecs: process.startsecs,
            ready_within: process.ready.as_ref().map(|ready| ready.within),
            startretries: process.startretries,
            retry_fatal: process.retry_fatal,
            start_wait: process.start_wait,
            autorestart: process.autorestart,
            exitcodes: process.exitcodes.clone(),
            stop_signal: process.stop_signal,
            stop_again: process.stop_again.clone(),
            stop_wait: process.stop_wait,
            kill_after: process.kill_after,
        };
        let timetable = match &settings.work {
            // A manifest with a pattern that is none does not get here.
            Work::Schedule(schedule) => Timetable::new(&schedule.cron, schedule.zone.clone()).ok(),
            Work::Queue(_) | Work::Pool(_) | Work::Program { .. } => None,
        };
        Self { settings, policy, timetable }
    }
}

impl From<Spec> for Arc<GroupSettings> {
    fn from(spec: Spec) -> Self {
        spec.settings
    }
}

impl Spec {
    pub(super) fn new(settings: Arc<GroupSettings>) -> Arc<Self> {
        Arc::new(Self::from(settings))
    }

    pub(super) fn kind(&self) -> GroupKind {
        match self.settings.work {
            Work::Queue(_) => GroupKind::Queue,
            Work::Pool(_) => GroupKind::Pool,
            Work::Program { .. } => GroupKind::Program,
            Work::Schedule(_) => GroupKind::Schedule,
        }
    }
}

/// Processes that are named, started, replaced and scaled together.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) spec: Arc<Spec>,
    /// Its slots, by number.
    pub(super) slots: Vec<SlotId>,
    /// How many an operator wants.
    pub(super) scaled: Option<u32>,
    /// How many its backlog wants, where the number follows it.
    #[serde(default)]
    pub(super) scaler: Scaler,
    /// Deliveries that have ended in its workers since the daemon began.
    #[serde(default)]
    pub(super) finished: u64,
    /// It has so many more than it should, because of `overlap`.
    #[serde(default)]
    pub(super) spare: u32,
    /// Not in the manifest any more; stays until its processes are gone.
    #[serde(default)]
    pub(super) removed: bool,
    pub(super) rollout: Option<Rolling>,
    /// Workers that want to be replaced, in the order of their asking.
    #[serde(default)]
    pub(super) wants: VecDeque<Want>,
    /// When it had a turn of replacement last.
    #[serde(default)]
    pub(super) served: u64,
    /// What is remembered of a schedule.
    #[serde(default)]
    pub(super) schedule: Option<Schedule>,
    /// Whether its workers crash too often to be started together.
    #[serde(default)]
    pub(super) breaker: Breaker,
}

/// A rolling restart under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rolling {
    pub(super) rollout: Rollout,
    /// Who waits for its end.
    pub(super) ask: Option<AskId>,
    /// When it was asked for.
    pub(super) asked: u64,
}

impl Group {
    /// How many processes there should be now.
    pub(super) fn wanted(&self) -> u32 {
        match self.width() {
            0 => 0,
            width => width + self.spare,
        }
    }

    /// How many processes there should be when nobody is replaced.
    pub(super) fn width(&self) -> u32 {
        let process = &self.spec.settings.process;
        match (&self.schedule, self.scaled, &process.scale) {
            _ if self.removed => 0,
            (Some(schedule), _, _) => schedule.width(),
            (None, Some(scaled), _) => scaled,
            (None, None, Some(rule)) => self.scaler.wanted().clamp(rule.min, rule.max),
            (None, None, None) => process.numprocs,
        }
    }
}

impl Fleet {
    pub(super) fn add_group(&mut self, spec: Arc<Spec>, now: Now) -> GroupId {
        let id = GroupId(self.fresh_id());
        let mut scaler = Scaler::default();
        if let Some(rule) = &spec.settings.process.scale {
            scaler.begin_at(rule.min, rule);
        }
        let mut group = Group {
            spec,
            slots: Vec::new(),
            scaled: None,
            scaler,
            finished: 0,
            spare: 0,
            removed: false,
            rollout: None,
            wants: VecDeque::new(),
            served: 0,
            schedule: None,
            breaker: Breaker::default(),
        };
        group.keep_schedule(None, now);
        self.groups.insert(id, group);
        self.order.push(id);
        self.resize(id, now);
        id
    }

    /// Gives the group as many slots as it should have, under their right names. New ones are not started yet; those that
    /// are too many, the highest numbers, drain. Gives back the new ones and those that were leaving and now stay.
    pub(super) fn resize(&mut self, id: GroupId, now: Now) -> Vec<SlotId> {
        let Some(group) = self.groups.get(&id) else { return Vec::new() };
        let (spec, mut old) = (group.spec.clone(), group.slots.clone());
        let (mut slots, mut fresh) = (Vec::new(), Vec::new());
        for name in spec.settings.names(group.wanted()) {
            let (slot, is_fresh) = match self.take_slot(&mut old, &name) {
                Some(slot) => (slot, self.keep(slot, name)),
                None => (self.new_slot(id, name, &spec, now), true),
            };
            slots.push(slot);
            if is_fresh {
                fresh.push(slot);
            }
        }
        slots.extend(&old);
        if let Some(group) = self.groups.get_mut(&id) {
            group.slots = slots;
        }
        for slot in old {
            self.retire(slot, now);
        }
        self.touched.insert(id);
        fresh
    }

    /// The slot that is to have this name: the one with that number, or the only one of a program that was, or becomes,
    /// a program with one process.
    fn take_slot(&self, old: &mut Vec<SlotId>, name: &ProcessName) -> Option<SlotId> {
        let is_single = |name: &ProcessName| name.group == name.process;
        let named = |id: &SlotId| self.slots.get(id).map(|slot| &slot.name);
        let same_number = |id: &SlotId| named(id).is_some_and(|other| other.number == name.number);
        let at = match old.iter().position(same_number) {
            Some(at) => at,
            None if is_single(name) && !old.is_empty() => 0,
            None => old.iter().position(|id| named(id).is_some_and(is_single))?,
        };
        Some(old.remove(at))
    }

    fn new_slot(&mut self, group: GroupId, name: ProcessName, spec: &Arc<Spec>, now: Now) -> SlotId {
        let id = SlotId(self.fresh_id());
        self.slots.insert(id, Slot::new(id, group, name, spec.clone(), now));
        id
    }

    /// Keeps a slot under this name. Whether it was about to leave.
    fn keep(&mut self, id: SlotId, name: ProcessName) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.name != name {
            slot.label = Arc::from(name.to_string());
            slot.name = name;
            slot.seen = None;
            self.effects.push(Effect::Renamed { slot: id, name: slot.label.clone() });
        }
        std::mem::take(&mut slot.retiring)
    }

    fn retire(&mut self, id: SlotId, now: Now) {
        if let Some(slot) = self.slots.get_mut(&id)
            && !slot.retiring
        {
            slot.retiring = true;
            // Runs may not overlap any more; those that do end by themselves.
            if self.groups.get(&slot.group).is_some_and(|group| group.schedule.is_some() && !group.removed) {
                return;
            }
            self.tell(id, ProcessEvent::Stop(Patience::JobsOwn), now);
        }
    }

    /// Starts slots that were added.
    pub(super) fn start_fresh(&mut self, fresh: &[SlotId], now: Now) {
        for id in fresh {
            self.tell(*id, ProcessEvent::Start, now);
        }
    }

    /// What a change of any of its slots means for the group.
    pub(super) fn advance_group(&mut self, id: GroupId, now: Now) {
        self.clear_resting_slots(id);
        self.advance_rollout(id, now);
        self.advance_spare(id, now);
        self.advance_breaker(id, now);
        self.replace_unhealthy(id, now);
        self.look_at_essential(id, now);
        self.advance_schedule(id, now);
        self.drop_if_gone(id);
    }

    pub(super) fn standings(&self, group: &Group) -> Vec<Standing> {
        group.slots.iter().filter_map(|id| self.slots.get(id)).map(Slot::standing).collect()
    }

    /// Slots at rest, and those whose start waits for somebody to act, wait for no earlier worker; retiring ones are gone.
    fn clear_resting_slots(&mut self, id: GroupId) {
        let Some(group) = self.groups.get(&id) else { return };
        let rests = |slot: &&SlotId| {
            self.slots.get(slot).is_some_and(|slot| slot.state.is_at_rest() || slot.is_stuck())
        };
        for slot in group.slots.iter().filter(rests).copied().collect::<Vec<_>>() {
            let Some(resting) = self.slots.get_mut(&slot) else { continue };
            let gone = resting.retiring && resting.state.is_at_rest();
            for ledger in std::mem::take(&mut resting.after) {
                self.recover_for(slot, ledger);
            }
            if gone {
                self.slots.remove(&slot);
                self.effects.push(Effect::Gone { slot });
                if let Some(group) = self.groups.get_mut(&id) {
                    group.slots.retain(|kept| *kept != slot);
                    let whole_group = group.removed;
                    self.note_gone(slot, whole_group);
                }
            }
        }
    }

    fn advance_rollout(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get(&id) else { return };
        if group.rollout.is_none() {
            return;
        }
        let standings = self.standings(group);
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(Rolling { rollout, .. }) = &mut group.rollout else { return };
        let turns = rollout.step(&standings);
        if rollout.is_over() {
            self.end_rollout(id);
        }
        for turn in turns.into_iter().map(SlotId) {
            // One that leaves, and had not even been spawned when it was told, must not come back by its turn.
            if self.slots.get(&turn).is_some_and(|slot| !slot.retiring) {
                self.tell(turn, ProcessEvent::Restart(Patience::JobsOwn), now);
            }
        }
    }

    /// Takes the rollout from the group, wherever it was, and remembers its results for who asked.
    pub(super) fn end_rollout(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(Rolling { rollout, ask, .. }) = group.rollout.take() else { return };
        let name: Arc<str> = Arc::from(group.spec.settings.name.as_str());
        let problem = rollout.results().iter().find_map(|replaced| replaced.problem.as_deref());
        let why = problem.map(|problem| format!("; {problem}")).unwrap_or_default();
        self.log(
            problem.is_some(),
            name,
            None,
            format!("rolling restart ended: {}{why}", rollout.progress()),
        );
        if let Some(ask) = ask {
            self.note_replaced(ask, rollout.results());
        }
        self.touched.insert(id);
    }

    /// Ends the group's rollout before its time.
    pub(super) fn halt_rollout(&mut self, id: GroupId, why: &str) {
        if let Some(group) = self.groups.get_mut(&id)
            && let Some(Rolling { rollout, .. }) = &mut group.rollout
        {
            rollout.halt(why);
            self.end_rollout(id);
        }
    }

    fn drop_if_gone(&mut self, id: GroupId) {
        if self.groups.get(&id).is_some_and(|group| group.removed && group.slots.is_empty()) {
            self.groups.remove(&id);
            self.order.retain(|kept| *kept != id);
        }
    }
}
