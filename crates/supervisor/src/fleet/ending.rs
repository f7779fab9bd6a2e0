//! The beginning and the end: the first start of everything, when it has settled, shutdown, and the daemon's exit code.

use std::cmp::Reverse;
use std::time::Duration;

use qfleet_model::process::{Patience, ProcessEvent, ProcessState, Wanted};
use qfleet_model::time::Moment;
use serde::{Deserialize, Serialize};

use super::admission::Until;
use super::dependencies::is_leaving;
use super::slot::Slot;
use super::{Effect, Fleet, Now, SlotId, Timer};

/// When all processes are gone, recovery may take this much longer; its ledgers then stay for the next daemon.
const RECOVERY_GRACE: Duration = Duration::from_secs(5);

/// Exit codes of the daemon.
const DRAINED: u8 = 0;
const CUT_OFF: u8 = 75;

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Nothing was started yet.
    NotBegun,
    /// The first start of some process has not ended one way or the other.
    Settling,
    /// In full swing.
    Up,
    /// Draining.
    Ending {
        /// Work was cut off.
        cut_off: bool,
        /// What has this priority, or stops before it, is being stopped.
        wave: i32,
        /// How long each may take.
        patience: Patience,
        /// Recovery is abandoned then; `None` while processes live.
        gives_up_at: Option<Moment>,
    },
    /// Over.
    Ended,
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

impl Phase {
    pub(super) const fn is_ending(self) -> bool {
        matches!(self, Self::Ending { .. } | Self::Ended)
    }

    pub(super) const fn gives_up_at(self) -> Option<Moment> {
        match self {
            Self::Ending { gives_up_at, .. } => gives_up_at,
            Self::NotBegun | Self::Settling | Self::Up | Self::Ended => None,
        }
    }

    /// Work of a process that had been asked to end was cut off; it only counts once the daemon itself ends.
    pub(super) fn note_cut_off(&mut self) {
        if let Self::Ending { cut_off, .. } = self {
            *cut_off = true;
        }
    }
}

impl Fleet {
    /// Starts what starts with the daemon. Ledgers of a slot's earlier workers are for its first new one, which waits
    /// until they are free; those of nobody get a recovery of their own.
    pub(super) fn begin(&mut self, ledgers: &[String], now: Now) {
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
    /// `again`: everything begins anew afterwards. Whoever wants the end gets it, also while others wait for a beginning.
    pub(super) fn shut_down(&mut self, again: bool) {
        if self.phase.is_ending() {
            if self.again && !again {
                self.again = false;
                self.effects.push(Effect::ShuttingDown { again });
            }
            return;
        }
        self.again = again;
        let patience = Patience::Limited;
        self.phase = Phase::Ending { cut_off: false, wave: i32::MAX, patience, gives_up_at: None };
        self.changed = true;
        self.effects.push(Effect::ShuttingDown { again });
        for group in self.order.clone() {
            self.halt_rollout(group, "not restarted: the daemon is shutting down");
        }
        self.refuse_waiting();
    }

    /// From now on `stop-wait` is zero.
    pub(super) fn hurry(&mut self, now: Now) {
        self.shut_down(false);
        if let Phase::Ending { wave, patience, .. } = &mut self.phase {
            *patience = Patience::AtOnce;
            let wave = *wave;
            let recovered = !self.is_recovering();
            self.stop_from(wave, Patience::AtOnce, recovered, now);
        }
    }

    /// Asks everything of this wave and above to end that may be asked now: what others depend on has to wait for them,
    /// and for the jobs of those that died (`recovered`: they are back). Whether anybody was asked.
    fn stop_from(&mut self, wave: i32, patience: Patience, recovered: bool, now: Now) -> bool {
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
        for slot in &ask {
            self.tell(*slot, ProcessEvent::Stop(patience), now);
        }
        !ask.is_empty()
    }

    /// When a wave is down and its jobs are back, begins the next one; after the last the daemon ends.
    pub(super) fn advance_end(&mut self, now: Now) -> Advance {
        let Phase::Ending { cut_off, wave, patience, gives_up_at } = self.phase else {
            return Advance::NotYet;
        };
        let ranks = self.ranks();
        let left = self.slots.values().filter(|slot| !slot.state.is_at_rest());
        let next = left.filter_map(|slot| ranks.get(&slot.group).copied()).max();
        let overdue = gives_up_at.is_some_and(|at| at <= now.moment);
        let recovered = !self.is_recovering() || overdue;
        if next.is_some_and(|rank| rank >= wave) {
            if self.stop_from(wave, patience, recovered, now) {
                self.phase = Phase::Ending { cut_off, wave, patience, gives_up_at: None };
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
                let at = now.moment + RECOVERY_GRACE;
                self.phase = Phase::Ending { cut_off, wave, patience, gives_up_at: Some(at) };
                self.wake(at, Timer::Ending);
            }
            return Advance::NotYet;
        }
        if let Some(wave) = next {
            self.phase = Phase::Ending { cut_off, wave, patience, gives_up_at: None };
            return Advance::NextWave;
        }
        self.abandon_recoveries();
        self.refuse_all();
        self.phase = Phase::Ended;
        Advance::Over(if cut_off { CUT_OFF } else { DRAINED })
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
