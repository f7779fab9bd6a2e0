//! Taking jobs and settling them: when a connection is sent a turn, what for, and what its answer changes; and when the
//! worker sleeps in the store instead.

use std::collections::BTreeSet;
use std::time::Duration;

use qfleet_model::outcome::{Reason, Verdict};
use qfleet_model::time::Moment;
use qfleet_os::clock;
use qfleet_queue::driver::{Ask, LaneId, Reserved, Settled, Settlement, Turn};
use qfleet_queue::error::QueueError;
use tracing::{debug, info, warn};

use crate::prefetch::{self, Askable, Known};
use crate::run::Worker;
use crate::slots::{Counted, Hold, HoldId, Phase};
use crate::source::TurnUnderWay;

/// A due date that has just passed by our clock may need a moment by the store's.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

impl Worker {
    /// Sends the connection what it is time for.
    pub(crate) fn work_source(&mut self, at: usize, now: Moment) {
        if let Some(next_try) = self.sources[at].reach.next_try() {
            self.try_again(at, next_try, now);
            return;
        }
        self.renew_what_is_due(at, now);
        if self.sources[at].turn.is_none() {
            self.send_turn(at, now);
        }
        self.wait_if_idle(at, now);
    }

    /// The store did not answer last time: one call at a time, and the first one renews what is in hand.
    fn try_again(&mut self, at: usize, next_try: Moment, now: Moment) {
        let source = &mut self.sources[at];
        source.wait = None;
        if source.turn.is_some() || source.renewing.is_some() || source.probing {
            return;
        }
        if now < next_try {
            self.wake_at(next_try);
            return;
        }
        if !self.renew_everything(at) {
            self.sources[at].send_probe(at, &self.events);
        }
    }

    fn send_turn(&mut self, at: usize, now: Moment) {
        let (asks, room) = self.asks(at, now);
        let lane_of = |id: LaneId| self.sources[at].lanes[usize::from(id.0)];
        let hopeful = asks.iter().any(|ask| self.lane_states[lane_of(ask.lane)].known != Known::Empty);
        if self.sources[at].pending.is_empty() && !hopeful {
            return;
        }
        let promised = asks.iter().map(|ask| ask.at_most).sum::<u32>().min(room);
        let source = &mut self.sources[at];
        let mark = source.driver.mark();
        if !asks.is_empty() {
            self.ledger.mark(at, source.mark_place, mark);
            source.first = source.first.wrapping_add(1);
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
            askable.push(Askable {
                lane: self.lanes.all[lane].id,
                room,
                known: self.lane_states[lane].known,
                counted: self.lanes.all[lane].counted,
            });
        }
        (prefetch::plan(&askable, room), room)
    }

    /// Jobs that this connection may bring beyond those in hand.
    fn room_for_more(&self, at: usize, ahead: u32) -> u32 {
        if self.drain.is_some() || self.alone.is_some() {
            return 0;
        }
        let others = self.sources.iter().enumerate().filter(|(other, _)| *other != at);
        let promised: u32 =
            others.filter_map(|(_, source)| source.turn.as_ref()).map(|turn| turn.promised).sum();
        let taken = self.slots.busy() + self.slots.in_stock() + promised;
        (self.settings.concurrency + ahead).saturating_sub(taken).min(self.slots.places_left())
    }

