//! The jobs in hand, and how much room is left. Pure, but for what it keeps for others: cancel senders and task handles.
//!
//! Owns every count (running, in stock, by lane, by endpoint), so that none can drift from what is really there. A job's
//! place is also the number of its record in the ledger.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use qfleet_model::job::Job;
use qfleet_model::outcome::Reason;
use qfleet_model::retry::RetryPolicy;
use qfleet_model::time::{Moment, WallTime};
use qfleet_queue::driver::Receipt;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::gate::Ticket;
use crate::handler::Cancel;

/// A job in hand. Places are used again, generations are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct HoldId {
    place: u32,
    generation: u32,
}

impl HoldId {
    /// Number of its record in the ledger.
    pub(crate) fn record(self) -> usize {
        self.place as usize
    }
}

/// One job in hand.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Which connection.
    pub(crate) source: usize,
    /// Which lane of the process.
    pub(crate) lane: usize,
    /// Proof that it is ours.
    pub(crate) receipt: Receipt,
    /// When it was taken, or last renewed.
    pub(crate) fresh: Moment,
    /// What is being done with it.
    pub(crate) phase: Phase,
}

/// What is being done with a job.
#[derive(Debug)]
pub(crate) enum Phase {
    /// In stock: fetched and not started.
    Fetched {
        /// The job.
        job: Box<Job>,
        /// Orders the stock.
        arrival: u64,
    },
    /// Handed over.
    Running(Box<Running>),
    /// Being written to the failed jobs.
    Burying {
        /// Why.
        reason: Reason,
        /// The task that writes.
        task: AbortHandle,
    },
    /// Its verdict waits for a turn, or is on its way.
    Settling(Counted),
}

/// A delivery under way.
#[derive(Debug)]
pub(crate) struct Running {
    /// The job.
    pub(crate) job: Box<Job>,
    /// How it is tried; settings that change later hold for later attempts.
    pub(crate) policy: Arc<RetryPolicy>,
    /// Which endpoint works on it.
    pub(crate) endpoint: usize,
    /// What the gate gave at its start.
    pub(crate) ticket: Ticket,
    /// Tells the handler to stop.
    pub(crate) cancel: watch::Sender<Option<Cancel>>,
    /// The delivery's task.
    pub(crate) task: AbortHandle,
    /// When it must have ended.
    pub(crate) deadline: Option<WallTime>,
    /// Nothing works on it any more once its task is gone (a process, not a receiver elsewhere).
    pub(crate) local: bool,
    /// Another worker has the job by now.
    pub(crate) lost: bool,
}

/// How an ended job is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Completed.
    Completed,
    /// To be repeated, counts.
    Retried,
    /// To be repeated, does not count.
    Snoozed,
    /// Buried.
    Failed,
    /// Discarded.
    Discarded,
    /// Given back.
    GivenBack,
}

/// All jobs in hand.
#[derive(Debug)]
pub(crate) struct Slots {
    places: Vec<(u32, Option<Hold>)>,
    free: BinaryHeap<Reverse<u32>>,
    stock: Vec<VecDeque<HoldId>>,
    arrivals: u64,
    in_stock: u32,
    running: u32,
    burying: u32,
    lanes: Vec<u32>,
    endpoints: Vec<u32>,
}

impl Slots {
    /// Nothing in hand, room for `capacity` records.
    pub(crate) fn new(capacity: usize, lanes: usize, endpoints: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self {
            places: (0..capacity).map(|_| (0, None)).collect(),
            free: (0..capacity).map(Reverse).collect(),
            stock: vec![VecDeque::new(); lanes],
            arrivals: 0,
            in_stock: 0,
            running: 0,
            burying: 0,
            lanes: vec![0; lanes],
            endpoints: vec![0; endpoints],
        }
    }

    /// Takes a place for a job; gives it back when all are taken.
    pub(crate) fn add(&mut self, hold: Hold) -> Result<HoldId, Box<Hold>> {
        let Some(Reverse(place)) = self.free.pop() else { return Err(Box::new(hold)) };
        let slot = &mut self.places[place as usize];
        slot.0 = slot.0.wrapping_add(1);
        let id = HoldId { place, generation: slot.0 };
        slot.1 = Some(hold);
        self.count(id, 1);
        Ok(id)
    }

    /// Adds a fetched job to its lane's stock.
    pub(crate) fn fetched(
        &mut self,
        source: usize,
        lane: usize,
        receipt: Receipt,
        job: Box<Job>,
        now: Moment,
    ) -> Result<HoldId, Box<Hold>> {
        self.arrivals += 1;
        let phase = Phase::Fetched { job, arrival: self.arrivals };
        let id = self.add(Hold { source, lane, receipt, fresh: now, phase })?;
        self.stock[lane].push_back(id);
        Ok(id)
    }

    /// Changes what is being done with a job, and gives what was being done before.
    pub(crate) fn change(&mut self, id: HoldId, phase: Phase) -> Option<Phase> {
        self.get(id)?;
        self.count(id, -1);
        let before =
            self.places[id.record()].1.as_mut().map(|hold| std::mem::replace(&mut hold.phase, phase));
        self.count(id, 1);
        before
    }

