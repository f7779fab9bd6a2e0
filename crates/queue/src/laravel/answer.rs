//! Reading what a turn did: verdicts that took effect, jobs in hand, queues that are empty, paused or broken.

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::job::{History, Job};
use qfleet_model::time::WallTime;

use super::held::{Found, Held, Undo, digest_of, lower, raise};
use super::turn::Asked;
use super::{Laravel, payload};
use crate::clock;
use crate::driver::{LaneId, Mark, Receipt, Reserved, Settled, Settlement, Turn};
use crate::error::Unreadable;
use crate::per_lane::{LaneStates, earlier};
use crate::redis::Reply;

impl Laravel {
    pub(super) fn read_verdicts(
        &self,
        settle: &[Settlement],
        sent_before: &[Option<bool>],
        verdicts: Reply,
        turn: &mut Turn,
    ) {
        let now = clock::now();
        let mut answers = verdicts.list().into_iter();
        for (one, sent) in settle.iter().zip(sent_before) {
            let settled = match (sent, one.receipt.inner::<Held>()) {
                (Some(sent), Some(held)) => {
                    held.lease.answered();
                    let answer = answers.next().unwrap_or(Reply(redis::Value::Nil));
                    match answer.number::<i64>() {
                        Some(1) => Settled::Done,
                        Some(_) if held.lease.must_have_taken_effect(*sent, now) => Settled::Done,
                        Some(_) => Settled::Lost,
                        None => {
                            let name = self.queue_name(held.queue);
                            turn.broken.push((
                                one.receipt.lane(),
                                format!(
                                    "a job of `{name}` cannot be moved and waits for its lease to end: {}",
                                    answer.text()
                                ),
                            ));
                            Settled::Lost
                        }
                    }
                }
                _ => Settled::Done,
            };
            turn.settled.push(self.let_go(one, settled));
        }
    }

    /// The job is out of our hands.
    pub(super) fn let_go(&self, one: &Settlement, settled: Settled) -> Settled {
        self.forget(&one.receipt);
        settled
    }

    /// Takes back what was noted of a job in hand.
    pub(super) fn forget(&self, receipt: &Receipt) {
        if let Some(held) = receipt.inner::<Held>() {
            self.in_hand.remove(held, receipt.digest());
        }
    }

    /// How many were taken from each asked queue.
    pub(super) fn read_jobs(
        &self,
        jobs: Reply,
        asked: &[Asked],
        mark: Mark,
        now: WallTime,
        turn: &mut Turn,
    ) -> Vec<u32> {
        let mut taken = vec![0; asked.len()];
        for job in jobs.list() {
            let [place, ready, at, len, raised, identity, counters] = job.fields();
            let place = place.number::<usize>().unwrap_or_default().wrapping_sub(1);
            let (Some(from), Some(ready)) = (asked.get(place), ready.bytes()) else { continue };
            let counter = at.number::<usize>().zip(len.number::<usize>());
            let counter = counter.map(|(at, len)| raise(&ready, at, len, &raised.text()));
            let taking = Taking { lane: from.lane, queue: from.queue, identity: identity.text(), counters };
            turn.jobs.push(self.reserved(taking, ready, counter, now, f64::from_bits(mark.0)));
            taken[place] += 1;
        }
        taken
    }

