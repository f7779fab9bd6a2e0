//! The beginning and the end: the first start of everything, when it has settled, shutdown, and the daemon's exit code.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use qfleet_manifest::stopping::RECOVERY_GRACE;
use qfleet_model::budget::Budget;
use qfleet_model::command::ProcessResult;
use qfleet_model::process::{Action, Patience, ProcessEvent, ProcessState, Wanted};
use qfleet_model::start::DrainLimit;
use qfleet_model::time::{Moment, WallTime};
use serde::{Deserialize, Serialize};

use super::admission::Until;
use super::dependencies::is_leaving;
use super::farewell::CutOff;
use super::slot::Slot;
use super::{AskId, Effect, Fleet, Now, SlotId, Timer};

/// Exit codes of the daemon.
const DRAINED: u8 = 0;
const CUT_OFF: u8 = 75;
const ESSENTIAL_FAILED: u8 = 76;

/// Where the daemon is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Nothing was started yet.
    NotBegun,
    /// The first start of some process has not ended one way or the other.
    Settling,
    /// In full swing.
    Up,
    /// Draining.
    Ending(Ending),
    /// No process lives any more. What they have left behind has time until then, if there is a limit to it.
    Ended {
        /// The end of that time.
        latest: Option<Moment>,
    },
}

/// The end of the fleet under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ending {
    /// Work was cut off.
    cut_off: bool,
    /// What has this priority, or stops before it, is being stopped.
    wave: i32,
    /// How long each may take.
    patience: Patience,
    /// Recovery is abandoned then; `None` while processes live.
    gives_up_at: Option<Moment>,
    /// An essential group failed, which has begun the end.
    #[serde(default)]
    failed: bool,
    /// For the whole end, when there is a limit for it.
    budget: Option<Budget>,
    /// Those that are asked now are killed then at the latest.
    killed_by: Option<Moment>,
    /// When to say next what is waited for.
    pub(super) say_at: Option<Moment>,
    /// What was cut off.
    #[serde(default)]
    pub(super) cut: BTreeSet<CutOff>,
    /// Who waits for the end.
    #[serde(default)]
    pub(super) asks: Vec<AskId>,
}

/// How far the end has come.
pub(super) enum Advance {
    /// There is no end yet, or something has to happen first.
    NotYet,
    /// A wave has just begun.
    NextWave,
    /// The daemon ends with this code.
    Over(u8),
}

impl Ending {
    /// When everything is to be over, if there is a limit to it.
    fn latest(&self, now: Moment) -> Option<Moment> {
        match self.patience {
            Patience::AtOnce => Some(now),
            Patience::Limited | Patience::JobsOwn => self.budget.map(|budget| budget.ends_at()),
        }
    }
}

impl Phase {
    pub(super) const fn is_ending(&self) -> bool {
        matches!(self, Self::Ending { .. } | Self::Ended { .. })
    }

    /// It has begun and does not end.
    pub(super) const fn is_up(&self) -> bool {
        matches!(self, Self::Settling | Self::Up)
    }

    pub(super) const fn ending(&self) -> Option<&Ending> {
        match self {
            Self::Ending(ending) => Some(ending),
            Self::NotBegun | Self::Settling | Self::Up | Self::Ended { .. } => None,
        }
    }

    pub(super) const fn ending_mut(&mut self) -> Option<&mut Ending> {
        match self {
            Self::Ending(ending) => Some(ending),
            Self::NotBegun | Self::Settling | Self::Up | Self::Ended { .. } => None,
        }
    }

    pub(super) fn gives_up_at(&self) -> Option<Moment> {
        self.ending()?.gives_up_at
    }

    pub(super) fn say_at(&self) -> Option<Moment> {
        self.ending()?.say_at
    }

    /// When those that are asked to end now are killed at the latest, whatever their own limits.
    pub(super) fn killed_by(&self) -> Option<Moment> {
        self.ending()?.killed_by
    }

