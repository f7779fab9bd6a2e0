//! What handlers say of running jobs, on its way to the store.
//!
//! It gathers in one [`Pile`] a connection and goes there in one call at a time, every [`EVERY`] at most, or at once when
//! a job has ended that it is about: its verdict follows it, never the reverse. A pile is bounded; what does not fit, and
//! what a store does not take, is left out, since nothing else may wait for it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qfleet_model::outcome::Output;
use qfleet_model::time::Moment;
use qfleet_queue::driver::{Receipt, Remark};
use qfleet_queue::error::QueueError;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use crate::handler::Remarks;
use crate::run::{Event, Worker};
use crate::slots::HoldId;

/// Two calls in a row are this far apart, unless a job's end or a full pile makes the second one urgent.
const EVERY: Duration = Duration::from_millis(100);
/// Remarks that wait, of all jobs of a connection; one call takes them all.
const MOST: usize = 1000;
/// Their bytes.
const MOST_BYTES: usize = 512 * 1024;

/// One remark that waits.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    id: HoldId,
    receipt: Receipt,
    remark: Remark,
    /// A call with it got no answer.
    sent_before: bool,
}

/// What waits to be sent, in the order in which it was said. Pure.
#[derive(Debug, Default)]
pub(crate) struct Pile {
    waiting: VecDeque<Said>,
    bytes: usize,
    dropped: u64,
}

impl Pile {
    /// Adds a remark. A job's newer progress takes the place of one that waits; when there is no room, the oldest log
    /// line goes. True when somebody should look: there was nothing before, or it has just become half full.
    fn add(&mut self, said: Said) -> bool {
        let (was_empty, was_getting_full) = (self.waiting.is_empty(), self.is_getting_full());
        if matches!(said.remark, Remark::Progress(_)) {
            let older = |other: &Said| other.id == said.id && matches!(other.remark, Remark::Progress(_));
            if let Some(place) = self.waiting.iter().rposition(older) {
                self.remove(place);
            }
        }
        let bytes = size(&said.remark);
        while self.waiting.len() >= MOST || self.bytes + bytes > MOST_BYTES {
            self.dropped += 1;
            let oldest = self.waiting.iter().position(|other| matches!(other.remark, Remark::Log(_)));
            let Some(oldest) = oldest else { return false };
            self.remove(oldest);
        }
        self.bytes += bytes;
        self.waiting.push_back(said);
        was_empty || (!was_getting_full && self.is_getting_full())
    }

    /// What a call without an answer should have brought, before everything else; a second time it is given up.
    fn put_back(&mut self, sent: Vec<Said>) {
        for said in sent.into_iter().rev() {
            let fits = self.waiting.len() < MOST && self.bytes + size(&said.remark) <= MOST_BYTES;
            if said.sent_before || !fits {
                self.dropped += 1;
                continue;
            }
            self.bytes += size(&said.remark);
            self.waiting.push_front(Said { sent_before: true, ..said });
        }
    }

    /// A job is not ours any more.
    fn forget(&mut self, id: HoldId) {
        self.waiting.retain(|said| said.id != id);
        self.bytes = self.waiting.iter().map(|said| size(&said.remark)).sum();
    }

    fn take(&mut self) -> Vec<Said> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting).into()
    }

    fn remove(&mut self, place: usize) {
        if let Some(said) = self.waiting.remove(place) {
            self.bytes -= size(&said.remark);
        }
    }

    fn is_getting_full(&self) -> bool {
        self.waiting.len() >= MOST / 2 || self.bytes >= MOST_BYTES / 2
    }
}

fn size(remark: &Remark) -> usize {
    match remark {
        Remark::Progress(Output::Json(text)) => text.len(),
        Remark::Progress(Output::Text(text)) | Remark::Log(text) => text.len(),
    }
}

/// The remarks of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pile: Arc<Mutex<Pile>>,
    /// The call under way.
    sent: Option<Vec<Said>>,
    /// When the last one was sent.
    sent_at: Option<Moment>,
    /// That some are left out was told, and is so still.
    told: bool,
}