    /// A job in hand, from its ready bytes and (where it has a usable counter) its reserved bytes.
    pub(super) fn reserved(
        &self,
        taking: Taking,
        ready: Vec<u8>,
        counter: Option<(Vec<u8>, Undo)>,
        now: WallTime,
        until: f64,
    ) -> Reserved {
        let remembered = taking.counters.0 != redis::Value::Nil;
        let history = history(taking.counters);
        let (reserved, undo) = match counter {
            Some((reserved, undo)) => (reserved, Some(undo)),
            None => (ready.clone(), None),
        };
        let place = self.place(taking.lane, taking.queue);
        let mut deliveries = history.deliveries;
        let job: Result<Job, Unreadable> = payload::read(ready, place, history).map(|mut job| {
            // Peers do not note their deliveries; the attempts they spent show them.
            job.history.deliveries = job.history.deliveries.max(job.attempt - 1);
            deliveries = job.history.deliveries;
            job
        });
        let found = Found {
            queue: taking.queue,
            reserved,
            undo,
            identity: taking.identity,
            deliveries,
            remembered,
            unreadable: job.as_ref().err().map(|problem| problem.0.clone()),
        };
        let held = Held::new(found, now, until);
        let digest = held.digest();
        self.in_hand.add(&held, digest);
        let receipt =
            Receipt::new(taking.lane, self.place_in_lane(taking.lane, taking.queue), digest, Arc::new(held));
        Reserved { lane: taking.lane, job, receipt }
    }

    /// A job found in the reserved set, taken by a call whose reply was lost.
    ///
    /// None when it is in hand.
    pub(super) fn reserved_again(&self, taking: Taking, bytes: Vec<u8>, until: f64) -> Option<Reserved> {
        if self.in_hand.has(taking.queue, digest_of(&bytes)) {
            return None;
        }
        let (ready, counter) = match lower(&bytes) {
            Some((ready, undo)) => (ready, Some((bytes, undo))),
            None => (bytes, None),
        };
        Some(self.reserved(taking, ready, counter, clock::now(), until))
    }

    pub(super) fn read_states(&self, states: Reply, asked: &[Asked], taken: &[u32], turn: &mut Turn) {
        let mut states = states.list().into_iter();
        let mut lanes = LaneStates::default();
        for (from, taken) in asked.iter().zip(taken) {
            let state = states.next().unwrap_or(Reply(redis::Value::Nil));
            let [state, left, due, text] = state.fields();
            let left = left.number::<u64>().unwrap_or_default();
            let state = state.number::<u8>().unwrap_or_default();
            let (paused, broken, limited) = (state == 1, state == 2, state == 3);
            let due = if limited { due.number().map(window_end) } else { due.score().map(seconds_date) };
            if broken {
                let name = self.queue_name(from.queue);
                turn.broken.push((from.lane, format!("queue `{name}` cannot be worked: {}", text.text())));
            }
            // An element of the notify list stands for a job; where no job is left, what we were woken for is gone.
            if left > 0 || limited {
                self.sleeper.put_back([(from.queue, from.woken.saturating_sub(*taken))]);
            }
            self.sleeper.rest(from.queue, due.filter(|_| limited));
            turn.next_due = earlier(turn.next_due, due);
            lanes.add(from.lane, left > 0, paused);
        }
        lanes.tell(turn);
    }
}

/// What is known of a job beside its bytes.
pub(super) struct Taking {
    pub(super) lane: LaneId,
    pub(super) queue: usize,
    pub(super) identity: String,
    pub(super) counters: Reply,
}

/// Deliveries, snoozes, first delivery, crashes, exceptions, previous end.
pub(super) fn history(counters: Reply) -> History {
    let [deliveries, snoozes, first, crashes, exceptions, previous] = counters.fields();
    History {
        deliveries: deliveries.number().unwrap_or_default(),
        snoozes: snoozes.number().unwrap_or_default(),
        first_delivery: first.number::<i64>().map(WallTime::from_millis),
        crashes: crashes.number().unwrap_or_default(),
        exceptions: exceptions.number().unwrap_or_default(),
        previous: Some(previous.text()).filter(|text| !text.is_empty()),
    }
}

/// When a window is over that had so many milliseconds left. Counted from now, which is after the script looked, and a
/// millisecond later, since until then it is not quite over.
fn window_end(left: u64) -> WallTime {
    clock::now() + Duration::from_millis(left.saturating_add(1))
}

pub(super) fn seconds_date(seconds: f64) -> WallTime {
    // Rounded up: a date one millisecond early would be looked at twice.
    WallTime::from_millis((seconds * 1000.0).ceil() as i64)
}
