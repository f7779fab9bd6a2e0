//! Reserving calls whose reply never came, and the jobs they may have taken.
//!
//! Such a call may have been carried out, or may still be: a server that was stopped reads what waits in its sockets
//! when it goes on. So turns look for active jobs locked with exactly the token of the call, until a lock made by it
//! would have run out. What was noted of jobs in hand tells those from the ones nobody knows of.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qfleet_model::time::WallTime;

use super::held::{Held, digest_of};
use super::queues::Queues;
use super::row::Row;
use super::turn::Taken;
use crate::clock;
use crate::driver::{LaneId, Mark, Reserved};
use crate::error::QueueError;
use crate::redis::{Call, Reply};

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
    /// Its locks have run out then.
    until: WallTime,
    queues: BTreeSet<usize>,
}

impl Lost {
    /// A call is about to be sent.
    pub(super) fn sending(&self, mark: Mark, until: WallTime, queues: impl Iterator<Item = usize>) {
        let queues: BTreeSet<usize> = queues.collect();
        self.calls().sent = (!queues.is_empty()).then_some(LostCall { mark, until, queues });
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
        driver: &'a Queues,
        rooms: &mut [(LaneId, u32)],
    ) -> Result<Regained<'a>, QueueError> {
        let mut regained = Regained { driver, jobs: Vec::new() };
        let Some((queues, marks)) = self.calls().next_search() else { return Ok(regained) };
        if rooms.iter().all(|(_, room)| *room == 0) {
            return Ok(regained);
        }
        let now = clock::now();
        let tokens: BTreeSet<String> = marks.into_iter().map(|mark| driver.token(mark)).collect();
        let mut taken = Vec::new();
        for (queue, found) in driver.locked_by(driver.tag, &queues).await? {
            if !tokens.contains(&found.token) || driver.in_hand.has(queue, digest_of(&found.id), &found.token)
            {
                continue;
            }
            let room =
                rooms.iter_mut().find(|(lane, room)| *room > 0 && driver.lanes.of(*lane).contains(&queue));
            let Some((lane, room)) = room else { continue };
            *room -= 1;
            let Locked { id, token, row, notes } = found;
            taken.push(Taken { lane: *lane, queue, id, token, row, notes });
        }
        let next = taken.iter().filter_map(|one| driver.following(one, now)).collect();
        driver.go_on_with_schedules(next, now).await?;
        self.calls().looked = Some(Instant::now());
        regained.jobs = taken.into_iter().map(|one| driver.reserved(one, now)).collect();
        Ok(regained)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An active job locked by one worker, or whose lock ran out: then the token is empty.
pub(super) struct Locked {
    pub(super) id: String,
    pub(super) token: String,
    pub(super) row: Row,
    pub(super) notes: Reply,
}

impl Queues {
    /// Every active job of these queues that is locked by the worker with this tag, or by nobody any more.
    pub(super) async fn locked_by(
        &self,
        tag: u32,
        queues: &[usize],
    ) -> Result<Vec<(usize, Locked)>, QueueError> {
        let mut call = Call::default();
        call.own(clock::now().as_millis()).own(Self::tokens_of(tag));
        self.add_queues(&mut call, queues, &[]);
        let mut all = Vec::new();
        for found in self.link.run(&self.scripts.find, &call).await?.list() {
            let [place, id, token, row, notes] = found.fields();
            let queue = place.number::<usize>().and_then(|place| queues.get(place.wrapping_sub(1)));
            let Some(queue) = queue else { continue };
            all.push((
                *queue,
                Locked { id: id.text(), token: token.text(), row: (self.library.row)(row), notes },
            ));
        }
        Ok(all)
    }
}

impl Calls {
    /// Queues and marks worth a look now.
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

    /// What such a call locked is nobody's any more.
    fn drop_ended(&mut self) {
        let now = clock::now();
        self.lost.retain(|call| call.until > now);
    }
}

/// Jobs found again. Unless they are handed out they count as not found, so that the next turn finds them once more.
pub(super) struct Regained<'a> {
    driver: &'a Queues,
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
