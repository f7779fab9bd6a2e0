//! Taking jobs: when a connection is sent a turn, what it asks for, and what its answer changes.

use std::collections::BTreeSet;
use std::time::Duration;

use qfleet_model::outcome::{Reason, Verdict};
use qfleet_model::time::Moment;
use qfleet_os::clock;
use qfleet_queue::driver::{Ask, LaneId, Reserved, Settled, Turn};
use qfleet_queue::error::QueueError;
use tracing::{info, warn};

use crate::prefetch::{self, Askable, Known};
use crate::run::Worker;
use crate::settle::due;
use crate::slots::{Counted, Hold, Phase};
use crate::source::TurnUnderWay;

/// A due date that has just passed by our clock may need a moment by the store's.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_millis(5);
/// A lane that was empty this long ago is asked again, where nobody sleeps on its behalf.
const STALE: Duration = Duration::from_secs(1);

impl Worker {
    /// Sends the connection what it is time for.
    pub(crate) fn work_source(&mut self, at: usize, now: Moment) {
        if let Some(next_try) = self.sources[at].reach.next_try() {
            self.try_again(at, next_try, now);
            return;
        }
        self.renew_what_is_due(at, now);
        self.pass_remarks_on(at, now);
        if self.sources[at].turn.is_none() {
            self.send_turn(at, now);
        }
        self.wait_if_idle(at, now);
    }

    fn send_turn(&mut self, at: usize, now: Moment) {
        let (asks, room) = self.asks(at, now);
        let lane_of = |id: LaneId| self.sources[at].lanes[usize::from(id.0)];
        let hopeful = asks.iter().any(|ask| self.known(at, lane_of(ask.lane), now) != Known::Empty);
        if !hopeful && !self.sources[at].has_verdicts() {
            return;
        }
        let promised = asks.iter().map(|ask| ask.at_most).sum::<u32>().min(room);
        let source = &mut self.sources[at];
        let mark = source.driver.mark();
        if !asks.is_empty() {
            self.ledger.mark(at, source.mark_place, mark);
            source.first = source.first.wrapping_add(1);
            // The others go first next time: with one slot left, whoever asks first gets it.
            self.first_source = at + 1;
        }
        source.send_turn(at, asks, promised, mark, &self.events);
    }

    /// What to ask this connection for, and the room there is.
    fn asks(&mut self, at: usize, now: Moment) -> (Vec<Ask>, u32) {
        let ahead = self.ahead(at, now);
        let room = self.room_for_more(at, ahead);
        if room == 0 {
            return (Vec::new(), 0);
        }
        let lanes = &self.sources[at].lanes;
        let first = self.sources[at].first % lanes.len().max(1);
        let order: Vec<usize> = lanes[first..].iter().chain(&lanes[..first]).copied().collect();
        let mut askable = Vec::with_capacity(order.len());
        for lane in order {
            let room = self.lane_room(lane, ahead, now);
            let known = self.known(at, lane, now);
            let counted = self.lane_states[lane].limited;
            askable.push(Askable { lane: self.lanes.all[lane].id, room, known, counted });
        }
        (prefetch::plan(&askable, room), room)
    }

    /// What is known of a lane's queues, as far as it is fresh.
    pub(crate) fn known(&self, at: usize, lane: usize, now: Moment) -> Known {
        let waited_for = self.sources[at].wait.as_ref().is_some_and(|wait| wait.lanes.contains(&lane));
        self.lane_states[lane].known(waited_for, self.settings.sleep.min(STALE), now)
    }

    /// Jobs that this connection may bring beyond those in hand.
    pub(crate) fn room_for_more(&self, at: usize, ahead: u32) -> u32 {
        let others = self.sources.iter().enumerate().filter(|(other, _)| *other != at);
        let promised: u32 =
            others.filter_map(|(_, source)| source.turn.as_ref()).map(|turn| turn.promised).sum();
        self.room_beside(promised, ahead)
    }

