//! The loop of a worker process: wait for an event, decide, carry out.
//!
//! Everything that happens arrives as an [`Event`]; nothing in the loop waits for a store or a handler. After each batch of
//! events [`Worker::step`] looks at everything once: starts what may start, gives back what is too much, and sends each
//! connection at most one turn.
//!
//! | File | Part of the worker |
//! | --- | --- |
//! | `take`, `sleep` | turns: what is asked for and what comes in; waiting in the store |
//! | `attempt`, `bury` | deliveries, and what becomes of their jobs |
//! | `settle` | verdicts on their way |
//! | `remarks` | what handlers say while they run |
//! | `lease`, `contact` | renewals; stores that are away |
//! | `leave` | the end |

use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::link::{Recycle, ToChild};
use qfleet_model::outcome::Verdict;
use qfleet_model::start::DrainLimit;
use qfleet_model::time::Moment;
use qfleet_os::clock;
use qfleet_os::signal::Incoming;
use qfleet_queue::driver::{Renewal, Turn, Waited};
use qfleet_queue::error::QueueError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tracing::{debug, info, warn};

use crate::drain::Drain;
use crate::gate::Gates;
use crate::handler::Ended;
use crate::hold::ledger::Ledger;
use crate::lanes::Lanes;
use crate::prefetch::{Known, Pace};
use crate::recycle::Limits;
use crate::report::Speaker;
use crate::slots::{Counted, HoldId, Slots};
use crate::source::{LaneState, Source};

/// Events taken in before the next look at everything.
const BATCH: usize = 512;
/// Nothing to wait for: any time will do.
const LONG: Duration = Duration::from_secs(3600);

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A delivery has ended; `None` when its handler panicked, or did not keep its own deadline.
    Ended(HoldId, Result<Ended, Broken>),
    /// A job was written to the failed jobs.
    Buried(HoldId),
    /// A turn was answered.
    Turned {
        /// Which connection.
        source: usize,
        /// What it did.
        answer: Result<Turn, QueueError>,
        /// How long it took.
        took: Duration,
    },
    /// A wait has ended.
    Waited {
        /// Which connection.
        source: usize,
        /// Which wait.
        number: u64,
        /// What ended it, if it could wait.
        answer: Result<Waited, QueueError>,
    },
    /// Handlers have said something of their jobs.
    Said,
    /// What they said was sent.
    Remarked {
        /// Which connection.
        source: usize,
        /// Whether it was taken.
        answer: Result<(), QueueError>,
    },
    /// A renewal was answered.
    Renewed {
        /// Which connection.
        source: usize,
        /// One for each job.
        answer: Result<Vec<Renewal>, QueueError>,
    },
    /// A look whether the store is back.
    Probed {
        /// Which connection.
        source: usize,
        /// Whether it is.
        answer: Result<(), QueueError>,
    },
    /// The daemon said something.
    Told(ToChild),
    /// The daemon is gone.
    Orphaned,
    /// Somebody sent a signal.
    Signalled(Incoming),
}

/// A handler that did not keep its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It panicked.
    Panicked,
    /// It was still at work long after its deadline, and was let go.
    Overdue,
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) settings: WorkerSettings,
    pub(crate) lanes: Lanes,
    pub(crate) lane_states: Vec<LaneState>,
    pub(crate) sources: Vec<Source>,
    pub(crate) slots: Slots,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) gates: Gates,
    pub(crate) pace: Pace,
    pub(crate) limits: Limits,
    pub(crate) wants_replacement: Option<Recycle>,
    pub(crate) drain: Option<Drain>,
    /// A job that crashed its worker before: nothing else is in hand until it has ended.
    pub(crate) alone: Option<HoldId>,
    /// The lane whose job starts first.
    pub(crate) first_lane: usize,
    /// The connection that is looked at first.
    pub(crate) first_source: usize,
    pub(crate) speaker: Speaker,
    pub(crate) events: UnboundedSender<Event>,
    /// There is a daemon that would answer.
    pub(crate) supervised: bool,
    /// Wake up then at the latest.
    wake: Option<Moment>,
}

/// What a [`Worker`] is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) settings: WorkerSettings,
    pub(crate) lanes: Lanes,
    pub(crate) sources: Vec<Source>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) speaker: Speaker,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) supervised: bool,
}

