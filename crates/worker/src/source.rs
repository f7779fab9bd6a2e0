//! One connection of a worker: what is under way there, and what is known of its lanes.
//!
//! At most one turn, one renewal (or probe) and one wait are under way at a time. Each runs as a task and reports as an
//! [`Event`], so the loop never waits for a store. Verdicts that come up while a turn is under way gather and go with the
//! next one.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use qfleet_model::time::Moment;
use qfleet_queue::driver::{Ask, DeadWorker, LaneId, Mark, QueueDriver, Receipt, Settlement, Waited};
use qfleet_queue::error::QueueError;
use qfleet_queue::failed::FailedJobs;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::outage::Reach;
use crate::prefetch::{Known, Smoothed};
use crate::remarks::Outbox;
use crate::run::Event;
use crate::slots::HoldId;
use crate::wakes::Wakes;

/// One connection.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its name in the manifest.
    pub(crate) name: String,
    /// Its address, for people.
    pub(crate) shown: String,
    /// As the application names it, for failed jobs.
    pub(crate) laravel_name: String,
    /// Its lanes, by their number towards the driver.
    pub(crate) lanes: Vec<usize>,
    /// The queues.
    pub(crate) driver: Arc<dyn QueueDriver>,
    /// Where its jobs go that failed for good.
    pub(crate) failed: Arc<dyn FailedJobs>,
    /// Whether it answers.
    pub(crate) reach: Reach,
    /// Verdicts that wait for a turn. A job that found no place in the ledger has no name.
    pub(crate) pending: Vec<(Option<HoldId>, Settlement)>,
    /// What handlers said of its jobs, on its way there.
    pub(crate) remarks: Outbox,
    /// The turn under way.
    pub(crate) turn: Option<TurnUnderWay>,
    /// The jobs being renewed now.
    pub(crate) renewing: Option<Vec<HoldId>>,
    /// A look whether the store is back is under way.
    pub(crate) probing: bool,
    /// When to look for jobs to renew.
    pub(crate) renew_at: Option<Moment>,
    /// The wait under way.
    pub(crate) wait: Option<WaitUnderWay>,
    /// What came of it.
    pub(crate) wakes: Wakes,
    /// How long a turn takes.
    pub(crate) round_trip: Smoothed,
    /// When a delayed or expired job becomes due.
    pub(crate) next_due: Option<Moment>,
    /// Whose turn it is to be asked first.
    pub(crate) first: usize,
    /// Places of the ledger's marks used up by calls without an answer.
    pub(crate) mark_place: usize,
    /// Names us in what we reserve.
    tag: u32,
    unanswered: Vec<(Mark, Moment)>,
    waits: u64,
}

/// A turn whose answer is still to come.
#[derive(Debug)]
pub(crate) struct TurnUnderWay {
    /// What it settles.
    pub(crate) settling: Vec<(Option<HoldId>, Settlement)>,
    /// What it asks for.
    pub(crate) asks: Vec<Ask>,
    /// Slots that other connections must not count on.
    pub(crate) promised: u32,
    /// By which what it took can be found.
    pub(crate) mark: Mark,
}

/// A wait that has not ended.
#[derive(Debug)]
pub(crate) struct WaitUnderWay {
    number: u64,
    /// The lanes it is for.
    pub(crate) lanes: BTreeSet<usize>,
    task: AbortHandle,
}

impl Drop for WaitUnderWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of a lane, beside its settings.
#[derive(Debug)]
pub(crate) struct LaneState {
    known: Known,
    known_since: Moment,
    /// Not asked before: it is paused, or all it has is for endpoints that take nothing.
    pub(crate) rest: Option<Moment>,
    /// Paused by an operator.
    pub(crate) paused: bool,
    /// What is taken there counts towards a limit: nothing is taken that does not start.
    pub(crate) limited: bool,
    /// Times in a row that nothing of what came could be started.
    pub(crate) stuck: u32,
    /// Troubles that were already told.
    pub(crate) broken: BTreeSet<String>,
}