    /// Jobs that may come beyond those in hand and `promised` ones.
    pub(crate) fn room_beside(&self, promised: u32, ahead: u32) -> u32 {
        if self.drain.is_some() || self.alone.is_some() {
            return 0;
        }
        let taken = self.slots.busy() + self.slots.in_stock() + promised;
        (self.settings.concurrency + ahead).saturating_sub(taken).min(self.slots.places_left())
    }

    /// Jobs that a lane may get beyond those in hand.
    pub(crate) fn lane_room(&mut self, lane: usize, ahead: u32, now: Moment) -> u32 {
        if !self.lane_states[lane].is_up(now) {
            if let Some(rest) = self.lane_states[lane].rest {
                self.wake_at(rest);
            }
            return 0;
        }
        let own = self.lanes.all[lane].concurrency;
        let stock = self.slots.in_stock_of(lane);
        let ahead = prefetch::ahead_in(own, self.lane_states[lane].limited, ahead);
        let free = (own + ahead).saturating_sub(self.slots.busy_in(lane) + stock);
        match self.gate_room(lane, now) {
            None => free,
            Some(gate) => free.min(gate.saturating_sub(stock)),
        }
    }

    /// How many jobs the lane's endpoints take together; `None` is without limit.
    fn gate_room(&mut self, lane: usize, now: Moment) -> Option<u32> {
        let mut sum = 0_u32;
        let mut reopens = None;
        for endpoint in self.lanes.all[lane].endpoints.iter().copied() {
            let room = self.gates.room(&self.lanes.endpoints[endpoint], self.slots.running_at(endpoint), now);
            sum = sum.saturating_add(room.at_most?);
            reopens = match (reopens, room.reopens_at) {
                (Some(one), Some(other)) => Some(std::cmp::min::<Moment>(one, other)),
                (one, other) => one.or(other),
            };
        }
        if let Some(reopens) = reopens {
            self.wake_at(reopens);
        }
        Some(sum)
    }

    /// Jobs worth having beyond the free slots.
    pub(crate) fn ahead(&self, at: usize, now: Moment) -> u32 {
        let round_trip = self.sources[at].round_trip.get();
        prefetch::ahead(self.settings.concurrency, self.pace.per_second(now), round_trip)
    }

    /// A turn was answered.
    pub(crate) fn turned(
        &mut self,
        at: usize,
        answer: Result<Turn, QueueError>,
        took: Duration,
        now: Moment,
    ) {
        let Some(sent) = self.sources[at].turn.take() else { return };
        match answer {
            Ok(turn) => {
                self.sources[at].round_trip.add(took);
                self.store_answers(at, now);
                self.carried_out(at, &sent, turn, now);
            }
            Err(error) => {
                let source = &mut self.sources[at];
                // Its mark stays in the ledger: what it may have taken is found by it.
                source.lost_answer(&sent, now);
                let since = std::mem::replace(&mut source.pending, sent.settling);
                source.pending.extend(since);
                self.set_known(at, &sent.asks, Known::Unknown, now);
                self.store_fails(at, &error, now);
            }
        }
    }

    fn carried_out(&mut self, at: usize, sent: &TurnUnderWay, turn: Turn, now: Moment) {
        for ((id, settlement), settled) in sent.settling.iter().zip(&turn.settled) {
            self.settled(*id, settlement, *settled);
        }
        self.set_known(at, &sent.asks, Known::Empty, now);
        let lane_of = |worker: &Self, id: LaneId| worker.sources[at].lanes[usize::from(id.0)];
        for id in &turn.more {
            let lane = lane_of(self, *id);
            self.lane_states[lane].note(Known::More, now);
        }
        for ask in &sent.asks {
            let lane = lane_of(self, ask.lane);
            self.set_paused(at, lane, turn.paused.contains(&ask.lane), now);
            self.lane_states[lane].limited = self.lanes.all[lane].counted || turn.limited.contains(&ask.lane);
        }
        self.tell_broken(at, &sent.asks, &turn.broken);
        self.note_next_due(at, sent, &turn, now);
        if !turn.jobs.is_empty() {
            self.sources[at].wakes.are_good();
        }
        for job in turn.jobs {
            self.came_in(at, job, now);
        }
        if !sent.asks.is_empty() {
            self.ledger.clear_mark(at, self.sources[at].mark_place);
        }
    }