    fn lane_room(&mut self, lane: usize, ahead: u32, now: Moment) -> u32 {
        if !self.lane_states[lane].is_up(now) {
            if let Some(rest) = self.lane_states[lane].rest {
                self.wake_at(rest);
            }
            return 0;
        }
        let own = self.lanes.all[lane].concurrency;
        let stock = self.slots.in_stock_of(lane);
        let ahead = if own > 1 && !self.lanes.all[lane].counted { ahead } else { 0 };
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
    fn ahead(&self, at: usize, now: Moment) -> u32 {
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
                let since = std::mem::replace(&mut source.pending, sent.settling);
                source.pending.extend(since);
                if !sent.asks.is_empty() {
                    // Its mark stays: what it may have taken is found by it.
                    source.mark_place = source.mark_place.wrapping_add(1);
                }
                self.set_known(at, &sent.asks, Known::Unknown);
                self.store_fails(at, &error, now);
            }
        }
    }

    fn carried_out(&mut self, at: usize, sent: &TurnUnderWay, turn: Turn, now: Moment) {
        for ((id, settlement), settled) in sent.settling.iter().zip(&turn.settled) {
            self.settled(*id, settlement, *settled);
        }
        self.set_known(at, &sent.asks, Known::Empty);
        let lane_of = |worker: &Self, id: LaneId| worker.sources[at].lanes[usize::from(id.0)];
        for id in &turn.more {
            let lane = lane_of(self, *id);
            self.lane_states[lane].known = Known::More;
        }
        for ask in &sent.asks {
            let lane = lane_of(self, ask.lane);
            self.set_paused(lane, turn.paused.contains(&ask.lane), now);
        }
        self.tell_broken(at, &sent.asks, &turn.broken);
        let wall = clock::wall();
        let source = &mut self.sources[at];
        let due = turn.next_due.map(|due| now + due.since(wall));
        source.next_due =
            match source.next_due.filter(|due| *due > now && sent.asks.len() < source.lanes.len()) {
                // Of lanes that were not asked.
                Some(known) => Some(due.map_or(known, |due| due.min(known))),
                None => due,
            };
        if !turn.jobs.is_empty() {
            self.sources[at].wakes_are_good();
        }
        for job in turn.jobs {
            self.came_in(at, job, now);
        }
        if !sent.asks.is_empty() {
            self.ledger.clear_mark(at, self.sources[at].mark_place);
        }
    }

    fn set_known(&mut self, at: usize, asks: &[Ask], known: Known) {
        for ask in asks {
            let lane = self.sources[at].lanes[usize::from(ask.lane.0)];
            self.lane_states[lane].known = known;
        }
    }

    fn set_paused(&mut self, lane: usize, paused: bool, now: Moment) {
        let sleep = self.settings.sleep.max(SHORTEST_WAIT);
        let state = &mut self.lane_states[lane];
        if paused {
            // Its end cannot wake us.
            state.rest = Some(now + sleep);
            state.known = Known::Unknown;
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

    fn settle_unnoted(&mut self, at: usize, hold: Hold, verdict: Verdict) {
        self.sources[at].pending.push((None, Settlement { receipt: hold.receipt, verdict }));
    }

    /// Queues a verdict for the next turn.
    pub(crate) fn settle(&mut self, id: HoldId, verdict: Verdict, counted: Counted) {
        if self.slots.change(id, Phase::Settling(counted)).is_none() {
            return;
        }
        let Some(hold) = self.slots.get(id) else { return };
        self.ledger.settling(id.record(), hold.source, &hold.receipt, &verdict, clock::wall());
        let settlement = Settlement { receipt: hold.receipt.clone(), verdict };
        self.sources[hold.source].pending.push((Some(id), settlement));
    }

    fn settled(&mut self, id: Option<HoldId>, settlement: &Settlement, settled: Settled) {
        let Some(id) = id else { return };
        let Some(Hold { phase: Phase::Settling(counted), lane, .. }) = self.slots.remove(id) else { return };
        self.ledger.clear(id.record());
        if settled == Settled::Lost {
            let queue = &self.lanes.all[lane].name;
            info!(queue, late_outcome = ?counted, verdict = name_of(&settlement.verdict), "another worker had the job by then");
            self.speaker.count_late();
        } else {
            self.speaker.count(counted);
        }
    }

    /// Gives back what is in stock and cannot start soon: the jobs that came in last.
    pub(crate) fn give_back_excess(&mut self, now: Moment) {
        if self.drain.is_some() {
            self.alone = None;
        }
        let allowed = if self.drain.is_some() || self.alone.is_some() {
            0
        } else {
            let ahead = (0..self.sources.len()).map(|at| self.ahead(at, now)).max().unwrap_or_default();
            self.settings.concurrency.saturating_sub(self.slots.busy()) + ahead
        };
        let waits_alone = self.alone.filter(|id| self.slots.is_in_stock(*id));
        let allowed = allowed + u32::from(waits_alone.is_some());
        let excess = self.slots.in_stock().saturating_sub(allowed);
        // Those of one turn keep the order in which they stand in it.
        for id in self.slots.newest_in_stock(excess, waits_alone) {
            if let Some(hold) = self.slots.get(id) {
                self.lane_states[hold.lane].known = Known::More;
            }
            self.settle(id, Verdict::GiveBack, Counted::GivenBack);
        }
    }

    fn wait_if_idle(&mut self, at: usize, now: Moment) {
        if self.sources[at].turn.as_ref().is_some_and(|turn| !turn.asks.is_empty()) {
            // Its answer says whether there is something to wait for.
            return;
        }
        let lanes = self.lanes_with_room(at, now);
        let source = &mut self.sources[at];
        if source.wait.as_ref().is_some_and(|wait| wait.lanes != lanes) {
            source.wait = None;
        }
        let asked = lanes.iter().all(|lane| self.lane_states[*lane].known == Known::Empty);
        if lanes.is_empty() || !asked || source.wait.is_some() {
            return;
        }
        if let Some(quiet) = source.quiet_until(now) {
            self.wake_at(quiet);
            return;
        }
        let sleep = self.settings.sleep;
        let at_most = source.next_due.map_or(sleep, |due| due.since(now).min(sleep)).max(SHORTEST_WAIT);
        source.begin_wait(at, lanes, at_most, now, &self.events);
    }

    /// The lanes that could start a job now.
    fn lanes_with_room(&mut self, at: usize, now: Moment) -> BTreeSet<usize> {
        if self.room_for_more(at, 0) == 0 {
            return BTreeSet::new();
        }
        let lanes = self.sources[at].lanes.clone();
        lanes.into_iter().filter(|lane| self.lane_room(*lane, 0, now) > 0).collect()
    }

    /// A wait has ended: whatever was empty may have something now.
    pub(crate) fn waited(&mut self, at: usize, number: u64, answer: Result<(), QueueError>, now: Moment) {
        let failed = answer.is_err();
        if !self.sources[at].wait_ended(number, failed, now, fastrand::f64()) {
            return;
        }
        for lane in self.sources[at].lanes.clone() {
            if self.lane_states[lane].known == Known::Empty {
                self.lane_states[lane].known = Known::Unknown;
            }
        }
        if let Err(error) = answer {
            let source = &self.sources[at];
            match source.wait_failures() {
                // The turn that follows tells whether it is an outage.
                1 => debug!(connection = source.name, "cannot sleep in `{}`: {error}", source.shown),
                3 => {
                    warn!(
                        connection = source.name,
                        "cannot sleep in `{}`, looking every few seconds: {error}", source.shown
                    );
                }
                _ => {}
            }
        }
    }

    /// The store has answered.
    pub(crate) fn store_answers(&mut self, at: usize, now: Moment) {
        let source = &mut self.sources[at];
        if let Some(lasted) = source.reach.answered(now) {
            let seconds = format!("{:.1}", lasted.as_secs_f64());
            info!(connection = source.name, "`{}` answers again after {seconds} s", source.shown);
            self.speaker.changed();
        }
    }

    /// The store has not answered, or says that it cannot work.
    pub(crate) fn store_fails(&mut self, at: usize, error: &QueueError, now: Moment) {
        let source = &mut self.sources[at];
        if source.reach.failed(error.to_string(), now, fastrand::f64()) {
            warn!(
                connection = source.name,
                "`{}` cannot be used, trying on until it can: {error}", source.shown
            );
            self.speaker.changed();
        }
    }

    /// A look whether the store is back.
    pub(crate) fn probed(&mut self, at: usize, answer: Result<(), QueueError>, now: Moment) {
        self.sources[at].probing = false;
        match answer {
            Ok(()) => {
                self.store_answers(at, now);
                for lane in self.sources[at].lanes.clone() {
                    self.lane_states[lane].known = Known::Unknown;
                }
            }
            Err(error) => self.store_fails(at, &error, now),
        }
    }
}

fn name_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Complete { .. } => "complete",
        Verdict::Retry { .. } => "retry",
        Verdict::Snooze { .. } => "snooze",
        Verdict::Bury { .. } => "bury",
        Verdict::Discard { .. } => "discard",
        Verdict::GiveBack | Verdict::GiveBackAt { .. } => "give back",
        Verdict::Nothing => "nothing",
    }
}
