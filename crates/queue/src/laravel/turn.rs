//! One turn: builds the script's arguments from verdicts and asks, reads what it did, and looks for what lost replies
//! took.

use std::collections::HashMap;
use std::sync::Arc;

use qfleet_model::job::{History, Job};
use qfleet_model::time::WallTime;

use super::held::{Found, Held, Undo, digest_of, lower, raise};
use super::{Laravel, payload, score_text, settle};
use crate::clock;
use crate::driver::{Ask, LaneId, Mark, Receipt, Reserved, Settled, Settlement, Turn};
use crate::error::{QueueError, Unreadable};
use crate::redis::{Call, Reply};

/// Most jobs made ready per set and turn; what is left is ready a turn later.
const BATCH: usize = 200;

/// The queues of one call, in order of appearance.
#[derive(Default)]
pub(super) struct Places {
    queues: Vec<usize>,
    by_queue: HashMap<usize, usize>,
}

impl Places {
    /// The queue's place in the call, from 1.
    pub(super) fn of(&mut self, queue: usize) -> usize {
        *self.by_queue.entry(queue).or_insert_with(|| {
            self.queues.push(queue);
            self.queues.len()
        })
    }
}

/// A queue that is asked for jobs.
struct Asked {
    lane: LaneId,
    queue: usize,
    woken: u32,
}

impl Laravel {
    pub(super) async fn take_turn(
        &self,
        settle: &[Settlement],
        asks: &[Ask],
        mark: Mark,
    ) -> Result<Turn, QueueError> {
        let _turn = self.turning.lock().await;
        let mut rooms: Vec<(LaneId, u32)> = asks.iter().map(|ask| (ask.lane, ask.at_most)).collect();
        // First of all, so that what is found counts against the room there is.
        let regained = self.lost.search(self, &mut rooms).await?;

        let now = clock::now();
        let mut places = Places::default();
        let mut args = Call::default();
        let sent_before = self.add_verdicts(settle, &mut places, &mut args, now)?;
        let asked = self.add_asks(&rooms, &mut places, &mut args);
        let mut turn = Turn { broken: self.broken_wakeups(), ..Turn::default() };
        if asked.is_empty() && sent_before.iter().all(Option::is_none) {
            turn.settled = settle.iter().map(|one| self.let_go(one, Settled::Done)).collect();
            return Ok(turn);
        }
        let call = self.turn_call(&places, args, self.tag, f64::from_bits(mark.0), now);

        // From here on, and until the reply is read, the call may have done anything.
        self.lost.sending(mark, asked.iter().map(|one| one.queue));
        for (one, _) in settle.iter().zip(&sent_before).filter(|(_, sent)| sent.is_some()) {
            if let Some(held) = one.receipt.inner::<Held>() {
                held.sending();
            }
        }
        let reply = match self.link.run(&self.scripts.turn, &call).await {
            Ok(reply) => reply,
            Err(error) => {
                self.sleeper.put_back(asked.iter().map(|one| (one.queue, one.woken)));
                if matches!(error, QueueError::Unreachable(_)) {
                    self.sleeper.reconnect();
                }
                return Err(error);
            }
        };
        self.lost.answered();
        turn.jobs = regained.hand_out();
        let [verdicts, jobs, states] = reply.fields();
        self.read_verdicts(settle, &sent_before, verdicts, &mut turn);
        let taken = self.read_jobs(jobs, &asked, mark, now, &mut turn);
        self.read_states(states, &asked, &taken, &mut turn);
        Ok(turn)
    }

