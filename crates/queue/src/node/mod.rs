//! The queues of Node's libraries, and what both families share: their settings, and how their queues are numbered.

use std::time::Duration;

use crate::LaneQueues;
use crate::driver::LaneId;

pub(crate) mod bull;
pub(crate) mod bullmq;
mod compose;
mod cron;
mod failed;
mod following;
mod held;
pub(crate) mod inspect;
pub(crate) mod keys;
mod library;
mod look;
mod lost;
mod pause;
mod presence;
pub(crate) mod queues;
mod recover;
mod row;
mod settle;
mod turn;

pub(crate) use self::failed::NodeFailedJobs;

/// What a worker of Bull or BullMQ is told about a queue. The default is what the libraries do by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// A lock lasts this long unless it is renewed.
    pub lock_duration: Duration,
    /// Stalled jobs are looked for this often, by one worker of the whole fleet.
    pub stalled_interval: Duration,
    /// A job that stalled more often than this has failed.
    pub max_stalled: u32,
    /// Which completed jobs are kept when the job does not say; `None` is all.
    pub keep_completed: Option<Keep>,
    /// Which failed jobs are kept when the job does not say; `None` is all.
    pub keep_failed: Option<Keep>,
    /// At most so many starts in a time, over all workers with the same limit.
    pub rate_limit: Option<RateLimit>,
    /// Minutes of finished jobs that are counted one by one for dashboards; 0 is off.
    pub metrics: u32,
    /// A major version of the library that is worked although nobody has tested that.
    pub accept_version: Option<u32>,
    /// Workers of several queues open a connection for this one by which the library sees them.
    pub presence: bool,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            lock_duration: Duration::from_secs(30),
            stalled_interval: Duration::from_secs(30),
            max_stalled: 1,
            keep_completed: None,
            keep_failed: None,
            rate_limit: None,
            metrics: 0,
            accept_version: None,
            presence: false,
        }
    }
}

/// Which finished jobs are kept; what neither limit speaks against is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// The newest so many.
    pub count: Option<u64>,
    /// Those not older than this, in whole seconds.
    pub age: Option<Duration>,
}

/// A limit of starts in a fixed window, which begins with its first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Starts in one window.
    pub max: u32,
    /// Length of the window.
    pub per: Duration,
}

/// The lanes of a driver, with numbers for their queues.
#[derive(Debug)]
pub(crate) struct Lanes {
    lanes: Vec<Vec<usize>>,
    queues: Vec<Queue>,
}

/// A queue of a driver, each once.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) settings: NodeSettings,
}

impl Lanes {
    /// From the lanes as they were written. A queue of several lanes follows the first one's settings.
    pub(crate) fn new(written: &[LaneQueues]) -> Self {
        let mut queues: Vec<Queue> = Vec::new();
        let mut number = |name: &String, lane: &LaneQueues| {
            queues.iter().position(|known| known.name == *name).unwrap_or_else(|| {
                queues.push(Queue { name: name.clone(), settings: lane.node.clone() });
                queues.len() - 1
            })
        };
        let lanes =
            written.iter().map(|lane| lane.queues.iter().map(|name| number(name, lane)).collect()).collect();
        Self { lanes, queues }
    }

    /// Every queue, by number.
    pub(crate) fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// The name of a queue in Redis.
    pub(crate) fn name(&self, queue: usize) -> &str {
        self.queues.get(queue).map_or("", |queue| &queue.name)
    }

    /// The lane's queues, most important first.
    pub(crate) fn of(&self, lane: LaneId) -> &[usize] {
        self.lanes.get(usize::from(lane.0)).map_or(&[], Vec::as_slice)
    }

    /// The lanes a queue belongs to.
    pub(crate) fn with(&self, queue: usize) -> impl Iterator<Item = LaneId> + '_ {
        let lanes = self.lanes.iter().enumerate().filter(move |(_, queues)| queues.contains(&queue));
        lanes.filter_map(|(number, _)| u16::try_from(number).ok().map(LaneId))
    }

    /// The queue's place in its lane.
    pub(crate) fn place(&self, lane: LaneId, queue: usize) -> u16 {
        let place = self.of(lane).iter().position(|one| *one == queue);
        place.and_then(|place| u16::try_from(place).ok()).unwrap_or_default()
    }

    /// The shortest lock of any queue.
    pub(crate) fn lock_duration(&self) -> Duration {
        let locks = self.queues.iter().map(|queue| queue.settings.lock_duration);
        locks.min().unwrap_or_else(|| NodeSettings::default().lock_duration).max(Duration::from_millis(1))
    }
}