    /// A job of the stock is handed over.
    pub(crate) fn start(&mut self, id: HoldId, running: impl FnOnce(Box<Job>) -> Running) {
        // Counted as nothing for as long as it takes to build the other.
        if self.is_in_stock(id)
            && let Some(Phase::Fetched { job, .. }) = self.change(id, Phase::Settling(Counted::GivenBack))
        {
            self.change(id, Phase::Running(Box::new(running(job))));
        }
    }

    /// Lets go of a job; its place is free.
    pub(crate) fn remove(&mut self, id: HoldId) -> Option<Hold> {
        self.get(id)?;
        self.count(id, -1);
        let hold = self.places[id.record()].1.take();
        self.free.push(Reverse(id.place));
        hold
    }

    /// A job in hand.
    pub(crate) fn get(&self, id: HoldId) -> Option<&Hold> {
        let (generation, hold) = self.places.get(id.record())?;
        hold.as_ref().filter(|_| *generation == id.generation)
    }

    /// The delivery of a running job.
    pub(crate) fn running_mut(&mut self, id: HoldId) -> Option<&mut Running> {
        self.get(id)?;
        match &mut self.places[id.record()].1.as_mut()?.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Notes a renewal.
    pub(crate) fn renewed(&mut self, id: HoldId, now: Moment) {
        if self.get(id).is_some()
            && let Some(hold) = &mut self.places[id.record()].1
        {
            hold.fresh = now;
        }
    }

    /// The oldest job of a lane's stock.
    pub(crate) fn first_in_stock(&self, lane: usize) -> Option<HoldId> {
        self.stock[lane].front().copied()
    }

    /// A lane's stock, the oldest first.
    pub(crate) fn stock_of(&self, lane: usize) -> Vec<HoldId> {
        self.stock[lane].iter().copied().collect()
    }

    /// So many of the jobs in stock that came in last, leaving out one; in the order in which they came.
    pub(crate) fn newest_in_stock(&self, count: u32, but: Option<HoldId>) -> Vec<HoldId> {
        if count == 0 {
            return Vec::new();
        }
        let arrival = |id: HoldId| match self.get(id).map(|hold| &hold.phase) {
            Some(Phase::Fetched { arrival, .. }) => *arrival,
            _ => 0,
        };
        let mut stock: Vec<HoldId> =
            self.stock.iter().flatten().copied().filter(|id| Some(*id) != but).collect();
        stock.sort_by_key(|id| arrival(*id));
        stock.split_off(stock.len().saturating_sub(count as usize))
    }

    /// Whether a job is in stock.
    pub(crate) fn is_in_stock(&self, id: HoldId) -> bool {
        self.get(id).is_some_and(|hold| matches!(hold.phase, Phase::Fetched { .. }))
    }

    /// Every job in hand.
    pub(crate) fn all(&self) -> impl Iterator<Item = (HoldId, &Hold)> {
        self.places.iter().zip(0_u32..).filter_map(|((generation, hold), place)| {
            hold.as_ref().map(|hold| (HoldId { place, generation: *generation }, hold))
        })
    }

    /// Deliveries under way.
    pub(crate) fn running(&self) -> u32 {
        self.running
    }

    /// Deliveries under way and jobs being buried: what takes a slot.
    pub(crate) fn busy(&self) -> u32 {
        self.running + self.burying
    }

    /// Jobs fetched and not started.
    pub(crate) fn in_stock(&self) -> u32 {
        self.in_stock
    }

    /// Jobs of a lane that take a slot.
    pub(crate) fn busy_in(&self, lane: usize) -> u32 {
        self.lanes[lane]
    }

    /// Jobs of a lane in stock.
    pub(crate) fn in_stock_of(&self, lane: usize) -> u32 {
        u32::try_from(self.stock[lane].len()).unwrap_or(u32::MAX)
    }

    /// Deliveries under way at an endpoint.
    pub(crate) fn running_at(&self, endpoint: usize) -> u32 {
        self.endpoints[endpoint]
    }

    /// Jobs in hand, whatever is being done with them.
    pub(crate) fn held(&self) -> u32 {
        u32::try_from(self.places.len() - self.free.len()).unwrap_or(u32::MAX)
    }

    /// Places left.
    pub(crate) fn places_left(&self) -> u32 {
        u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    fn count(&mut self, id: HoldId, by: i32) {
        let Some(hold) = &self.places[id.record()].1 else { return };
        let lane = hold.lane;
        let add = |count: &mut u32| *count = count.saturating_add_signed(by);
        match &hold.phase {
            Phase::Fetched { .. } => {
                add(&mut self.in_stock);
                if by < 0 {
                    self.stock[lane].retain(|stocked| *stocked != id);
                }
            }
            Phase::Running(running) => {
                add(&mut self.endpoints[running.endpoint]);
                add(&mut self.running);
                add(&mut self.lanes[lane]);
            }
            Phase::Burying { .. } => {
                add(&mut self.burying);
                add(&mut self.lanes[lane]);
            }
            Phase::Settling(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