    /// Work of a process that had been asked to end was cut off; it only counts once the daemon itself ends.
    pub(super) fn note_cut_off(&mut self) {
        if let Some(ending) = self.ending_mut() {
            ending.cut_off = true;
        }
    }
}

impl Fleet {
    /// Starts what starts with the daemon. Ledgers of a slot's earlier workers are for its first new one, which waits
    /// until they are free; those of nobody get a recovery of their own.
    pub(super) fn begin(&mut self, ledgers: &[String], dates: &BTreeMap<String, WallTime>, now: Now) {
        self.phase = Phase::Settling;
        for ledger in ledgers {
            let Some((stem, number)) = split(ledger) else { continue };
            self.last_ledger = self.last_ledger.max(number);
            let mut workers = self.slots.values_mut().filter(|slot| slot.is_worker());
            match workers.find(|slot| slot.ledger_stem() == stem) {
                Some(slot) => slot.after.push(ledger.clone()),
                None => self.recover_unknown(ledger),
            }
        }
        for slot in self.by_priority(|_| true) {
            if self.slots.get(&slot).is_some_and(|slot| slot.spec.settings.process.autostart) {
                self.tell(slot, ProcessEvent::Start, now);
            }
        }
        self.touched.extend(self.order.iter().copied());
        self.begin_schedules(dates, now);
    }

    /// Slots in the order in which they are started: by priority, then as they are listed.
    pub(super) fn by_priority(&self, wanted: impl Fn(SlotId) -> bool) -> Vec<SlotId> {
        let listed = self.order.iter().filter_map(|id| self.groups.get(id)).flat_map(|group| &group.slots);
        let mut slots: Vec<SlotId> = listed.copied().filter(|id| wanted(*id)).collect();
        slots.sort_by_key(|id| self.slots.get(id).map(|slot| slot.spec.settings.process.priority));
        slots
    }

    /// Says once that the first round of starts is over.
    pub(super) fn note_settled(&mut self) {
        let settled = |slot: &Slot| match &slot.state {
            // How far the dependency has come is asked of itself.
            ProcessState::Spawning { .. } => slot
                .hindrance
                .as_ref()
                .is_some_and(|it| matches!(it.until, Until::DependencyUp | Until::SomebodyActs)),
            // It may take as long as the earlier worker's jobs.
            ProcessState::Starting { old_worker, .. } => old_worker.is_some(),
            ProcessState::Stopped
            | ProcessState::Running { .. }
            | ProcessState::Stopping { .. }
            | ProcessState::Backoff { .. }
            | ProcessState::Exited { .. }
            | ProcessState::Fatal { .. } => true,
        };
        if self.phase == Phase::Settling && self.slots.values().all(settled) {
            self.phase = Phase::Up;
            self.effects.push(Effect::Settled);
        }
    }

    /// Stops everything, in waves: what started last stops first, and everything of one priority at the same time, but
    /// for what others depend on: that is asked when they are down. So a server that queues need outlives their drain.
    /// With neither priorities nor dependencies there is one wave, and its longest limit counts.
    ///
    /// With a `shutdown-timeout` no wave may take longer than what it leaves.
    ///
    /// `again`: everything begins anew afterwards. Whoever wants the end gets it, also while others wait for a beginning.
    pub(super) fn shut_down(&mut self, again: bool, now: Now) {
        if self.phase.is_ending() {
            if self.again && !again {
                self.again = false;
                self.effects.push(Effect::ShuttingDown { again });
            }
            return;
        }
        self.again = again;
        self.phase = Phase::Ending(Ending {
            cut_off: false,
            wave: i32::MAX,
            patience: Patience::Limited,
            gives_up_at: None,
            failed: false,
            budget: self.overall.shutdown_timeout.map(|all| Budget::new(all, now.moment)),
            killed_by: None,
            say_at: None,
            cut: BTreeSet::new(),
            asks: Vec::new(),
        });
        // The waves take over.
        self.to_stop.clear();
        self.to_restart.clear();
        self.say_again(now);
        self.changed = true;
        self.effects.push(Effect::ShuttingDown { again });
        for group in self.order.clone() {
            self.halt_rollout(group, "not restarted: the daemon is shutting down");
        }
        self.refuse_waiting();
    }

