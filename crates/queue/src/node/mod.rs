//! The queues of Node's libraries, and what both families share; and how their queues are numbered.

use std::time::Duration;

use qfleet_manifest::queue::{NodeRules, RateLimit};

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
mod options;
mod pause;
mod presence;
pub(crate) mod queues;
mod recover;
mod row;
mod settle;
mod turn;

pub(crate) use self::failed::NodeFailedJobs;

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
    pub(crate) rules: NodeRules,
    pub(crate) limit: Option<RateLimit>,
}

impl Lanes {
    /// From the lanes as they were written. A queue of several lanes follows the first one's settings.
    pub(crate) fn new(written: &[LaneQueues]) -> Self {
        let mut queues: Vec<Queue> = Vec::new();
        let mut number = |name: &String, lane: &LaneQueues| {
            queues.iter().position(|known| known.name == *name).unwrap_or_else(|| {
                queues.push(Queue { name: name.clone(), rules: lane.node.clone(), limit: lane.rate_limit });
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
        let locks = self.queues.iter().map(|queue| queue.rules.lock_duration);
        locks.min().unwrap_or_else(|| NodeRules::default().lock_duration).max(Duration::from_millis(1))
    }
}
