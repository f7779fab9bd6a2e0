//! The driver of both of Node's libraries: what they share is here and in the files beside it, what tells them apart is a
//! [`Library`].
//!
//! Every key is read and written as the library's own workers do, so that they can take over any job at any moment and the
//! reverse. Three things differ, and peers do not see them: one script does all of a turn for all queues; a lock's token
//! carries the worker's tag and the mark of the call that took the job; and a lock that ran out is still ours as long as
//! nobody has started the job since, which what its hash says of its starts shows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use qfleet_manifest::queue::Connection;

use super::held::{Held, InHand};
use super::keys::Keys;
use super::library::{Bed, Library, Scripts};
use super::presence::Presence;
use super::{Figures, Lanes, compose, settle};
use crate::clock;
use crate::driver::{
    Ask, DeadWorker, Depth, JobState, LaneId, ListedJob, Mark, QueueDriver, Receipt, Recovered, Remark,
    Renewal, Settlement, Turn, Waited,
};
use crate::error::QueueError;
use crate::lost::Lost;
use crate::places::Places;
use crate::redis::{Address, Call, Link, Sleeper};
use crate::{LaneQueues, OpenSettings};

/// After an outage every worker has tried again within this time: its pauses grow up to 5 s, and a call may take some more.
const PEERS_COME_BACK: Duration = Duration::from_secs(10);

/// All queues of one connection of one library that one process serves.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(super) library: &'static Library,
    pub(super) connection: Connection,
    pub(super) keys: Keys,
    pub(super) lanes: Lanes,
    pub(super) tag: u32,
    pub(super) marks: AtomicU64,
    pub(super) lease: Duration,
    pub(super) link: Link,
    pub(super) sleeper: Sleeper,
    presence: Presence,
    pub(super) scripts: Scripts,
    pub(super) in_hand: InHand,
    pub(super) lost: Lost,
    /// When stalled jobs are looked for next, for each queue.
    checks: Mutex<Vec<Instant>>,
    /// Turns follow each other and never overlap: what a lost reply took could not be told from what another turn took.
    pub(super) turning: tokio::sync::Mutex<()>,
}

impl Queues {
    /// Touches no network. `link` is for all that does not sleep.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when a file named by the settings cannot be read.
    pub(crate) fn open(
        library: &'static Library,
        settings: &OpenSettings,
        link: Link,
    ) -> Result<Self, QueueError> {
        let connection = settings.connection.clone();
        let keys = Keys::new(&connection.prefix);
        let lanes = Lanes::new(&settings.lanes);
        let bases = lanes.queues().iter().map(|queue| keys.base(&queue.name)).collect();
        // Only who works is seen.
        let queues = if settings.tag == 0 { &[] } else { lanes.queues() };
        // A connection has one name, so only the worker of a single queue can be seen by it.
        let (name, names) = match queues {
            [only] => (Some(keys.worker(&only.name)), Vec::new()),
            several => {
                let seen = several.iter().filter(|queue| queue.figures().rules.presence);
                (None, seen.map(|queue| keys.worker(&queue.name)).collect())
            }
        };
        Ok(Self {
            library,
            lease: lanes.lock_duration(),
            sleeper: (library.sleeper)(Bed {
                redis: &connection.redis,
                commands: link.clone(),
                bases,
                name,
            })?,
            scripts: (library.scripts)(),
            presence: Presence::new(Address::new(&connection.redis)?, names),
            in_hand: InHand::default(),
            lost: Lost::default(),
            checks: Mutex::new(vec![Instant::now(); lanes.queues().len()]),
            turning: tokio::sync::Mutex::default(),
            tag: settings.tag,
            // Another process with the same tag does not draw the same marks; zero is none.
            marks: AtomicU64::new((fastrand::u64(..) >> 1) | 1),
            connection,
            keys,
            lanes,
            link,
        })
    }

    /// Start of the tokens of a worker's locks.
    pub(super) fn tokens_of(tag: u32) -> String {
        format!("qfleet-{tag:05x}-")
    }

    pub(super) fn token(&self, mark: Mark) -> String {
        format!("{}{:x}", Self::tokens_of(self.tag), mark.0)
    }

    pub(super) fn lock_millis(&self) -> u128 {
        self.lease.as_millis().max(1)
    }

    /// Queues in which stalled jobs are to be looked for now; they are not due again before their interval.
    pub(super) fn due_checks(&self) -> Vec<usize> {
        if self.tag == 0 {
            return Vec::new();
        }
        let now = Instant::now();
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (number, (next, queue)) in checks.iter_mut().zip(self.lanes.queues()).enumerate() {
            if *next <= now {
                *next = now + queue.figures().rules.stalled_interval;
                due.push(number);
            }
        }
        due
    }

