//! The beginning and the end: the first start of everything, when it has settled, shutdown, and the daemon's exit code.

use std::cmp::Reverse;
use std::time::Duration;

use qfleet_model::process::{Patience, ProcessEvent, ProcessState};
use qfleet_model::time::Moment;

use super::{Effect, Fleet, Now, SlotId, Timer};

/// When all processes are gone, recovery may take this much longer; its ledgers then stay for the next daemon.
const RECOVERY_GRACE: Duration = Duration::from_secs(5);

/// Exit codes of the daemon.
const DRAINED: u8 = 0;
const CUT_OFF: u8 = 75;

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        /// Recovery is abandoned then; `None` while processes live.
        gives_up_at: Option<Moment>,
    },
    /// Over.
    Ended,
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
        let settled = |state: &ProcessState| match state {
            ProcessState::Spawning { .. } => false,
            // It may take as long as the earlier worker's jobs.
            ProcessState::Starting { old_worker, .. } => old_worker.is_some(),
            ProcessState::Stopped
            | ProcessState::Running { .. }
            | ProcessState::Stopping { .. }
            | ProcessState::Backoff { .. }
            | ProcessState::Exited { .. }
            | ProcessState::Fatal { .. } => true,
        };
        if self.phase == Phase::Settling && self.slots.values().all(|slot| settled(&slot.state)) {
            self.phase = Phase::Up;
            self.effects.push(Effect::Settled);
        }
    }

    /// Stops everything at the same time; each process has its own limit, so the longest one counts.
    pub(super) fn shut_down(&mut self, now: Now) {
        if self.phase.is_ending() {
            return;
        }
        self.phase = Phase::Ending { cut_off: false, gives_up_at: None };
        self.changed = true;
        self.effects.push(Effect::ShuttingDown);
        for group in self.order.clone() {
            self.halt_rollout(group, "not restarted: the daemon is shutting down");
        }
        self.refuse_waiting();
        self.stop_all(Patience::Limited, now);
    }

    /// From now on `stop-wait` is zero.
    pub(super) fn hurry(&mut self, now: Now) {
        self.shut_down(now);
        self.stop_all(Patience::AtOnce, now);
    }

    fn stop_all(&mut self, patience: Patience, now: Now) {
        let mut slots = self.by_priority(|_| true);
        slots.sort_by_key(|id| Reverse(self.slots.get(id).map(|slot| slot.spec.settings.process.priority)));
        for slot in slots {
            self.tell(slot, ProcessEvent::Stop(patience), now);
        }
    }

    /// Ends the daemon once nothing of it is left.
    pub(super) fn note_end(&mut self, now: Now) {
        let Phase::Ending { cut_off, gives_up_at } = self.phase else { return };
        if !self.slots.values().all(|slot| slot.state.is_at_rest()) {
            return;
        }
        let overdue = gives_up_at.is_some_and(|at| at <= now.moment);
        if self.is_recovering() && !overdue {
            if gives_up_at.is_none() {
                let at = now.moment + RECOVERY_GRACE;
                self.phase = Phase::Ending { cut_off, gives_up_at: Some(at) };
                self.wake(at, Timer::Ending);
            }
            return;
        }
        self.abandon_recoveries();
        self.refuse_all();
        self.phase = Phase::Ended;
        self.effects.push(Effect::Exit(if cut_off { CUT_OFF } else { DRAINED }));
    }
}

/// A ledger's file name: the slot's part and the number.
fn split(ledger: &str) -> Option<(&str, u64)> {
    let (stem, number) = ledger.rsplit_once('.')?;
    Some((stem, number.parse().ok()?))
}
