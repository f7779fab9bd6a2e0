//! Laravel's queues on Redis.
//!
//! Laravel's four keys of a queue are read and written as Laravel does, so that its workers can take over any job at any
//! moment and the reverse. Three things differ, and peers do not see them: payloads are never decoded, only the digits of
//! the attempt counter change ([`splice`]); the score of a reservation carries the worker's tag in its fraction, which
//! names the holder; and one script does all of a turn for all queues.

mod answer;
mod compose;
mod held;
mod keys;
mod look;
mod lost;
mod payload;
pub(crate) mod prefix;
mod recover;
mod settle;
mod sleeper;
mod splice;
mod turn;

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use qfleet_manifest::queue::{Connection, RateLimit};
use qfleet_model::time::WallTime;
use tokio::sync::Mutex;

use self::held::{Held, InHand};
pub(crate) use self::keys::Keys;
use self::sleeper::NotifyLists;
use crate::clock;
use crate::driver::{
    Ask, DeadWorker, Depth, JobState, LaneId, ListedJob, Mark, QueueDriver, Receipt, Recovered, Renewal,
    Settlement, Turn, Waited,
};
use crate::error::QueueError;
use crate::failed::redis::RedisFailedJobs;
use crate::failed::spread::Register;
use crate::lost::Lost;
use crate::redis::{Blocked, Call, Link, Script, Sleeper};
use crate::{LaneQueues, OpenSettings};

/// The tag is a fraction of a score: so many parts of a second.
const TAGS: f64 = 1_048_576.0;

/// All Laravel queues of one connection that one process serves.
#[derive(Debug)]
pub(crate) struct Laravel {
    connection: Connection,
    keys: Keys,
    lanes: Vec<Lane>,
    /// Names of all queues of all lanes, each once.
    queues: Vec<String>,
    tag: u32,
    lease: Duration,
    link: Link,
    sleeper: Sleeper,
    scripts: Scripts,
    in_hand: InHand,
    lost: Lost,
    /// Turns follow each other and never overlap: what a lost reply took could not be told from what another turn took.
    turning: Mutex<()>,
    failed: RedisFailedJobs,
    /// On a cluster the failed jobs of a queue are found by it.
    register: Option<Register>,
}

#[derive(Debug)]
struct Lane {
    queues: Vec<usize>,
    figures: std::sync::Mutex<Figures>,
}

/// What is said of a lane and may change while it is worked.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    delay_as_backoff: bool,
    /// Holds for each of its queues by itself.
    limit: Option<RateLimit>,
}

impl From<&LaneQueues> for Figures {
    fn from(lane: &LaneQueues) -> Self {
        Self { delay_as_backoff: lane.delay_as_backoff, limit: lane.rate_limit }
    }
}

impl Lane {
    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Scripts {
    turn: Script,
    renew: Script,
    find: Script,
    push: Script,
    depth: Script,
}

impl Laravel {
    /// Touches no network. `link` is for all that does not sleep.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when a file named by the settings cannot be read.
    pub(crate) fn open(settings: &OpenSettings, link: Link) -> Result<Self, QueueError> {
        let connection = settings.connection.clone();
        let keys = Keys::new(&connection);
        let (lanes, queues) = lanes(&settings.lanes);
        let wakeups = Link::for_blocking(&connection.redis)?;
        let lists = queues.iter().map(|queue| keys.notify(queue)).collect();
        Ok(Self {
            lease: Duration::from_secs(connection.retry_after.as_secs_f64().ceil().max(1.0) as u64),
            sleeper: Sleeper::new(Blocked::<NotifyLists>::new(wakeups, link.clone(), lists, None)),
            scripts: Scripts {
                turn: Script::new(concat!(
                    include_str!("lua/scan.lua"),
                    include_str!("lua/turn.lua"),
                    include_str!("lua/settle.lua"),
                    include_str!("lua/limit.lua"),
                    include_str!("lua/take.lua"),
                )),
                renew: Script::new(include_str!("lua/renew.lua")),
                find: Script::new(concat!(include_str!("lua/scan.lua"), include_str!("lua/find.lua"))),
                push: Script::new(include_str!("lua/push.lua")),
                depth: Script::new(include_str!("lua/depth.lua")),
            },
            in_hand: InHand::default(),
            lost: Lost::default(),
            turning: Mutex::default(),
            failed: RedisFailedJobs::new(keys.clone(), link.clone()),
            register: connection.on_cluster().then(|| Register::open(&connection)).transpose()?,
            tag: settings.tag,
            connection,
            keys,
            lanes,
            queues,
            link,
        })
    }

    /// Sees to it that failed jobs which are about to be written will be found.
    async fn note_failing(&self) -> Result<(), QueueError> {
        match &self.register {
            Some(register) => register.note(&self.queues).await,
            None => Ok(()),
        }
    }

    fn queue_name(&self, queue: usize) -> &str {
        self.queues.get(queue).map_or("", String::as_str)
    }

