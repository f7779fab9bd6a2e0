//! Who gives back what dead workers held: a child of its own for each ledger that was left behind, started at once,
//! whatever backoff the slot is in. It waits itself until the dead worker's lock is free.

use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::settings::Group as GroupSettings;
use qfleet_model::link::FromChild;
use qfleet_model::process::{Pid, SIGKILL, said};
use qfleet_model::snapshot::Exit;
use qfleet_model::time::Moment;
use qfleet_model::words::counted;
use serde::{Deserialize, Serialize};

use super::{Effect, Fleet, Now, Owner, RecoveryId, SlotId, Timer};

/// No pause between two attempts is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A ledger that is being taken care of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Recovery {
    /// The dead worker's full name, as far as known.
    name: Arc<str>,
    /// The settings it ran with.
    pub(super) group: Option<Arc<GroupSettings>>,
    ledger: String,
    pid: Option<Pid>,
    #[serde(default)]
    failures: u32,
    /// The dead worker is not dead yet, or its store is away; this may take long.
    #[serde(default)]
    waiting: bool,
    pub(super) retry_at: Option<Moment>,
}

impl Fleet {
    /// Takes care of the ledger of the slot's dead worker.
    pub(super) fn recover_for(&mut self, slot: SlotId, ledger: String) {
        let Some(slot) = self.slots.get(&slot) else { return };
        self.recover(slot.label.clone(), Some(slot.spec.settings.clone()), ledger);
    }

    /// Takes care of a ledger of which only the file name is known.
    pub(super) fn recover_unknown(&mut self, ledger: &str) {
        let stem = ledger.rsplit_once('.').map_or(ledger, |(stem, _)| stem);
        self.recover(Arc::from(stem), None, ledger.to_owned());
    }

    fn recover(&mut self, name: Arc<str>, group: Option<Arc<GroupSettings>>, ledger: String) {
        let id = RecoveryId(self.fresh_id());
        let recovery =
            Recovery { name, group, ledger, pid: None, failures: 0, waiting: false, retry_at: None };
        self.effects.push(recovery.effect(id));
        self.recoveries.insert(id, recovery);
    }

    pub(super) fn recovery_spawned(&mut self, id: RecoveryId, pid: Option<Pid>, now: Now) {
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        recovery.pid = pid;
        match pid {
            Some(pid) => {
                self.children.insert(pid, Owner::Recovery(id));
            }
            None => self.try_later(id, now),
        }
    }

    pub(super) fn recovery_said(&mut self, id: RecoveryId, message: &FromChild, now: Now) {
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        let (name, pid) = (recovery.name.clone(), recovery.pid);
        match message {
            FromChild::Waiting { .. } => recovery.waiting = true,
            FromChild::Recovered { returned, buried, started } => {
                self.note_jobs_cut_off(started);
                self.note_crashed_jobs(&name, started, *buried, now);
                let jobs = counted(*returned, "job", "jobs");
                let text = format!("gave back {jobs} of the dead worker, set {buried} aside");
                self.log(*buried > 0, name, pid, text);
            }
            FromChild::Failed { step, error, .. } => {
                let text = format!("cannot give back the jobs of the dead worker: cannot {step}: {error}");
                self.log(true, name, pid, text);
            }
            FromChild::Ready
            | FromChild::Elsewhere
            | FromChild::WantsReplacement { .. }
            | FromChild::CutOff { .. }
            | FromChild::Report(_) => {}
        }
    }

    pub(super) fn recovery_ended(&mut self, id: RecoveryId, exit: &Exit, left: bool, now: Now) {
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        let pid = recovery.pid.take();
        if !left {
            self.recoveries.remove(&id);
            return;
        }
        let name = recovery.name.clone();
        let text = format!("giving back the jobs of the dead worker ended {}; it is tried again", said(exit));
        self.log(true, name, pid, text);
        self.try_later(id, now);
    }

    fn try_later(&mut self, id: RecoveryId, now: Now) {
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        let seconds = 1_u64.checked_shl(recovery.failures).unwrap_or(u64::MAX);
        recovery.failures += 1;
        let at = now.moment + Duration::from_secs(seconds).min(LONGEST_PAUSE);
        recovery.retry_at = Some(at);
        self.wake(at, Timer::Recovery(id));
    }

    pub(super) fn retry_recovery(&mut self, id: RecoveryId, at: Moment) {
        let Some(recovery) = self.recoveries.get_mut(&id) else { return };
        if recovery.retry_at == Some(at) {
            recovery.retry_at = None;
            recovery.waiting = false;
            let effect = recovery.effect(id);
            self.effects.push(effect);
        }
    }

    /// Whether a child is at work that will soon be done.
    pub(super) fn is_recovering(&self) -> bool {
        self.recoveries.values().any(|recovery| !recovery.waiting && recovery.retry_at.is_none())
    }

    /// Ends what recovery is still under way; the ledgers stay for the next daemon.
    pub(super) fn abandon_recoveries(&mut self) {
        for recovery in std::mem::take(&mut self.recoveries).into_values() {
            if let Some(pid) = recovery.pid {
                self.children.remove(&pid);
                self.effects.push(Effect::Signal { pid, signal: SIGKILL, group: true });
            }
        }
    }
}

impl Recovery {
    fn effect(&self, id: RecoveryId) -> Effect {
        Effect::Recover {
            recovery: id,
            name: self.name.to_string(),
            group: self.group.clone(),
            ledger: self.ledger.clone(),
        }
    }
}