    /// An essential group has failed for good, or has done its work.
    pub(super) fn end_without(&mut self, failed: bool, now: Now) {
        self.shut_down(false, now);
        if let Some(ending) = self.phase.ending_mut() {
            ending.failed = failed;
        }
    }

    /// From now on `stop-wait` is zero.
    pub(super) fn hurry(&mut self, now: Now) {
        self.shut_down(false, now);
        let recovered = !self.is_recovering();
        if let Some(ending) = self.phase.ending_mut() {
            ending.patience = Patience::AtOnce;
            self.stop_some(recovered, now);
        }
    }

    /// Asks everything of this wave and above to end that may be asked now: what others depend on has to wait for them,
    /// and for the jobs of those that died (`recovered`: they are back). Whether anybody was asked.
    fn stop_some(&mut self, recovered: bool, now: Now) -> bool {
        let Some(Ending { wave, patience, .. }) = self.phase.ending() else { return false };
        let (wave, patience) = (*wave, *patience);
        let ranks = self.ranks();
        let rank = |slot: &Slot| ranks.get(&slot.group).copied();
        let is_next = |slot: &Slot| rank(slot) >= Some(wave) && !slot.state.is_at_rest();
        let mut slots = self.by_priority(|id| self.slots.get(&id).is_some_and(is_next));
        slots.retain(|id| self.slots.get(id).is_some_and(|slot| !was_asked(slot, patience)));
        slots.sort_by_key(|id| Reverse(self.slots.get(id).and_then(rank)));
        let has_to_wait = |id: &SlotId| {
            self.slots.get(id).map(|slot| slot.group).is_some_and(|group| {
                self.has_living_dependents(group) || (!recovered && self.is_depended_on(group))
            })
        };
        let (wait, mut ask): (Vec<_>, Vec<_>) = slots.into_iter().partition(has_to_wait);
        // Manifests have no circles, but groups taken from two of them, one by one, can make one.
        let circle =
            ask.is_empty() && recovered && !self.slots.values().any(|slot| is_next(slot) && is_leaving(slot));
        if circle {
            ask = wait;
        }
        self.limit_step(&ask, now);
        for slot in &ask {
            self.tell(*slot, ProcessEvent::Stop(patience), now);
        }
        !ask.is_empty()
    }

