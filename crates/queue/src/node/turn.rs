//! One turn: builds the script's arguments from verdicts and asks, reads what it did, and looks for what lost replies
//! took.

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::job::Job;
use qfleet_model::time::WallTime;

use super::held::{Held, digest_of};
use super::library::Library;
use super::queues::Queues;
use super::row::{Origin, Row};
use super::settle;
use crate::clock;
use crate::driver::{Ask, LaneId, Mark, Receipt, Reserved, Settled, Settlement, Turn};
use crate::error::QueueError;
use crate::per_lane::{LaneStates, earlier};
use crate::places::Places;
use crate::redis::{Call, Reply};

/// A queue that cannot be worked wakes nobody for this long; every turn that asks looks at it all the same.
const BROKEN_FOR: Duration = Duration::from_secs(30);

/// A queue that is asked for jobs.
struct Asked {
    lane: LaneId,
    queue: usize,
}

/// What the script says of a job it took, or that is locked under our name.
pub(crate) struct Taken {
    pub(super) lane: LaneId,
    pub(super) queue: usize,
    pub(super) id: String,
    pub(super) token: String,
    pub(super) row: Row,
    pub(super) notes: Reply,
}

impl Queues {
    pub(super) async fn take_turn(
        &self,
        settle: &[Settlement],
        asks: &[Ask],
        mark: Mark,
    ) -> Result<Turn, QueueError> {
        let _turn = self.turning.lock().await;
        let mut rooms: Vec<(LaneId, u32)> = asks.iter().map(|ask| (ask.lane, ask.at_most)).collect();
        // First of all, so that what is found counts against the room there is.
        let regained = self.regain(&mut rooms).await?;

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
        let token = self.token(mark);
        let checks = self.due_checks();
        let call = self.turn_call(&mut places, args, &token, &checks, now);

        // From here on, and until the reply is read, the call may have done anything.
        self.lost.sending(mark, now + self.lease, asked.iter().map(|one| one.queue));
        for (one, _) in settle.iter().zip(&sent_before).filter(|(_, sent)| sent.is_some()) {
            if let Some(held) = one.receipt.inner::<Held>() {
                held.lease.sending();
            }
        }
        let reply = match self.link.run(&self.scripts.turn, &call).await {
            Ok(reply) => reply,
            Err(error) => {
                self.put_checks_off();
                self.sleeper.reconnect();
                return Err(error);
            }
        };
        let [verdicts, jobs, states, ended, remarks] = reply.fields();
        let taken: Vec<Taken> =
            jobs.list().into_iter().filter_map(|job| read_job(self.library, job, &asked, &token)).collect();
        let ended: Vec<Taken> =
            ended.list().into_iter().filter_map(|job| read_job(self.library, job, &asked, &token)).collect();
        // When this fails, the jobs count as lost, and are found again with their schedules as they are now.
        let next = taken.iter().chain(&ended).filter_map(|one| self.following(one, now)).collect();
        self.go_on_with_schedules(next, now).await?;
        self.lost.answered();
        turn.jobs = regained.hand_out();
        self.read_verdicts(settle, &sent_before, verdicts, &mut turn);
        turn.jobs.extend(taken.into_iter().map(|one| self.reserved(one, now)));
        self.read_states(states, &asked, now, &mut turn);
        self.read_remarks(remarks, &mut turn);
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
            let added = settle::add(&mut verdicts, places.of(held.queue), held, &one.verdict, now);
            sent_before.push(added.then(|| held.lease.sent_before()));
        }
        args.own(sent_before.iter().flatten().count()).append(verdicts);
        Ok(sent_before)
    }

    fn add_asks(&self, rooms: &[(LaneId, u32)], places: &mut Places, args: &mut Call<'_>) -> Vec<Asked> {
        let mut asked = Vec::new();
        args.own(rooms.len());
        for (lane, room) in rooms {
            let queues = self.lanes.of(*lane);
            args.own(room).own(queues.len());
            for queue in queues {
                self.sleeper.take_woken(*queue);
                args.own(places.of(*queue));
                asked.push(Asked { lane: *lane, queue: *queue });
            }
        }
        asked
    }

    /// The whole call, around the arguments for verdicts and asks.
    pub(super) fn turn_call<'a>(
        &'a self,
        places: &mut Places,
        args: Call<'a>,
        token: &str,
        checks: &[usize],
        now: WallTime,
    ) -> Call<'a> {
        for queue in checks {
            places.of(*queue);
        }
        let mut call = Call::default();
        call.own(now.as_millis()).own(token).own(self.lock_millis());
        self.add_queues(&mut call, places.queues(), checks);
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
        let mut verdicts = verdicts.list().into_iter();
        let now = clock::now();
        for (one, sent_before) in settle.iter().zip(sent_before) {
            let settled = match (one.receipt.inner::<Held>(), sent_before) {
                (Some(held), Some(sent_before)) => {
                    held.lease.answered();
                    let answer = verdicts.next().unwrap_or(Reply(redis::Value::Nil));
                    match answer.number::<u8>() {
                        Some(1 | 2) => Settled::Done,
                        Some(_) if held.lease.must_have_taken_effect(*sent_before, now) => Settled::Done,
                        Some(_) => Settled::Lost,
                        None => {
                            let (name, text) = (self.lanes.name(held.queue), answer.text());
                            turn.broken.push((
                                one.receipt.lane(),
                                format!(
                                    "a job of `{name}` cannot be moved and waits for its lock to end: {text}"
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
        self.forget(&one.receipt);
        settled
    }

    /// Takes back what was noted of a job in hand.
    pub(super) fn forget(&self, receipt: &Receipt) {
        if let Some(held) = receipt.inner::<Held>() {
            self.in_hand.remove(held, receipt.digest());
        }
    }

    /// A job in hand.
    pub(super) fn reserved(&self, taken: Taken, now: WallTime) -> Reserved {
        let Taken { lane, queue, id, token, mut row, notes } = taken;
        let digest = digest_of(&id);
        let noted = notes.0 != redis::Value::Nil;
        let proof = std::mem::take(&mut row.proof);
        let from = Origin {
            format: self.library.format,
            prefix: &self.connection.prefix,
            queue: self.lanes.name(queue),
        };
        let job = row.job(&id, from, notes);
        let held = Held::new(queue, id, token, proof, noted, now, now + self.lease);
        let held = held.pausing(job.as_ref().map(own_pause).unwrap_or_default());
        self.in_hand.add(&held, digest);
        let receipt = Receipt::new(lane, self.lanes.place(lane, queue), digest, Arc::new(held));
        Reserved { lane, job, receipt }
    }

    fn read_states(&self, states: Reply, asked: &[Asked], sent: WallTime, turn: &mut Turn) {
        let mut states = states.list().into_iter();
        let mut lanes = LaneStates::default();
        for from in asked {
            let [state, left, due, text, limited] =
                states.next().unwrap_or(Reply(redis::Value::Nil)).fields();
            let left = left.number::<u64>().unwrap_or_default() > 0;
            let state = state.number::<u8>().unwrap_or_default();
            if state == 2 {
                turn.broken
                    .push((from.lane, (self.library.refusal)(self.lanes.name(from.queue), &text.text())));
            }
            if limited.number() == Some(1_u8) && turn.limited.last() != Some(&from.lane) {
                turn.limited.push(from.lane);
            }
            let due = due.number::<i64>().map(WallTime::from_millis);
            // The script counted from when the call was sent, and what it saw of a limit was later than that.
            let due = if state == 3 { due.map(|due| due + clock::now().since(sent)) } else { due };
            // Wake-ups of a queue that is left alone, or may start nothing, are others'.
            let rest = if state == 2 { Some(clock::now() + BROKEN_FOR) } else { due.filter(|_| state == 3) };
            self.sleeper.rest(from.queue, rest);
            turn.next_due = earlier(turn.next_due, due);
            lanes.add(from.lane, left, state == 1);
        }
        lanes.tell(turn);
    }

    /// What the script says of queues that go on all the same.
    fn read_remarks(&self, remarks: Reply, turn: &mut Turn) {
        for remark in remarks.list() {
            let [base, text] = remark.fields();
            let (base, text) = (base.text(), text.text());
            let queues = self.lanes.queues().iter().enumerate();
            for (number, queue) in queues.filter(|(_, queue)| self.keys.base(&queue.name) == base) {
                let text = format!("queue `{}`: {text}", queue.name);
                turn.broken.extend(self.lanes.with(number).map(|lane| (lane, text.clone())));
            }
        }
    }

    fn broken_wakeups(&self) -> Vec<(LaneId, String)> {
        let mut broken = Vec::new();
        for queue in self.sleeper.wrong() {
            let why = (self.library.sleepless)(&self.keys.base(self.lanes.name(queue)));
            for lane in self.lanes.with(queue) {
                broken.push((lane, why.clone()));
            }
        }
        broken
    }
}

/// The pause that the job wants after this attempt; zero where it says nothing.
fn own_pause(job: &Job) -> Duration {
    job.limits.backoff.as_ref().map_or(Duration::ZERO, |rule| rule.after(job.attempt))
}

fn read_job(library: &Library, job: Reply, asked: &[Asked], token: &str) -> Option<Taken> {
    let [place, id, row, notes] = job.fields();
    let from = asked.get(place.number::<usize>()?.wrapping_sub(1))?;
    let (lane, queue, token) = (from.lane, from.queue, token.to_owned());
    Some(Taken { lane, queue, id: id.text(), token, row: (library.row)(row), notes })
}