    /// The next date at which there will be something to take, as far as known.
    fn note_next_due(&mut self, at: usize, sent: &TurnUnderWay, turn: &Turn, now: Moment) {
        let wall = clock::wall();
        let source = &mut self.sources[at];
        // Of lanes that were not asked.
        let still = source.next_due.filter(|due| *due > now && sent.asks.len() < source.lanes.len());
        let carried_out =
            sent.settling.iter().zip(&turn.settled).filter(|(_, settled)| **settled == Settled::Done);
        let put_off = carried_out.filter_map(|((_, settlement), _)| due(&settlement.verdict, wall));
        let dates = put_off.chain(turn.next_due).min();
        source.next_due = dates.map(|due| now + due.since(wall)).into_iter().chain(still).min();
    }

    fn set_known(&mut self, at: usize, asks: &[Ask], known: Known, now: Moment) {
        for ask in asks {
            let lane = self.sources[at].lanes[usize::from(ask.lane.0)];
            self.lane_states[lane].note(known, now);
        }
    }

    fn set_paused(&mut self, at: usize, lane: usize, paused: bool, now: Moment) {
        let sleep = self.settings.sleep.max(SHORTEST_WAIT);
        let wakes = self.sources[at].driver.resume_wakes();
        let state = &mut self.lane_states[lane];
        if paused && !wakes {
            // Its end cannot wake us.
            state.rest = Some(now + sleep);
            state.note(Known::Unknown, now);
        }
        if state.paused != paused {
            state.paused = paused;
            let queue = &self.lanes.all[lane].name;
            info!(queue, "{}", if paused { "paused" } else { "resumed" });
            self.speaker.changed();
        }
    }

    fn tell_broken(&mut self, at: usize, asks: &[Ask], broken: &[(LaneId, String)]) {
        for ask in asks {
            let lane = self.sources[at].lanes[usize::from(ask.lane.0)];
            let now: BTreeSet<String> =
                broken.iter().filter(|(id, _)| *id == ask.lane).map(|(_, text)| text.clone()).collect();
            for text in now.difference(&self.lane_states[lane].broken) {
                warn!(queue = self.lanes.all[lane].name, "{text}");
            }
            self.lane_states[lane].broken = now;
        }
    }

    /// A job has come in.
    fn came_in(&mut self, at: usize, reserved: Reserved, now: Moment) {
        let Reserved { lane, job, receipt } = reserved;
        let Some(lane) = self.sources[at].lanes.get(usize::from(lane.0)).copied() else { return };
        self.keep_fresh(at, now);
        match job {
            Ok(job) => match self.slots.fetched(at, lane, receipt, Box::new(job), now) {
                Ok(id) => {
                    let Some(hold) = self.slots.get(id) else { return };
                    self.ledger.fetched(id.record(), at, &hold.receipt);
                }
                // More than the ledger can hold: nobody would know of it.
                Err(hold) => self.settle_unnoted(at, *hold, Verdict::GiveBack),
            },
            Err(unreadable) => {
                let queue = &self.lanes.all[lane].name;
                warn!(queue, "a job is set aside with the unreadable ones: {unreadable}");
                let verdict = Verdict::Bury { reason: Reason::classed("unreadable", unreadable.to_string()) };
                let phase = Phase::Settling(Counted::Failed);
                match self.slots.add(Hold { source: at, lane, receipt, fresh: now, phase }) {
                    Ok(id) => {
                        let Some(hold) = self.slots.get(id) else { return };
                        self.ledger.fetched(id.record(), at, &hold.receipt);
                        self.settle(id, verdict, Counted::Failed);
                    }
                    Err(hold) => self.settle_unnoted(at, *hold, verdict),
                }
            }
        }
    }
}
