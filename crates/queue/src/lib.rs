//! Six verbs over the queue families, and the store of failed jobs.
//!
//! A [`driver::QueueDriver`] speaks to one connection for all queues ("lanes") that one process serves there, so that a
//! pool of eleven queues costs one command connection and one wake-up connection. The promises behind each verb are
//! written at the trait and held by `tests/contract`. Nothing here decides about retries: drivers act on verdicts.

use std::sync::Arc;

use qfleet_manifest::queue::Connection;
use qfleet_model::job::Format;

use crate::driver::QueueDriver;
use crate::error::QueueError;
use crate::failed::FailedJobs;
pub use crate::laravel::prefix::{FoundPrefix, PrefixSearch, find_prefix};
pub use crate::node::inspect::{Oddity, inspect_queue};
use crate::node::queues::Queues;
pub use crate::node::{Keep, NodeSettings, RateLimit};

mod clock;
pub mod driver;
pub mod error;
pub mod failed;
mod laravel;
mod node;
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
    /// What Bull and BullMQ know; of it the limit of starts holds for Laravel's queues, too.
    pub node: NodeSettings,
}

/// Opens the queues of one connection: the only list of drivers. Redis is reached when it is first needed.
///
/// # Errors
/// [`QueueError::Refused`] when a file named by the settings cannot be read.
pub fn open(settings: &OpenSettings) -> Result<Arc<dyn QueueDriver>, QueueError> {
    match settings.connection.driver {
        Format::Laravel => Ok(Arc::new(laravel::Laravel::open(settings)?)),
        Format::Bullmq => Ok(Arc::new(Queues::open(&node::bullmq::BULLMQ, settings)?)),
        Format::Bull => Ok(Arc::new(Queues::open(&node::bull::BULL, settings)?)),
    }
}

/// Opens the store of failed jobs in a connection's own Redis (BullMQ: the failed sets of its queues), which is reached
/// when it is first needed.
///
/// # Errors
/// [`QueueError::Refused`] when a file named by the settings cannot be read.
pub fn open_failed(connection: &Connection) -> Result<Arc<dyn FailedJobs>, QueueError> {
    match connection.driver {
        Format::Bullmq => Ok(Arc::new(node::bullmq::BullmqFailedJobs::open(connection)?)),
        Format::Laravel | Format::Bull => Ok(Arc::new(failed::redis::RedisFailedJobs::open(connection)?)),
    }
}
