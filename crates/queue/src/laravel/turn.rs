//! One turn: builds the script's arguments from verdicts and asks, and sends them.

use qfleet_model::outcome::Verdict;
use qfleet_model::time::WallTime;

use super::answer::seconds_date;
use super::held::Held;
use super::{Laravel, score_text, settle};
use crate::clock;
use crate::driver::{Ask, LaneId, Mark, Settled, Settlement, Turn};
use crate::error::QueueError;
use crate::places::Places;
use crate::redis::Call;

/// Most jobs made ready per set and turn; what is left is ready a turn later.
const BATCH: usize = 200;

/// A queue that is asked for jobs.
pub(super) struct Asked {
    pub(super) lane: LaneId,
    pub(super) queue: usize,
    /// Elements of its notify list that we have taken and not yet used.
    pub(super) woken: u32,
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
        let regained = self.regain(&mut rooms).await?;
        if settle.iter().any(|one| matches!(one.verdict, Verdict::Bury { .. })) {
            self.note_failing().await?;
        }

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
        let until = seconds_date(f64::from_bits(mark.0));
        self.lost.sending(mark, until, asked.iter().map(|one| one.queue));
        for (one, _) in settle.iter().zip(&sent_before).filter(|(_, sent)| sent.is_some()) {
            if let Some(held) = one.receipt.inner::<Held>() {
                held.lease.sending();
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
            sent_before.push(added.then(|| held.lease.sent_before()));
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
                self.add_limit(*lane, *queue, args);
                asked.push(Asked { lane: *lane, queue: *queue, woken });
            }
        }
        asked
    }

    fn add_limit(&self, lane: LaneId, queue: usize, args: &mut Call<'_>) {
        let Some(limit) = self.figures_of(lane).limit else {
            args.arg("0");
            return;
        };
        args.own(limit.max.max(1)).own(limit.per.as_millis().max(1));
        args.own(self.keys.limiter(self.queue_name(queue)));
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
            .own(places.queues().len());
        for queue in places.queues() {
            let name = self.queue_name(*queue);
            call.key(self.keys.ready(name)).key(self.keys.paused(name));
            call.arg(name).own(self.keys.counters(name));
        }
        call.append(args);
        call
    }
}
