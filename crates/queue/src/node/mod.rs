//! The queues of Node's libraries, and what both families share; and how their queues are numbered.

use std::sync::{Mutex, PoisonError};
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
    figures: Mutex<Figures>,
}

/// What is said of a queue; some of it may change while it is worked.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) rules: NodeRules,
    pub(crate) limit: Option<RateLimit>,
}

impl From<&LaneQueues> for Figures {
    fn from(lane: &LaneQueues) -> Self {
        Self { rules: lane.node.clone(), limit: lane.rate_limit }
    }
}

impl Queue {
    /// As they are now.
    pub(crate) fn figures(&self) -> Figures {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long locks last, who shows up and which versions are worked stays as it was when the queue was opened.
    fn tune(&self, new: &Figures) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let NodeRules { lock_duration, accept_version, presence, .. } = figures.rules;
        let rules = NodeRules { lock_duration, accept_version, presence, ..new.rules.clone() };
        *figures = Figures { rules, limit: new.limit };
    }
}

impl Lanes {
    /// From the lanes as they were written. A queue of several lanes follows the first one's settings.
    pub(crate) fn new(written: &[LaneQueues]) -> Self {
        let mut queues: Vec<Queue> = Vec::new();
        let mut number = |name: &String, lane: &LaneQueues| {
            queues.iter().position(|known| known.name == *name).unwrap_or_else(|| {
                queues.push(Queue { name: name.clone(), figures: Mutex::new(lane.into()) });
                queues.len() - 1
            })
        };
        let lanes =
            written.iter().map(|lane| lane.queues.iter().map(|name| number(name, lane)).collect()).collect();
        Self { lanes, queues }
    }

    /// Takes over changed figures of a lane's queues; those of an earlier lane follow that one.
    pub(crate) fn tune(&self, lane: LaneId, settings: &LaneQueues) {
        for number in self.of(lane) {
            if self.with(*number).next() == Some(lane)
                && let Some(queue) = self.queues.get(*number)
            {
                queue.tune(&settings.into());
            }
        }
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
        let locks = self.queues.iter().map(|queue| queue.figures().rules.lock_duration);
        locks.min().unwrap_or_else(|| NodeRules::default().lock_duration).max(Duration::from_millis(1))
    }
}