    /// For each verdict: `None` when the script need not know of it, else whether it was sent before.
    fn add_verdicts<'a>(
        &'a self,
        settle: &'a [Settlement],
        places: &mut Places,
        args: &mut Call<'a>,
        now: WallTime,
    ) -> Result<Vec<Option<bool>>, QueueError> {
        let mut verdicts = Call::default();
        let mut sent_before = Vec::with_capacity(settle.len());
        for one in settle {
            let Some(held) = one.receipt.inner::<Held>() else {
                return Err(QueueError::Refused("a receipt of another driver".into()));
            };
            let added = settle::add(self, &mut verdicts, places.of(held.queue), held, &one.verdict, now);
            sent_before.push(added.then(|| held.sent_before()));
        }
        args.own(sent_before.iter().flatten().count()).append(verdicts);
        Ok(sent_before)
    }

    fn add_asks(&self, rooms: &[(LaneId, u32)], places: &mut Places, args: &mut Call<'_>) -> Vec<Asked> {
        let mut asked = Vec::new();
        args.own(rooms.len());
        for (lane, room) in rooms {
            let queues = self.queues_of(*lane);
            args.own(room).own(queues.len());
            for queue in queues {
                let woken = self.sleeper.take_woken(*queue);
                args.own(places.of(*queue)).own(woken);
                asked.push(Asked { lane: *lane, queue: *queue, woken });
            }
        }
        asked
    }

    /// The whole call, around the arguments for verdicts and asks.
    pub(super) fn turn_call<'a>(
        &'a self,
        places: &Places,
        args: Call<'a>,
        tag: u32,
        score: f64,
        now: WallTime,
    ) -> Call<'a> {
        let mut call = Call::default();
        call.own(score_text(now))
            .own(tag)
            .own(score)
            .own(self.lease.as_secs())
            .own(BATCH)
            .own(places.queues.len());
        for queue in &places.queues {
            let name = self.queue_name(*queue);
            call.key(self.keys.ready(name)).key(self.keys.paused(name));
            call.arg(name).own(self.keys.counters(name));
        }
        call.append(args);
        call
    }

    fn read_verdicts(
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
                    held.answered();
                    let answer = answers.next().unwrap_or(Reply(redis::Value::Nil));
                    match answer.number::<i64>() {
                        Some(1) => Settled::Done,
                        Some(_) if held.must_have_taken_effect(*sent, now) => Settled::Done,
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

    fn let_go(&self, one: &Settlement, settled: Settled) -> Settled {
        if let Some(held) = one.receipt.inner::<Held>() {
            self.in_hand.remove(held, one.receipt.digest());
        }
        settled
    }

    /// How many were taken from each asked queue.
    fn read_jobs(
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

    fn read_states(&self, states: Reply, asked: &[Asked], taken: &[u32], turn: &mut Turn) {
        let mut states = states.list().into_iter();
        let mut lanes: Vec<(LaneId, bool, bool)> = Vec::new();
        for (from, taken) in asked.iter().zip(taken) {
            let state = states.next().unwrap_or(Reply(redis::Value::Nil));
            let [state, left, due, text] = state.fields();
            let left = left.number::<u64>().unwrap_or_default();
            let paused = state.number::<u8>() == Some(1);
            if state.number::<u8>() == Some(2) {
                let name = self.queue_name(from.queue);
                turn.broken.push((from.lane, format!("queue `{name}` cannot be worked: {}", text.text())));
            }
            // An element of the notify list stands for a job; where no job is left, what we were woken for is gone.
            if left > 0 {
                self.sleeper.put_back([(from.queue, from.woken.saturating_sub(*taken))]);
            }
            if let Some(due) = due.score().map(seconds_date) {
                turn.next_due = Some(turn.next_due.map_or(due, |known| known.min(due)));
            }
            match lanes.last_mut().filter(|(lane, ..)| *lane == from.lane) {
                Some((_, more, all_paused)) => {
                    *more |= left > 0;
                    *all_paused &= paused;
                }
                None => lanes.push((from.lane, left > 0, paused)),
            }
        }
        turn.more = lanes.iter().filter(|(_, more, _)| *more).map(|(lane, ..)| *lane).collect();
        turn.paused = lanes.iter().filter(|(.., paused)| *paused).map(|(lane, ..)| *lane).collect();
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

fn seconds_date(seconds: f64) -> WallTime {
    // Rounded up: a date one millisecond early would be looked at twice.
    WallTime::from_millis((seconds * 1000.0).ceil() as i64)
}