impl LaneState {
    /// Nothing is known yet but whether the manifest limits its starts.
    pub(crate) fn new(limited: bool, now: Moment) -> Self {
        Self {
            known: Known::Unknown,
            known_since: now,
            rest: None,
            paused: false,
            limited,
            stuck: 0,
            broken: BTreeSet::new(),
        }
    }

    /// Something was learned about its queues.
    pub(crate) fn note(&mut self, known: Known, now: Moment) {
        (self.known, self.known_since) = (known, now);
    }

    /// What is known of its queues. While nobody sleeps there on its behalf, what was empty is so for `good_for` only.
    pub(crate) fn known(&self, waited_for: bool, good_for: Duration, now: Moment) -> Known {
        let old = now.since(self.known_since) >= good_for;
        if self.known == Known::Empty && old && !waited_for { Known::Unknown } else { self.known }
    }

    /// Whether it may be asked, as far as it is concerned.
    pub(crate) fn is_up(&self, now: Moment) -> bool {
        self.rest.is_none_or(|until| until <= now)
    }
}

impl Source {
    /// A connection with nothing under way.
    pub(crate) fn new(
        name: String,
        shown: String,
        laravel_name: String,
        lanes: Vec<usize>,
        driver: Arc<dyn QueueDriver>,
        failed: Arc<dyn FailedJobs>,
        tag: u32,
    ) -> Self {
        Self {
            name,
            shown,
            laravel_name,
            lanes,
            driver,
            failed,
            reach: Reach::default(),
            pending: Vec::new(),
            remarks: Outbox::default(),
            turn: None,
            renewing: None,
            probing: false,
            renew_at: None,
            wait: None,
            round_trip: Smoothed::default(),
            next_due: None,
            first: 0,
            mark_place: 0,
            tag,
            unanswered: Vec::new(),
            waits: 0,
            wakes: Wakes::default(),
        }
    }

    /// Whether a verdict waits that may be sent: nothing said of its job is still to be written.
    pub(crate) fn has_verdicts(&self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let talked_about = self.remarks.jobs();
        self.pending.iter().any(|(id, _)| id.is_none_or(|id| !talked_about.contains(&id)))
    }

    fn take_verdicts(&mut self) -> Vec<(Option<HoldId>, Settlement)> {
        let talked_about = self.remarks.jobs();
        // About as many will come until the next turn; they are large.
        let next = Vec::with_capacity(self.pending.len());
        let mut settling = std::mem::replace(&mut self.pending, next);
        let must_wait = |id: &Option<HoldId>| id.is_some_and(|id| talked_about.contains(&id));
        self.pending.extend(settling.extract_if(.., |(id, _)| must_wait(id)));
        settling
    }

    /// Sends what handlers said.
    pub(crate) fn send_remarks(&mut self, at: usize, now: Moment, events: &UnboundedSender<Event>) {
        let call = self.remarks.begin(now);
        let (driver, events) = (Arc::clone(&self.driver), events.clone());
        tokio::spawn(async move {
            let answer = guarded(driver.remark(&call)).await;
            let _ended = events.send(Event::Remarked { source: at, answer });
        });
    }

    /// Sends verdicts and wishes as one turn.
    pub(crate) fn send_turn(
        &mut self,
        at: usize,
        asks: Vec<Ask>,
        promised: u32,
        mark: Mark,
        events: &UnboundedSender<Event>,
    ) {
        let settling = self.take_verdicts();
        let settlements: Vec<Settlement> =
            settling.iter().map(|(_, settlement)| settlement.clone()).collect();
        let (driver, events, wishes) = (Arc::clone(&self.driver), events.clone(), asks.clone());
        tokio::spawn(async move {
            let sent = qfleet_os::clock::now();
            let answer = guarded(driver.turn(&settlements, &wishes, mark)).await;
            let took = qfleet_os::clock::now().since(sent);
            let _ended = events.send(Event::Turned { source: at, answer, took });
        });
        self.turn = Some(TurnUnderWay { settling, asks, promised, mark });
    }

