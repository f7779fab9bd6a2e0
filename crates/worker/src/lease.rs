//! Leases: everything in hand of a connection is renewed in one call at a third of its lease, whatever is being done with
//! it. No answer changes nothing. Only a job that another worker has by now is let go.

use qfleet_model::time::Moment;
use qfleet_queue::driver::{Receipt, Renewal};
use qfleet_queue::error::QueueError;
use tracing::{debug, warn};

use crate::handler::Cancel;
use crate::run::Worker;
use crate::slots::{HoldId, Phase};

impl Worker {
    /// A job came in: look at the leases in time.
    pub(crate) fn keep_fresh(&mut self, at: usize, now: Moment) {
        let source = &mut self.sources[at];
        let third = source.driver.lease() / 3;
        source.renew_at.get_or_insert(now + third);
    }

    /// Renews when something in hand is a third of its lease old.
    pub(crate) fn renew_what_is_due(&mut self, at: usize, now: Moment) {
        let Some(renew_at) = self.sources[at].renew_at else { return };
        if self.sources[at].renewing.is_some() {
            return;
        }
        if now < renew_at {
            self.wake_at(renew_at);
            return;
        }
        let third = self.sources[at].driver.lease() / 3;
        let oldest = self.slots.all().filter(|(_, hold)| hold.source == at).map(|(_, hold)| hold.fresh).min();
        // Jobs that came since may have gone since.
        self.sources[at].renew_at = oldest.map(|oldest| oldest + third);
        match self.sources[at].renew_at {
            Some(due) if now < due => self.wake_at(due),
            Some(_) => {
                self.renew_everything(at);
            }
            None => {}
        }
    }

    /// Renews all that is in hand of a connection; false when there is nothing.
    pub(crate) fn renew_everything(&mut self, at: usize) -> bool {
        let held: Vec<(HoldId, Receipt)> = self
            .slots
            .all()
            .filter(|(_, hold)| hold.source == at && !is_lost(&hold.phase))
            .map(|(id, hold)| (id, hold.receipt.clone()))
            .collect();
        let some = !held.is_empty();
        if some {
            self.sources[at].send_renewal(at, held, &self.events);
        }
        some
    }

    /// A renewal was answered.
    pub(crate) fn renewed(&mut self, at: usize, answer: Result<Vec<Renewal>, QueueError>, now: Moment) {
        let Some(held) = self.sources[at].renewing.take() else { return };
        let third = self.sources[at].driver.lease() / 3;
        match answer {
            Ok(renewals) => {
                self.sources[at].reach.looks_well();
                self.sources[at].renew_at = Some(now + third);
                for (id, renewal) in held.into_iter().zip(renewals) {
                    match renewal {
                        Renewal::Held => self.slots.renewed(id, now),
                        Renewal::Lost => self.job_is_lost(id),
                    }
                }
            }
            Err(error) => {
                self.sources[at].renew_at = Some(now);
                self.store_fails(at, &error, now);
            }
        }
    }

    /// Another worker has the job now.
    fn job_is_lost(&mut self, id: HoldId) {
        let Some(hold) = self.slots.get(id) else { return };
        let queue = &self.lanes.all[hold.lane].name;
        match &hold.phase {
            // Its turn tells.
            Phase::Settling(_) => return,
            Phase::Fetched { job, .. } => {
                debug!(queue, job = job.id, "another worker took it before it was started");
            }
            Phase::Burying { task, .. } => task.abort(),
            Phase::Running(running) => {
                warn!(queue, job = running.job.id, "another worker has the job: the delivery is cancelled");
                running.cancel.send_replace(Some(Cancel::Lost));
            }
        }
        self.sources[hold.source].remarks.forget(id);
        if let Some(running) = self.slots.running_mut(id) {
            // Its record stays until its process is gone.
            running.lost = true;
        } else {
            self.ledger.clear(id.record());
            self.slots.remove(id);
            self.speaker.count_late();
        }
    }
}

fn is_lost(phase: &Phase) -> bool {
    matches!(phase, Phase::Running(running) if running.lost)
}
