//! Reserving calls whose reply never came: until when their jobs may turn up, and when to look for them.
//!
//! Such a call may have been carried out, or may still be: a server that was stopped reads what waits in its sockets
//! when it goes on. So turns look for what carries exactly the mark of the call, until a reservation made by it would
//! have ended by itself. How such jobs are found is each family's own.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qfleet_model::time::WallTime;

use crate::clock;
use crate::driver::{Mark, Receipt, Reserved};

/// After the first look the call is almost certainly over; this often is enough.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Calls without a reply.
#[derive(Debug, Default)]
pub(crate) struct Lost(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    /// Sent, and its reply is awaited or will never come: whoever finds it here at the next turn knows which.
    sent: Option<LostCall>,
    lost: Vec<LostCall>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct LostCall {
    mark: Mark,
    /// What it reserved is nobody's any more then.
    until: WallTime,
    queues: BTreeSet<usize>,
}

impl Lost {
    /// A call is about to be sent that reserves until then.
    pub(crate) fn sending(&self, mark: Mark, until: WallTime, queues: impl Iterator<Item = usize>) {
        let queues: BTreeSet<usize> = queues.collect();
        self.calls().sent = (!queues.is_empty()).then_some(LostCall { mark, until, queues });
    }

    /// Its reply came.
    pub(crate) fn answered(&self) {
        self.calls().sent = None;
    }

    /// Marks of calls whose jobs may still turn up.
    pub(crate) fn marks(&self) -> Vec<Mark> {
        let mut calls = self.calls();
        calls.drop_ended();
        calls.lost.iter().chain(&calls.sent).map(|call| call.mark).collect()
    }

    /// Queues and marks worth a look now. At the beginning of a turn, when no call is under way.
    pub(crate) fn next_search(&self) -> Option<(Vec<usize>, Vec<Mark>)> {
        self.calls().next_search()
    }

    /// A look is over.
    pub(crate) fn looked(&self) {
        self.calls().looked = Some(Instant::now());
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn next_search(&mut self) -> Option<(Vec<usize>, Vec<Mark>)> {
        if let Some(call) = self.sent.take() {
            self.looked = None;
            match self.lost.iter_mut().find(|known| known.mark == call.mark) {
                Some(known) => {
                    known.queues.extend(call.queues);
                    known.until = call.until;
                }
                None => self.lost.push(call),
            }
        }
        self.drop_ended();
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        if self.lost.is_empty() || !due {
            return None;
        }
        let queues: BTreeSet<usize> = self.lost.iter().flat_map(|call| call.queues.iter().copied()).collect();
        Some((queues.into_iter().collect(), self.lost.iter().map(|call| call.mark).collect()))
    }

    fn drop_ended(&mut self) {
        let now = clock::now();
        self.lost.retain(|call| call.until > now);
    }
}

/// Jobs found again. Unless they are handed out they count as not found, so that the next turn finds them once more.
pub(crate) struct Regained<'a, Forget: Fn(&Receipt)> {
    lost: &'a Lost,
    /// What was noted of a job in hand is taken back.
    forget: Forget,
    jobs: Vec<Reserved>,
}

impl<'a, Forget: Fn(&Receipt)> Regained<'a, Forget> {
    /// None yet.
    pub(crate) fn new(lost: &'a Lost, forget: Forget) -> Self {
        Self { lost, forget, jobs: Vec::new() }
    }

    /// One was found, and is noted as in hand.
    pub(crate) fn push(&mut self, job: Reserved) {
        self.jobs.push(job);
    }

    /// They are in the worker's hands now.
    pub(crate) fn hand_out(mut self) -> Vec<Reserved> {
        std::mem::take(&mut self.jobs)
    }
}

impl<Forget: Fn(&Receipt)> Drop for Regained<'_, Forget> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            self.lost.calls().looked = None;
        }
        for job in &self.jobs {
            (self.forget)(&job.receipt);
        }
    }
}