    /// A turn got no answer, and may have taken jobs all the same.
    pub(crate) fn lost_answer(&mut self, turn: &TurnUnderWay, now: Moment) {
        if !turn.asks.is_empty() {
            self.unanswered.push((turn.mark, now));
            self.mark_place = self.mark_place.wrapping_add(1);
        }
    }

    /// What such turns may have taken and not given us since, as a recovery wants to know it; `None` when there are none.
    pub(crate) fn strays(&mut self, now: Moment) -> Option<DeadWorker> {
        let lease = self.driver.lease();
        // What they reserved has ended by then.
        self.unanswered.retain(|(_, since)| now.since(*since) < lease * 2);
        let under_way = self.turn.iter().filter(|turn| !turn.asks.is_empty()).map(|turn| turn.mark);
        let marks: Vec<Mark> = self.unanswered.iter().map(|(mark, _)| *mark).chain(under_way).collect();
        (!marks.is_empty()).then(|| DeadWorker { tag: self.tag, marks, held: Vec::new() })
    }

    /// Renews what is in hand.
    pub(crate) fn send_renewal(
        &mut self,
        at: usize,
        held: Vec<(HoldId, Receipt)>,
        events: &UnboundedSender<Event>,
    ) {
        let (ids, receipts): (Vec<HoldId>, Vec<Receipt>) = held.into_iter().unzip();
        let (driver, events) = (Arc::clone(&self.driver), events.clone());
        tokio::spawn(async move {
            let answer = guarded(driver.renew(&receipts)).await;
            let _ended = events.send(Event::Renewed { source: at, answer });
        });
        self.renewing = Some(ids);
    }

    /// Looks whether the store is back, without changing anything there.
    pub(crate) fn send_probe(&mut self, at: usize, events: &UnboundedSender<Event>) {
        let (driver, events) = (Arc::clone(&self.driver), events.clone());
        tokio::spawn(async move {
            let answer = guarded(driver.depth(&[LaneId(0)])).await.map(drop);
            let _ended = events.send(Event::Probed { source: at, answer });
        });
        self.probing = true;
    }

    /// Sleeps in the store until one of `lanes` may have a job.
    pub(crate) fn begin_wait(
        &mut self,
        at: usize,
        lanes: BTreeSet<usize>,
        at_most: Duration,
        events: &UnboundedSender<Event>,
    ) {
        self.waits += 1;
        let number = self.waits;
        let ids: Vec<_> = self
            .lanes
            .iter()
            .zip(0_u16..)
            .filter(|(lane, _)| lanes.contains(lane))
            .map(|(_, id)| LaneId(id))
            .collect();
        let (driver, events) = (Arc::clone(&self.driver), events.clone());
        let task = tokio::spawn(async move {
            let answer = guarded(driver.wait(&ids, at_most)).await;
            let _ended = events.send(Event::Waited { source: at, number, answer });
        });
        self.wait = Some(WaitUnderWay { number, lanes, task: task.abort_handle() });
    }

    /// A wait has ended, `None` when it could not go on; whether it is the one that still counts.
    pub(crate) fn wait_ended(
        &mut self,
        number: u64,
        ended: Option<Waited>,
        now: Moment,
        jitter: f64,
    ) -> bool {
        if self.wait.take_if(|wait| wait.number == number).is_none() {
            return false;
        }
        self.wakes.ended(ended, now, jitter);
        true
    }
}

/// Whatever happens, there is an answer: the loop would wait for ever for a call that panicked.
async fn guarded<T>(call: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
    let answer = AssertUnwindSafe(call).catch_unwind().await;
    answer.unwrap_or_else(|_| {
        Err(QueueError::Unreachable(String::from("the driver panicked; this is a defect of ours")))
    })
}