    /// A call failed, and locks may have run out meanwhile: before anybody looks for those, whoever holds one gets the time
    /// to come back and renew it.
    pub(super) fn put_checks_off(&self) {
        let back = Instant::now() + PEERS_COME_BACK;
        for next in self.checks.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            *next = back.max(*next);
        }
    }

    /// Time until stalled jobs are to be looked for again, which nothing in Redis wakes us for. What is due already comes
    /// with the next turn.
    fn until_check(&self) -> Duration {
        let now = Instant::now();
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let next = if self.tag == 0 { None } else { checks.iter().filter(|next| **next > now).min() };
        next.map_or(Duration::MAX, |next| *next - now)
    }

    /// What the scripts read of the queues in a call.
    pub(super) fn add_queues(&self, call: &mut Call<'_>, queues: &[usize], checks: &[usize]) {
        call.own(queues.len());
        for number in queues {
            let Some(queue) = self.lanes.queues().get(*number) else { continue };
            let Figures { rules, limit } = queue.figures();
            let check = if checks.contains(number) { rules.stalled_interval.as_millis().max(1) } else { 0 };
            call.key(self.keys.meta(&queue.name));
            call.own(self.keys.base(&queue.name)).own(self.keys.notes(&queue.name));
            call.own(rules.accept_version.map(|major| major.to_string()).unwrap_or_default());
            call.own(rules.max_stalled).own(check);
            call.own(limit.map_or(0, |limit| limit.max)).own(limit.map_or(0, |limit| limit.per.as_millis()));
            call.own(settle::rule(rules.keep_completed)).own(settle::rule(rules.keep_failed));
            call.own(rules.metrics);
        }
    }

    /// Looks for stalled jobs without anything else to do.
    async fn renew_all(&self, held: &[Receipt]) -> Result<Vec<Renewal>, QueueError> {
        let checks = self.due_checks();
        if held.is_empty() && checks.is_empty() {
            return Ok(Vec::new());
        }
        let jobs: Vec<Option<&Held>> = held.iter().map(|receipt| receipt.inner::<Held>()).collect();
        let mut places = Places::default();
        let mut args = Call::default();
        for job in jobs.iter().flatten() {
            args.own(places.of(job.queue)).arg(&job.id).arg(&job.token).arg(&job.proof);
        }
        for queue in &checks {
            places.of(*queue);
        }
        let now = clock::now();
        let mut call = Call::default();
        call.own(now.as_millis()).own(self.lock_millis());
        self.add_queues(&mut call, places.queues(), &checks);
        call.append(args);
        let answers =
            self.link.run(&self.scripts.renew, &call).await.inspect_err(|_| self.put_checks_off())?;
        let mut answers = answers.list().into_iter();
        let mut renewals = Vec::with_capacity(held.len());
        for (receipt, job) in held.iter().zip(jobs) {
            let kept = job.is_some() && answers.next().and_then(|answer| answer.number::<u8>()) == Some(1);
            match job {
                Some(job) if kept => job.lease.renewed(now + self.lease),
                Some(job) => self.in_hand.remove(job, receipt.digest()),
                None => {}
            }
            renewals.push(if kept { Renewal::Held } else { Renewal::Lost });
        }
        Ok(renewals)
    }
}

#[async_trait]
impl QueueDriver for Queues {
    fn tune(&self, lane: LaneId, settings: &LaneQueues) {
        self.lanes.tune(lane, settings);
    }

    fn mark(&self) -> Mark {
        Mark(self.marks.fetch_add(1, Ordering::Relaxed))
    }

    fn unanswered(&self) -> Vec<Mark> {
        self.lost.marks()
    }

    fn lease(&self) -> Duration {
        self.lease
    }

    async fn turn(&self, settle: &[Settlement], asks: &[Ask], mark: Mark) -> Result<Turn, QueueError> {
        self.presence.show();
        self.take_turn(settle, asks, mark).await
    }

    async fn wait(&self, lanes: &[LaneId], at_most: Duration) -> Result<Waited, QueueError> {
        let queues = lanes.iter().flat_map(|lane| self.lanes.of(*lane).iter().copied()).collect();
        self.sleeper.wait(queues, at_most.min(self.until_check())).await
    }

    async fn renew(&self, held: &[Receipt]) -> Result<Vec<Renewal>, QueueError> {
        self.renew_all(held).await
    }

    async fn remark(&self, remarks: &[(Receipt, Remark)]) -> Result<(), QueueError> {
        self.write_down(remarks).await
    }

    async fn recover(&self, dead: &DeadWorker) -> Result<Recovered, QueueError> {
        self.return_jobs(dead).await
    }

    async fn push(
        &self,
        _lane: LaneId,
        queue: &str,
        payload: &[u8],
        delay: Option<Duration>,
    ) -> Result<Option<String>, QueueError> {
        self.add(queue, payload, delay).await
    }

    fn compose(&self, name: &str, data: &str) -> Result<Vec<u8>, String> {
        compose::compose(name, data)
    }

    async fn depth(&self, lanes: &[LaneId]) -> Result<Vec<Depth>, QueueError> {
        self.measure(lanes).await
    }

    async fn look(
        &self,
        lane: LaneId,
        state: JobState,
        from: u64,
        count: u64,
    ) -> Result<Vec<ListedJob>, QueueError> {
        self.list(lane, state, from, count).await
    }

    fn resume_wakes(&self) -> bool {
        true
    }

    async fn set_paused(&self, lane: LaneId, paused: bool) -> Result<Vec<String>, QueueError> {
        self.pause(lane, paused).await
    }
}