    fn counters_key(&self, queue: usize, identity: &str) -> String {
        self.keys.counters(self.queue_name(queue)) + identity
    }

    /// The lane's queues, most important first.
    fn queues_of(&self, lane: LaneId) -> &[usize] {
        self.lanes.get(usize::from(lane.0)).map_or(&[], |lane| &lane.queues)
    }

    fn figures_of(&self, lane: LaneId) -> Figures {
        self.lanes.get(usize::from(lane.0)).map(|lane| *lane.figures()).unwrap_or_default()
    }

    fn place_in_lane(&self, lane: LaneId, queue: usize) -> u16 {
        let place = self.queues_of(lane).iter().position(|one| *one == queue);
        place.and_then(|place| u16::try_from(place).ok()).unwrap_or_default()
    }

    fn place(&self, lane: LaneId, queue: usize) -> payload::Place<'_> {
        payload::Place {
            prefix: &self.connection.prefix,
            queue: self.queue_name(queue),
            delay_as_backoff: self.figures_of(lane).delay_as_backoff,
        }
    }

    /// Score of a reservation that begins now: whole seconds, and our tag in the fraction.
    fn reservation_end(&self) -> f64 {
        let end = clock::now() + self.lease + Duration::from_millis(999);
        // Below 2^33 seconds with 20 bits behind the point is exact.
        let seconds = end.as_seconds() as f64;
        seconds + f64::from(self.tag) / TAGS
    }

    fn broken_wakeups(&self) -> Vec<(LaneId, String)> {
        let mut broken = Vec::new();
        for queue in self.sleeper.wrong() {
            let list = self.keys.notify(self.queue_name(queue));
            for (number, _) in self.lanes.iter().enumerate().filter(|(_, lane)| lane.queues.contains(&queue))
            {
                let lane = LaneId(u16::try_from(number).unwrap_or(u16::MAX));
                broken.push((lane, format!("`{list}` is no list, so nothing wakes the workers: delete it")));
            }
        }
        broken
    }
}

/// Lanes with numbers for queues, and the queues behind the numbers.
fn lanes(written: &[LaneQueues]) -> (Vec<Lane>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut number = |name: &String| {
        names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.clone());
            names.len() - 1
        })
    };
    let lanes = written
        .iter()
        .map(|lane| Lane {
            queues: lane.queues.iter().map(&mut number).collect(),
            figures: std::sync::Mutex::new(lane.into()),
        })
        .collect();
    (lanes, names)
}

/// A date as a score: seconds, with milliseconds only where there are some.
fn score_text(date: WallTime) -> String {
    let (seconds, millis) = (date.as_seconds(), date.as_millis().rem_euclid(1000));
    if millis == 0 { seconds.to_string() } else { format!("{seconds}.{millis:03}") }
}

#[async_trait]
impl QueueDriver for Laravel {
    fn tune(&self, lane: LaneId, settings: &LaneQueues) {
        if let Some(lane) = self.lanes.get(usize::from(lane.0)) {
            *lane.figures() = settings.into();
        }
    }

    fn mark(&self) -> Mark {
        Mark(self.reservation_end().to_bits())
    }

    fn unanswered(&self) -> Vec<Mark> {
        self.lost.marks()
    }

    fn lease(&self) -> Duration {
        self.lease
    }

    async fn turn(&self, settle: &[Settlement], asks: &[Ask], mark: Mark) -> Result<Turn, QueueError> {
        self.take_turn(settle, asks, mark).await
    }

    async fn wait(&self, lanes: &[LaneId], at_most: Duration) -> Result<Waited, QueueError> {
        let queues = lanes.iter().flat_map(|lane| self.queues_of(*lane).iter().copied()).collect();
        self.sleeper.wait(queues, at_most).await
    }

    async fn renew(&self, held: &[Receipt]) -> Result<Vec<Renewal>, QueueError> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let until = self.reservation_end();
        let mut call = Call::default();
        call.own(self.tag).own(until);
        let jobs: Vec<Option<&Held>> = held.iter().map(|receipt| receipt.inner::<Held>()).collect();
        for held in jobs.iter().flatten() {
            call.key(self.keys.ready(self.queue_name(held.queue))).arg(&held.reserved);
        }
        let mut answers = self.link.run(&self.scripts.renew, &call).await?.list().into_iter();
        let mut renewals = Vec::with_capacity(held.len());
        for (receipt, job) in held.iter().zip(jobs) {
            let kept = job.is_some() && answers.next().and_then(|answer| answer.number::<u8>()) == Some(1);
            match job {
                Some(job) if kept => job.lease.renewed(held::lease_end(until)),
                Some(job) => self.in_hand.remove(job, receipt.digest()),
                None => {}
            }
            renewals.push(if kept { Renewal::Held } else { Renewal::Lost });
        }
        Ok(renewals)
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
        compose::compose(name, data, clock::now())
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

    async fn set_paused(&self, lane: LaneId, paused: bool) -> Result<Vec<String>, QueueError> {
        self.pause(lane, paused).await
    }
}
