//! Six verbs over the queue families, and the store of failed jobs.
//!
//! A [`driver::QueueDriver`] speaks to one connection for all queues ("lanes") that one process serves there, so that a
//! pool of eleven queues costs one command connection and one wake-up connection. The promises behind each verb are
//! written at the trait and held by `tests/contract`. Nothing here decides about retries: drivers act on verdicts.
//! [`agree`] is for what several hosts would do at the same date and one is to do.

use std::sync::Arc;

use qfleet_manifest::queue::{Connection, Lane, NodeRules, RateLimit};
use qfleet_model::job::Format;

use crate::driver::QueueDriver;
use crate::error::QueueError;
use crate::failed::FailedJobs;
pub use crate::laravel::prefix::{FoundPrefix, PrefixSearch, find_prefix};
use crate::node::NodeFailedJobs;
pub use crate::node::inspect::{Oddity, inspect_queue};
use crate::node::queues::Queues;
pub use crate::redis::Links;

pub mod agree;
mod clock;
pub mod driver;
pub mod error;
pub mod failed;
mod fate;
mod laravel;
mod lease;
mod lost;
mod node;
mod per_lane;
mod places;
mod redis;

/// What a driver is opened with.
#[derive(Debug, Clone)]
pub struct OpenSettings {
    /// Where the queues are, and whose they are.
    pub connection: Connection,
    /// The queues served; a [`driver::LaneId`] is a place in this list.
    pub lanes: Vec<LaneQueues>,
    /// Names this worker in what it reserves: random, not zero, 20 bits, another one at each start of a worker. Zero for
    /// commands that reserve nothing.
    pub tag: u32,
}

/// One lane of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneQueues {
    /// Its name in the manifest.
    pub name: String,
    /// Its queues in Redis, most important first.
    pub queues: Vec<String>,
    /// A job's own dispatch delay is its backoff when it has no other (Laravel 12.11 and newer).
    pub delay_as_backoff: bool,
    /// At most so many starts in a time, of each of its queues.
    pub rate_limit: Option<RateLimit>,
    /// What only Bull and BullMQ know.
    pub node: NodeRules,
}

impl From<&Lane> for LaneQueues {
    fn from(lane: &Lane) -> Self {
        Self {
            name: lane.name.clone(),
            queues: lane.queues.clone(),
            delay_as_backoff: lane.tuning.delay_as_backoff,
            rate_limit: lane.rate_limit,
            node: lane.node.clone().unwrap_or_default(),
        }
    }
}

/// Opens the queues of one connection: the only list of drivers. Redis is reached when it is first needed. On a cluster
/// all queues have to lie together ([`Connection::home`]): those that do not are opened apart.
///
/// # Errors
/// [`QueueError::Refused`] when a file named by the settings cannot be read, or queues lie apart.
pub fn open(settings: &OpenSettings) -> Result<Arc<dyn QueueDriver>, QueueError> {
    open_on(&Links::default(), settings)
}

/// The same, by a process that opens several: what does not sleep shares the connections of `links`.
///
/// # Errors
/// As [`open`].
pub fn open_on(links: &Links, settings: &OpenSettings) -> Result<Arc<dyn QueueDriver>, QueueError> {
    let queues = settings.lanes.iter().flat_map(|lane| &lane.queues);
    let connection = located(&settings.connection, queues)?;
    let settings = &OpenSettings { connection, ..settings.clone() };
    let link = links.commands(&settings.connection.redis)?;
    match settings.connection.driver {
        Format::Laravel => Ok(Arc::new(laravel::Laravel::open(settings, link)?)),
        Format::Bullmq => Ok(Arc::new(Queues::open(&node::bullmq::BULLMQ, settings, link)?)),
        Format::Bull => Ok(Arc::new(Queues::open(&node::bull::BULL, settings, link)?)),
    }
}

/// Opens the store of failed jobs in a connection's own Redis (Bull, BullMQ: the failed sets of its queues), which is reached
/// when it is first needed.
///
/// # Errors
/// [`QueueError::Refused`] when a file named by the settings cannot be read.
pub fn open_failed(connection: &Connection) -> Result<Arc<dyn FailedJobs>, QueueError> {
    open_failed_on(&Links::default(), connection)
}

/// The same, sharing the connections of `links` where it can.
///
/// # Errors
/// As [`open_failed`].
pub fn open_failed_on(links: &Links, connection: &Connection) -> Result<Arc<dyn FailedJobs>, QueueError> {
    match connection.driver {
        Format::Laravel if connection.on_cluster() => {
            Ok(Arc::new(failed::spread::SpreadFailedJobs::open(connection)?))
        }
        Format::Laravel => Ok(Arc::new(failed::redis::RedisFailedJobs::open(connection, links)?)),
        Format::Bullmq => Ok(Arc::new(NodeFailedJobs::open(&node::bullmq::BULLMQ, connection))),
        Format::Bull => Ok(Arc::new(NodeFailedJobs::open(&node::bull::BULL, connection))),
    }
}

/// The connection, which on a cluster goes to the node that has these queues.
fn located<'a>(
    connection: &Connection,
    queues: impl IntoIterator<Item = &'a String>,
) -> Result<Connection, QueueError> {
    let queues: Vec<&String> = queues.into_iter().collect();
    connection
        .home(queues.iter().copied())
        .map_err(|scattered| QueueError::Refused(scattered.to_string()))?;
    let mut connection = connection.clone();
    if let Some(first) = queues.first() {
        connection.redis = connection.redis.at(&connection.queue_key(first));
    }
    Ok(connection)
}
