//! The trait every queue family is behind, and the promises of each verb.
//!
//! The promises, for every family: a job is at every instant in exactly one place in the store; no byte of a payload
//! changes except its attempt counter; a verdict takes effect at most once, and only while the reservation is still
//! ours; a call that failed with [`QueueError::Unreachable`] may be repeated.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use qfleet_model::job::Job;
use qfleet_model::outcome::{Output, Verdict};
use qfleet_model::time::WallTime;

use crate::LaneQueues;
use crate::error::{QueueError, Unreadable};

/// A queue of the manifest, by its place in the settings the driver was opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// A wish for jobs of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Which lane.
    pub lane: LaneId,
    /// How many jobs at most, over all Redis queues of the lane in their order of importance.
    pub at_most: u32,
}

/// Names one call that reserves, so that what it took can be found again when its reply is lost.
///
/// Laravel: the bits of the exact score the call writes. It is noted in the ledger before the call is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(pub u64);

/// A job in hand. It stays in the store, under our name, until it is settled.
#[derive(Debug, Clone)]
pub struct Reserved {
    /// Which lane it came from.
    pub lane: LaneId,
    /// The job, or why it cannot be read; then its only verdict is [`Verdict::Bury`], which keeps every byte.
    pub job: Result<Job, Unreadable>,
    /// Proof that it is ours.
    pub receipt: Receipt,
}

/// Proof that a job is ours; only its driver can look inside.
#[derive(Clone)]
pub struct Receipt {
    lane: LaneId,
    queue: u16,
    digest: [u8; 16],
    inner: Arc<dyn std::any::Any + Send + Sync>,
}

impl Receipt {
    /// For drivers: a receipt with the driver's own data inside.
    #[must_use]
    pub fn new(
        lane: LaneId,
        queue: u16,
        digest: [u8; 16],
        inner: Arc<dyn std::any::Any + Send + Sync>,
    ) -> Self {
        Self { lane, queue, digest, inner }
    }

    /// Which lane the job came from.
    #[must_use]
    pub fn lane(&self) -> LaneId {
        self.lane
    }

    /// Which Redis queue of the lane, by its place.
    #[must_use]
    pub fn queue(&self) -> u16 {
        self.queue
    }

    /// Names the reservation in the ledger. Laravel: the first half of SHA-256 over the reserved bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// For drivers: the data put in by [`Receipt::new`].
    #[must_use]
    pub fn inner<T: 'static>(&self) -> Option<&T> {
        self.inner.downcast_ref()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Receipt(lane {}, queue {})", self.lane.0, self.queue)
    }
}

/// A job and what becomes of it.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The job.
    pub receipt: Receipt,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Whether a verdict took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It did, now or at an earlier try of the same call.
    Done,
    /// The job was not ours any more; nothing was changed.
    Lost,
}

/// What one [`QueueDriver::turn`] did.
#[derive(Debug, Default)]
pub struct Turn {
    /// One for each settlement, in the same order.
    pub settled: Vec<Settled>,
    /// Jobs taken, in the order of the asks.
    pub jobs: Vec<Reserved>,
    /// Lanes that have more jobs ready than were asked for.
    pub more: Vec<LaneId>,
    /// When the next delayed or expired job of any asked lane becomes due, as far as known.
    pub next_due: Option<WallTime>,
    /// Lanes whose Redis queues are all paused.
    pub paused: Vec<LaneId>,
    /// Asked lanes with a limit in force of starts or of running jobs, whether it is in the manifest or in the store:
    /// what is fetched there counts, so nothing is to be fetched that cannot start.
    pub limited: Vec<LaneId>,
    /// Redis queues that cannot be worked, with the reason (a key of a wrong type, …); the others went on.
    pub broken: Vec<(LaneId, String)>,
}

/// What a handler says of a job while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// How far it is; stored as JSON, whatever it is.
    Progress(Output),
    /// A line for the job's log.
    Log(String),
}

/// A reservation after renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Ours for another lease.
    Held,
    /// Another worker has the job now.
    Lost,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// One of the lanes may have a job.
    Woken,
    /// Nothing was heard of any.
    TimedOut,
}

/// What a ledger says a dead worker was doing with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadState {
    /// Fetched and not started: goes back uncounted.
    Fetched,
    /// Started: its attempt counts, and it is one crash.
    Started {
        /// It was the only job in hand, after earlier crashes: it is to blame.
        alone: bool,
        /// Nothing is to be delivered again before (`redeliver: after-deadline`).
        not_before: Option<WallTime>,
    },
    /// Its outcome was known and being settled.
    Settling(DeadVerdict),
}

/// The part of a verdict that a ledger can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadVerdict {
    /// Finished: remove it.
    Complete,
    /// Again at this date, counted or not.
    Again {
        /// Due then.
        due: WallTime,
        /// Whether the attempt counts.
        counted: bool,
    },
    /// To be buried, discarded: treat as started, reason gone with the worker.
    Other,
}

/// A job a dead worker held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadHold {
    /// Which lane.
    pub lane: LaneId,
    /// Which Redis queue of the lane, by its place.
    pub queue: u16,
    /// [`Receipt::digest`].
    pub digest: [u8; 16],
    /// What was being done with it.
    pub state: DeadState,
}

/// Everything a ledger knows of a dead worker's jobs on one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadWorker {
    /// The tag the worker's driver was opened with.
    pub tag: u32,
    /// Reserving calls whose reply may not have been noted.
    pub marks: Vec<Mark>,
    /// Jobs in hand.
    pub held: Vec<DeadHold>,
}

