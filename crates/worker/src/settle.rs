//! Verdicts on their way: noted in the ledger, sent with the next turn, counted when they took effect; and jobs given back
//! that cannot start soon.

use qfleet_model::outcome::Verdict;
use qfleet_model::time::{Moment, WallTime};
use qfleet_os::clock;
use qfleet_queue::driver::{DeadState, DeadVerdict, Settled, Settlement};
use tracing::info;

use crate::prefetch::Known;
use crate::run::Worker;
use crate::slots::{Counted, Hold, HoldId, Phase};

impl Worker {
    /// The same for a job that has no place in the ledger.
    pub(crate) fn settle_unnoted(&mut self, at: usize, hold: Hold, verdict: Verdict) {
        self.sources[at].pending.push((None, Settlement { receipt: hold.receipt, verdict }));
    }

    /// Queues a verdict for the next turn.
    pub(crate) fn settle(&mut self, id: HoldId, verdict: Verdict, counted: Counted) {
        let fate = fate(&verdict, clock::wall());
        self.settle_with_fate(id, verdict, counted, fate);
    }

    /// The same, with what is to become of the job if we die before the turn.
    pub(crate) fn settle_with_fate(
        &mut self,
        id: HoldId,
        verdict: Verdict,
        counted: Counted,
        fate: DeadState,
    ) {
        if self.slots.change(id, Phase::Settling(counted)).is_none() {
            return;
        }
        let Some(hold) = self.slots.get(id) else { return };
        self.ledger.foretell(id.record(), hold.source, &hold.receipt, fate);
        let settlement = Settlement { receipt: hold.receipt.clone(), verdict };
        self.sources[hold.source].pending.push((Some(id), settlement));
    }

    /// A verdict was carried out, or the job was not ours any more.
    pub(crate) fn settled(&mut self, id: Option<HoldId>, settlement: &Settlement, settled: Settled) {
        let Some(id) = id else { return };
        let Some(Hold { phase: Phase::Settling(counted), lane, .. }) = self.slots.remove(id) else { return };
        self.ledger.clear(id.record());
        if settled == Settled::Lost {
            let queue = &self.lanes.all[lane].name;
            info!(queue, late_outcome = ?counted, verdict = name_of(&settlement.verdict), "another worker had the job by then");
            self.speaker.count_late();
        } else {
            self.speaker.count(counted);
        }
    }

    /// Gives back what is in stock and cannot start soon: the jobs that came in last.
    pub(crate) fn give_back_excess(&mut self, now: Moment) {
        if self.drain.is_some() {
            self.alone = None;
        }
        let allowed = if self.drain.is_some() || self.alone.is_some() {
            0
        } else {
            let ahead = (0..self.sources.len()).map(|at| self.ahead(at, now)).max().unwrap_or_default();
            self.settings.concurrency.saturating_sub(self.slots.busy()) + ahead
        };
        let waits_alone = self.alone.filter(|id| self.slots.is_in_stock(*id));
        let allowed = allowed + u32::from(waits_alone.is_some());
        let excess = self.slots.in_stock().saturating_sub(allowed);
        // Those of one turn keep the order in which they stand in it.
        for id in self.slots.newest_in_stock(excess, waits_alone) {
            if let Some(hold) = self.slots.get(id) {
                self.lane_states[hold.lane].note(Known::More, now);
            }
            self.settle(id, Verdict::GiveBack, Counted::GivenBack);
        }
    }
}

/// What a recovery is to do with a job whose verdict did not get through.
fn fate(verdict: &Verdict, now: WallTime) -> DeadState {
    let again = |due, counted| DeadState::Settling(DeadVerdict::Again { due, counted });
    match verdict {
        // A bin that lacks an entry is better than an unwanted job that runs.
        Verdict::Complete { .. } | Verdict::Discard { .. } => DeadState::Settling(DeadVerdict::Complete),
        Verdict::Retry { after, .. } => again(now + *after, true),
        Verdict::Snooze { after, .. } => again(now + *after, false),
        Verdict::GiveBackAt { due } => again(*due, false),
        Verdict::GiveBack => DeadState::Fetched,
        Verdict::Bury { .. } | Verdict::Nothing => DeadState::Settling(DeadVerdict::Other),
    }
}

/// When the job will be wanted again, if it will.
pub(crate) fn due(verdict: &Verdict, now: WallTime) -> Option<WallTime> {
    match verdict {
        Verdict::Retry { after, .. } | Verdict::Snooze { after, .. } => Some(now + *after),
        Verdict::GiveBackAt { due } => Some(*due),
        Verdict::Complete { .. }
        | Verdict::Discard { .. }
        | Verdict::GiveBack
        | Verdict::Bury { .. }
        | Verdict::Nothing => None,
    }
}

fn name_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Complete { .. } => "complete",
        Verdict::Retry { .. } => "retry",
        Verdict::Snooze { .. } => "snooze",
        Verdict::Bury { .. } => "bury",
        Verdict::Discard { .. } => "discard",
        Verdict::GiveBack | Verdict::GiveBackAt { .. } => "give back",
        Verdict::Nothing => "nothing",
    }
}