impl Worker {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { settings, lanes, sources, ledger, speaker, events, supervised } = parts;
        let now = clock::now();
        Self {
            lane_states: lanes.all.iter().map(|lane| LaneState::new(lane.counted, now)).collect(),
            slots: Slots::new(ledger.capacity(), lanes.all.len(), lanes.endpoints.len()),
            gates: Gates::for_worker(&settings),
            pace: Pace::default(),
            limits: Limits::new(&settings, now, fastrand::f64() * 2.0 - 1.0),
            wants_replacement: None,
            drain: None,
            alone: None,
            first_lane: 0,
            first_source: 0,
            wake: None,
            settings,
            lanes,
            sources,
            ledger,
            speaker,
            events,
            supervised,
        }
    }

    /// Works until it is told to stop and everything in hand is settled; gives the exit code.
    pub(crate) async fn work(mut self, mut happens: UnboundedReceiver<Event>) -> i32 {
        loop {
            if let Some(code) = self.step(clock::now()) {
                return self.leave(code).await;
            }
            let pause = self.wake.map_or(LONG, |wake| wake.since(clock::now()));
            tokio::select! {
                biased;
                Some(event) = happens.recv() => self.take_in(event, &mut happens),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn take_in(&mut self, first: Event, happens: &mut UnboundedReceiver<Event>) {
        let now = clock::now();
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(event) = next else { break };
            self.happened(event, now);
            next = happens.try_recv().ok();
        }
        if let Some(event) = next {
            self.happened(event, now);
        }
    }

    fn happened(&mut self, event: Event, now: Moment) {
        match event {
            Event::Ended(id, end) => self.delivery_ended(id, end, now),
            Event::Buried(id) => self.buried(id),
            Event::Turned { source, answer, took } => self.turned(source, answer, took, now),
            Event::Waited { source, number, answer } => self.waited(source, number, answer, now),
            // The look at everything that follows sees it.
            Event::Said => {}
            Event::Remarked { source, answer } => self.remarked(source, answer, now),
            Event::Renewed { source, answer } => self.renewed(source, answer, now),
            Event::Probed { source, answer } => self.probed(source, answer, now),
            Event::Told(ToChild::Drain { limit }) => self.drain(limit, now),
            Event::Told(ToChild::Tune { settings }) => self.tune(settings),
            Event::Told(ToChild::Start(_)) => debug!("a second start from the daemon changes nothing"),
            Event::Signalled(signal) => self.signalled(signal, now),
            Event::Orphaned => {
                self.supervised = false;
                warn!("the daemon is gone: finishing the jobs in hand, then ending");
                self.drain(DrainLimit::JobsOwn, now);
            }
        }
    }

    fn signalled(&mut self, signal: Incoming, now: Moment) {
        match signal {
            Incoming::Term | Incoming::Int => self.drain(DrainLimit::AtMost(self.settings.stop_wait), now),
            Incoming::Quit => self.drain(DrainLimit::AtMost(Duration::ZERO), now),
            Incoming::Hup | Incoming::Usr1 | Incoming::Usr2 => {}
        }
    }

    /// Looks at everything once. The exit code when all is done.
    fn step(&mut self, now: Moment) -> Option<i32> {
        self.wake = None;
        self.recycle(now);
        self.start_what_may(now);
        self.give_back_excess(now);
        if let Some(code) = self.step_drain(now) {
            return Some(code);
        }
        let (first, count) = (self.first_source, self.sources.len());
        for source in (0..count).map(|step| (first + step) % count) {
            self.work_source(source, now);
        }
        for change in self.gates.changes() {
            match change.open {
                true => info!(endpoint = change.endpoint, "{}", change.text),
                false => warn!(endpoint = change.endpoint, "{}; its jobs wait", change.text),
            }
        }
        self.report(now);
        None
    }

    /// Sees to it that the loop looks again at this moment at the latest.
    pub(crate) fn wake_at(&mut self, moment: Moment) {
        self.wake = Some(self.wake.map_or(moment, |wake| wake.min(moment)));
    }

    fn tune(&mut self, settings: serde_json::Value) {
        let settings: WorkerSettings = match serde_json::from_value(settings) {
            Ok(settings) => settings,
            Err(error) => {
                warn!("the daemon sent settings that cannot be read, the old ones hold: {error}");
                return;
            }
        };
        self.lanes.tune(&settings);
        self.tune_queues(&settings);
        self.limits.tune(&settings);
        self.settings.concurrency = settings.concurrency;
        self.settings.sleep = settings.sleep;
        self.settings.stop_wait = settings.stop_wait;
        self.settings.kill_after = settings.kill_after;
        (self.settings.max_time, self.settings.max_jobs) = (settings.max_time, settings.max_jobs);
        self.settings.memory = settings.memory;
        info!("took over new settings");
    }

    /// Tells the drivers. A lane whose limit of starts has changed is asked again at once: it may have been resting for
    /// nothing. What was fetched ahead before starts were counted goes back, to be counted when it starts.
    fn tune_queues(&mut self, settings: &WorkerSettings) {
        let (now, mut uncounted) = (clock::now(), Vec::new());
        for source in &self.sources {
            for at in &source.lanes {
                let lane = &self.lanes.all[*at];
                let Some(wanted) = settings.lanes.iter().find(|wanted| wanted.name == lane.name) else {
                    continue;
                };
                source.driver.tune(lane.id, &wanted.into());
                let before = self.settings.lanes.iter().find(|old| old.name == lane.name);
                let before = before.and_then(|old| old.rate_limit);
                if before == wanted.rate_limit {
                    continue;
                }
                let state = &mut self.lane_states[*at];
                (state.limited, state.rest) = (lane.counted, None);
                state.note(Known::Unknown, now);
                if before.is_none() {
                    uncounted.extend(self.slots.stock_of(*at));
                }
            }
        }
        for id in uncounted {
            self.settle(id, Verdict::GiveBack, Counted::GivenBack);
        }
        self.settings.lanes.clone_from(&settings.lanes);
    }

    fn recycle(&mut self, now: Moment) {
        if self.drain.is_some() || self.wants_replacement.is_some() {
            return;
        }
        let Some(because) = self.limits.reached(now) else {
            if let Some(end) = self.limits.expires() {
                self.wake_at(end);
            }
            return;
        };
        if self.supervised && !self.speaker.wants_replacement(because) {
            // The daemon does not read just now.
            return;
        }
        self.wants_replacement = Some(because);
        info!("`{}` is reached, this worker is to be replaced", because.key());
        if !self.supervised {
            self.drain(DrainLimit::JobsOwn, now);
        }
    }
}