/// What became of a dead worker's jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Back in their queues (or finished, where only that was left to do).
    pub returned: u32,
    /// Buried after the third crash.
    pub buried: u32,
    /// Not there any more: settled before the death was noticed, or taken over.
    pub gone: u32,
}

/// How much is in a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Depth {
    /// Ready to be taken.
    pub waiting: u64,
    /// Due later.
    pub delayed: u64,
    /// In some worker's hands.
    pub reserved: u64,
    /// Failed for good, where the store can count them by queue.
    pub failed: u64,
    /// Creation of the oldest ready job, where its payload says so.
    pub oldest: Option<WallTime>,
    /// Paused by an operator.
    pub paused: bool,
}

/// Where a job can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Ready to be taken.
    Waiting,
    /// Due later.
    Delayed,
    /// In some worker's hands.
    Reserved,
}

/// A job in a listing.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListedJob {
    /// Its queue in Redis.
    pub queue: String,
    /// Where it is.
    pub state: JobState,
    /// `uuid`, else `id`, else empty.
    pub id: String,
    /// Job name, or why it cannot be read.
    pub name: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Due date or end of the reservation, where it has one.
    pub at: Option<WallTime>,
    /// The payload; bytes that are not UTF-8 replaced.
    pub payload: String,
}

/// One connection's queues, as one process serves them.
#[async_trait]
pub trait QueueDriver: Send + Sync + fmt::Debug {
    /// A mark for the next [`QueueDriver::turn`] that reserves.
    fn mark(&self) -> Mark;

    /// Marks of calls whose reply never came: their jobs may still turn up in a later turn, or be found by
    /// [`QueueDriver::recover`] when the worker dies before. Keep them in the ledger as long as they are listed here.
    fn unanswered(&self) -> Vec<Mark> {
        Vec::new()
    }

    /// Takes over what of a lane's settings can change while it is worked: its limit of starts, which finished jobs stay,
    /// how stalled jobs are looked for, what a delay means. Holds from the next call on; what is counted stays counted.
    fn tune(&self, lane: LaneId, settings: &LaneQueues);

    /// How long a reservation lasts; renew at a third of it.
    fn lease(&self) -> Duration;

    /// Carries out verdicts, then makes due jobs ready and reserves what is asked for: one round trip.
    ///
    /// A job comes with its attempt already counted. A verdict takes effect only while the job is ours, and at most
    /// once however often the call is repeated. After a call that failed, jobs which its lost reply may have taken are
    /// found again by its mark and come with a later turn.
    ///
    /// # Errors
    /// [`QueueError::Unreachable`]: repeat the same settlements; whether they took effect is then told correctly.
    async fn turn(&self, settle: &[Settlement], asks: &[Ask], mark: Mark) -> Result<Turn, QueueError>;

    /// Sleeps in the store until one of `lanes` may have a job, or `at_most` has passed. May return earlier, when the driver
    /// has something of its own to do in a turn.
    ///
    /// # Errors
    /// [`QueueError::Unreachable`] when the wake-up connection is lost.
    async fn wait(&self, lanes: &[LaneId], at_most: Duration) -> Result<Waited, QueueError>;

    /// Renews all of `held` in one call; one answer each, in the same order. A job that is still in the store under
    /// our name is ours, however late we are.
    ///
    /// # Errors
    /// [`QueueError::Unreachable`]: nothing is lost by that; try again.
    async fn renew(&self, held: &[Receipt]) -> Result<Vec<Renewal>, QueueError>;

    /// Writes down what handlers said of running jobs, in this order, for families that keep it. Changes nothing else.
    ///
    /// # Errors
    /// Any; on [`QueueError::Unreachable`] it may have been written.
    async fn remark(&self, _remarks: &[(Receipt, Remark)]) -> Result<(), QueueError> {
        Ok(())
    }

    /// Puts back what a dead worker held: fetched jobs uncounted to the take end, started ones with their attempt and a
    /// crash counted, or buried when they crashed alone for the third time. Safe to repeat after its own death.
    ///
    /// # Errors
    /// Any; call again later.
    async fn recover(&self, dead: &DeadWorker) -> Result<Recovered, QueueError>;

    /// Adds a payload as it is, ready or due later, waking whoever sleeps. Answers the job's id where the store gives
    /// one; elsewhere it is in the payload.
    ///
    /// # Errors
    /// Any; on [`QueueError::Unreachable`] it may have been added.
    async fn push(
        &self,
        lane: LaneId,
        queue: &str,
        payload: &[u8],
        delay: Option<Duration>,
    ) -> Result<Option<String>, QueueError>;

    /// A payload in the family's format for a job named `name` with JSON `data`.
    ///
    /// # Errors
    /// A sentence saying what is wrong with `name` or `data`.
    fn compose(&self, name: &str, data: &str) -> Result<Vec<u8>, String>;

    /// Sizes, one for each of `lanes`.
    ///
    /// # Errors
    /// Any.
    async fn depth(&self, lanes: &[LaneId]) -> Result<Vec<Depth>, QueueError>;

    /// Jobs of one state, next to be taken (or due) first.
    ///
    /// # Errors
    /// Any.
    async fn look(
        &self,
        lane: LaneId,
        state: JobState,
        from: u64,
        count: u64,
    ) -> Result<Vec<ListedJob>, QueueError>;

    /// Whether the end of a pause, by whomever, wakes who [waits](QueueDriver::wait).
    fn resume_wakes(&self) -> bool {
        false
    }

    /// Stops (or allows again) all taking from the lane's queues, by every process of every host. Answers what its
    /// operator should also know, a sentence each.
    ///
    /// # Errors
    /// Any.
    async fn set_paused(&self, lane: LaneId, paused: bool) -> Result<Vec<String>, QueueError>;
}