impl Outbox {
    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs whose verdict has to wait for what was said of them.
    pub(crate) fn jobs(&self) -> HashSet<HoldId> {
        let pile = self.pile();
        pile.waiting.iter().chain(self.sent.iter().flatten()).map(|said| said.id).collect()
    }

    /// Adds what we have to say ourselves.
    pub(crate) fn add(&self, id: HoldId, receipt: &Receipt, remark: Remark) {
        self.pile().add(Said { id, receipt: receipt.clone(), remark, sent_before: false });
    }

    /// Nothing more is to be written about a job.
    pub(crate) fn forget(&self, id: HoldId) {
        self.pile().forget(id);
    }
}

/// One job's way to the pile.
#[derive(Debug)]
struct OfJob {
    pile: Arc<Mutex<Pile>>,
    id: HoldId,
    receipt: Receipt,
    events: UnboundedSender<Event>,
}

impl Remarks for OfJob {
    fn add(&self, remark: Remark) {
        let said = Said { id: self.id, receipt: self.receipt.clone(), remark, sent_before: false };
        if self.pile.lock().unwrap_or_else(PoisonError::into_inner).add(said) {
            let _ended = self.events.send(Event::Said);
        }
    }
}

impl Worker {
    /// Where a handler says what it has to say of its job.
    pub(crate) fn remarks_of(&self, at: usize, id: HoldId, receipt: &Receipt) -> Arc<dyn Remarks> {
        let pile = Arc::clone(&self.sources[at].remarks.pile);
        Arc::new(OfJob { pile, id, receipt: receipt.clone(), events: self.events.clone() })
    }

    /// Sends what was said, when it is time for that.
    pub(crate) fn pass_remarks_on(&mut self, at: usize, now: Moment) {
        let source = &self.sources[at];
        let outbox = &source.remarks;
        let (empty, getting_full) = {
            let pile = outbox.pile();
            (pile.waiting.is_empty(), pile.is_getting_full())
        };
        if outbox.sent.is_some() || empty {
            return;
        }
        let urgent = getting_full || {
            let jobs = outbox.jobs();
            source.pending.iter().any(|(id, _)| id.is_some_and(|id| jobs.contains(&id)))
        };
        match outbox.sent_at.map(|sent| sent + EVERY) {
            Some(due) if !urgent && now < due => self.wake_at(due),
            _ => self.sources[at].send_remarks(at, now, &self.events),
        }
    }

    /// Remarks were taken, or not.
    pub(crate) fn remarked(&mut self, at: usize, answer: Result<(), QueueError>, now: Moment) {
        let Some(sent) = self.sources[at].remarks.sent.take() else { return };
        match answer {
            Ok(()) => {
                self.sources[at].reach.looks_well();
            }
            Err(error @ QueueError::Unreachable(_)) => {
                self.sources[at].remarks.pile().put_back(sent);
                self.store_fails(at, &error, now);
            }
            Err(QueueError::Refused(why)) => {
                self.sources[at].remarks.pile().dropped += sent.len() as u64;
                self.tell_dropped(at, &why);
                return;
            }
        }
        self.tell_dropped(at, "there are more than the store takes");
    }

    /// Tells once that something was left out, and again when that was over in between.
    fn tell_dropped(&mut self, at: usize, why: &str) {
        let source = &mut self.sources[at];
        let dropped = std::mem::take(&mut source.remarks.pile().dropped);
        if dropped > 0 && !source.remarks.told {
            warn!(connection = source.name, dropped, "progress and log lines of jobs are left out: {why}");
        }
        source.remarks.told = dropped > 0;
    }
}

impl Outbox {
    /// Everything that waits is on its way from now on.
    pub(crate) fn begin(&mut self, now: Moment) -> Vec<(Receipt, Remark)> {
        let sent = self.pile().take();
        let call = sent.iter().map(|said| (said.receipt.clone(), said.remark.clone())).collect();
        (self.sent, self.sent_at) = (Some(sent), Some(now));
        call
    }
}

#[cfg(test)]
#[path = "remarks_tests.rs"]
mod tests;