    /// With a budget, those who are asked now, or were earlier, leave something to those who come later.
    fn limit_step(&mut self, asked: &[SlotId], now: Now) {
        let later = self.steps_without(asked);
        let Some(ending) = self.phase.ending_mut() else { return };
        let Some(budget) = &mut ending.budget else { return };
        budget.divide(later);
        let latest = budget.killed_by(later);
        ending.killed_by = Some(latest);
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.hasten(id, latest, now);
        }
    }

    /// One that was asked to end earlier, and has longer than there is time now, is told so.
    fn hasten(&mut self, id: SlotId, latest: Moment, now: Now) {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| is_leaving(slot)) else { return };
        let Some(Action::WakeAt(at)) = slot.state.kill_by(latest) else { return };
        if let (true, Some(pid)) = (slot.is_worker(), slot.state.pid()) {
            let limit = slot.spec.policy.within(latest.since(now.moment)).stop_wait;
            self.effects.push(Effect::Drain { pid, limit: DrainLimit::AtMost(limit) });
        }
        self.wake(at, Timer::Slot(id));
    }

    /// When a wave is down and its jobs are back, begins the next one; after the last the daemon ends.
    pub(super) fn advance_end(&mut self, now: Now) -> Advance {
        let Some(Ending { wave, gives_up_at, .. }) = self.phase.ending() else {
            return Advance::NotYet;
        };
        let (wave, gives_up_at) = (*wave, *gives_up_at);
        let ranks = self.ranks();
        let left = self.slots.values().filter(|slot| !slot.state.is_at_rest());
        let next = left.filter_map(|slot| ranks.get(&slot.group).copied()).max();
        let overdue = gives_up_at.is_some_and(|at| at <= now.moment);
        let recovered = !self.is_recovering() || overdue;
        if next.is_some_and(|rank| rank >= wave) {
            if self.stop_some(recovered, now) {
                if let Some(ending) = self.phase.ending_mut() {
                    ending.gives_up_at = None;
                }
                return Advance::NextWave;
            }
            if recovered || self.slots.values().any(is_leaving) {
                return Advance::NotYet;
            }
        }
        // What was recovering before the first wave goes on during it.
        let has_begun = wave < i32::MAX || next.is_none();
        if has_begun && !recovered {
            if gives_up_at.is_none() {
                self.wait_for_recovery(now);
            }
            return Advance::NotYet;
        }
        if let Some(wave) = next {
            if let Some(ending) = self.phase.ending_mut() {
                ending.wave = wave;
                ending.gives_up_at = None;
            }
            return Advance::NextWave;
        }
        self.abandon_recoveries();
        Advance::Over(self.finish(now))
    }

    /// Jobs of dead workers are being given back; with a budget, and others still to be stopped, that must leave them
    /// their time.
    fn wait_for_recovery(&mut self, now: Now) {
        let latest = |budget: Budget| match self.steps_without(&[]) {
            0 => budget.ends_at(),
            later => budget.killed_by(later),
        };
        let grace = now.moment + RECOVERY_GRACE;
        let budget = self.phase.ending().and_then(|ending| ending.budget);
        let at = budget.map_or(grace, |budget| latest(budget).min(grace)).max(now.moment);
        if let Some(ending) = self.phase.ending_mut() {
            ending.gives_up_at = Some(at);
        }
        self.wake(at, Timer::Ending);
    }

    /// Nothing lives any more: tells those who wait for it, and gives the daemon's exit code.
    fn finish(&mut self, now: Now) -> u8 {
        let over = Phase::Ended { latest: self.phase.ending().and_then(|ending| ending.latest(now.moment)) };
        let Phase::Ending(ending) = std::mem::replace(&mut self.phase, over) else { return DRAINED };
        self.log_cut_off(&ending.cut);
        let lines: Vec<ProcessResult> = ending.cut.iter().map(CutOff::line).collect();
        for ask in &ending.asks {
            self.answer(*ask, lines.clone());
        }
        self.refuse_all();
        match (ending.failed, ending.cut_off) {
            (true, _) => ESSENTIAL_FAILED,
            (false, true) => CUT_OFF,
            (false, false) => DRAINED,
        }
    }

    /// When what the processes have left behind is to be gone too, if there is a limit to it.
    #[must_use]
    pub fn ends_at(&self) -> Option<Moment> {
        match self.phase {
            Phase::Ended { latest } => latest,
            Phase::NotBegun | Phase::Settling | Phase::Up | Phase::Ending(_) => None,
        }
    }
}

/// Whether it was asked to end for good, as strictly as this.
fn was_asked(slot: &Slot, wanted: Patience) -> bool {
    let asked = match &slot.state {
        ProcessState::Stopping { patience, killed, .. } => *patience <= wanted || *killed,
        ProcessState::Spawning { wanted: Wanted::Gone { patience, .. }, .. } => *patience <= wanted,
        ProcessState::Spawning { wanted: Wanted::Up, .. }
        | ProcessState::Stopped
        | ProcessState::Starting { .. }
        | ProcessState::Running { .. }
        | ProcessState::Backoff { .. }
        | ProcessState::Exited { .. }
        | ProcessState::Fatal { .. } => false,
    };
    asked && is_leaving(slot)
}

/// A ledger's file name: the slot's part and the number.
fn split(ledger: &str) -> Option<(&str, u64)> {
    let (stem, number) = ledger.rsplit_once('.')?;
    Some((stem, number.parse().ok()?))
}
