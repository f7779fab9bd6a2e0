//! Reserving calls whose reply never came, and the jobs they may have taken.
//!
//! Such a call may have been carried out, or may still be: a server that was stopped reads what waits in its sockets
//! when it goes on. So turns look for members with exactly the score of the call, until a reservation made by it would
//! have ended by itself. What was noted of jobs in hand tells those from the ones nobody knows of.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Laravel;
use super::answer::Taking;
use super::held::Held;
use crate::clock;
use crate::driver::{LaneId, Mark, Reserved};
use crate::error::QueueError;
use crate::redis::Call;

/// After the first look the call is almost certainly over; this often is enough.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Calls without a reply.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<Calls>);

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
    queues: BTreeSet<usize>,
}

impl Lost {
    /// A call is about to be sent.
    pub(super) fn sending(&self, mark: Mark, queues: impl Iterator<Item = usize>) {
        let queues: BTreeSet<usize> = queues.collect();
        self.calls().sent = (!queues.is_empty()).then_some(LostCall { mark, queues });
    }

    /// Its reply came.
    pub(super) fn answered(&self) {
        self.calls().sent = None;
    }

    /// Marks of calls whose jobs may still turn up.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let mut calls = self.calls();
        calls.drop_ended();
        calls.lost.iter().chain(&calls.sent).map(|call| call.mark).collect()
    }

    /// Looks for jobs of lost calls, as many as there is room for, and takes them off that room.
    pub(super) async fn search<'a>(
        &self,
        driver: &'a Laravel,
        rooms: &mut [(LaneId, u32)],
    ) -> Result<Regained<'a>, QueueError> {
        let mut regained = Regained { driver, jobs: Vec::new() };
        let Some((queues, marks)) = self.calls().due_for_a_look() else { return Ok(regained) };
        if rooms.iter().all(|(_, room)| *room == 0) {
            return Ok(regained);
        }
        let mut call = Call::default();
        call.own(driver.tag);
        for queue in &queues {
            let name = driver.queue_name(*queue);
            call.key(driver.keys.ready(name)).own(driver.keys.counters(name));
        }
        for mark in marks {
            call.own(f64::from_bits(mark.0));
        }
        let reply = driver.link.run(&driver.scripts.find, &call).await?;
        self.calls().looked = Some(Instant::now());
        for found in reply.list() {
            let [place, bytes, score, identity, counters] = found.fields();
            let queue = place.number::<usize>().and_then(|place| queues.get(place.wrapping_sub(1)));
            let (Some(queue), Some(bytes), Some(until)) = (queue, bytes.bytes(), score.score()) else {
                continue;
            };
            let room =
                rooms.iter_mut().find(|(lane, room)| *room > 0 && driver.queues_of(*lane).contains(queue));
            let Some((lane, room)) = room else { continue };
            let taking = Taking { lane: *lane, queue: *queue, identity: identity.text(), counters };
            if let Some(job) = driver.reserved_again(taking, bytes, until) {
                *room -= 1;
                regained.jobs.push(job);
            }
        }
        Ok(regained)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Queues and marks worth a look now.
    fn due_for_a_look(&mut self) -> Option<(Vec<usize>, Vec<Mark>)> {
        if let Some(call) = self.sent.take() {
            self.looked = None;
            match self.lost.iter_mut().find(|known| known.mark == call.mark) {
                Some(known) => known.queues.extend(call.queues),
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

    /// What such a call reserved has ended by itself.
    fn drop_ended(&mut self) {
        let now = clock::now().as_millis() as f64 / 1000.0;
        self.lost.retain(|call| f64::from_bits(call.mark.0) > now);
    }
}

/// Jobs found again. Unless they are handed out they count as not found, so that the next turn finds them once more.
pub(super) struct Regained<'a> {
    driver: &'a Laravel,
    jobs: Vec<Reserved>,
}

impl Regained<'_> {
    /// They are in the worker's hands now.
    pub(super) fn hand_out(mut self) -> Vec<Reserved> {
        std::mem::take(&mut self.jobs)
    }
}

impl Drop for Regained<'_> {
    fn drop(&mut self) {
        if !self.jobs.is_empty() {
            self.driver.lost.calls().looked = None;
        }
        for job in &self.jobs {
            if let Some(held) = job.receipt.inner::<Held>() {
                self.driver.in_hand.remove(held, job.receipt.digest());
            }
        }
    }
}
