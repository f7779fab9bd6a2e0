//! The store of jobs that failed for good, behind one trait so that SQL can stand beside Redis.

use async_trait::async_trait;
use qfleet_model::time::WallTime;
use ring::digest::{SHA256, digest};

use crate::error::QueueError;

pub(crate) mod redis;
pub(crate) mod spread;

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedJob {
    /// The record's id: the job's `uuid`, else its `id`, else a digest of its payload. Writing twice keeps one record.
    pub id: String,
    /// The connection's name as the application knows it (`laravel-name`).
    pub connection: String,
    /// The queue's name in Redis, without prefix.
    pub queue: String,
    /// Job name, as far as readable.
    pub name: String,
    /// The ready string, every byte as the producer wrote it (its `attempts` is one less than the attempts made).
    pub payload: Vec<u8>,
    /// Short stable token for grouping.
    pub class: Option<String>,
    /// Why, in words; first line is the reason, then whatever is known.
    pub reason: String,
    /// When.
    pub failed_at: WallTime,
    /// The payload could not be read as a job; it can be shown and forgotten, and retried once it is mended.
    pub unreadable: bool,
}

/// Where failed jobs are kept.
#[async_trait]
pub trait FailedJobs: Send + Sync + std::fmt::Debug {
    /// Writes a record; a second write of the same id changes nothing but the reason.
    ///
    /// # Errors
    /// Any; the job stays reserved and the caller tries again.
    async fn record(&self, job: &FailedJob) -> Result<(), QueueError>;

    /// Records of a queue (all queues when `None`), newest first.
    ///
    /// # Errors
    /// Any.
    async fn list(&self, queue: Option<&str>, from: u64, count: u64) -> Result<Vec<FailedJob>, QueueError>;

    /// One record.
    ///
    /// # Errors
    /// Any.
    async fn show(&self, id: &str) -> Result<Option<FailedJob>, QueueError>;

    /// Puts the job back into its queue with its attempts at zero and removes the record; `false` when there is none.
    ///
    /// # Errors
    /// Any; the record stays.
    async fn retry(&self, id: &str) -> Result<bool, QueueError>;

    /// Removes a record; `false` when there is none.
    ///
    /// # Errors
    /// Any.
    async fn forget(&self, id: &str) -> Result<bool, QueueError>;

    /// Removes all records of a queue (all queues when `None`) older than `before`; says how many.
    ///
    /// # Errors
    /// Any.
    async fn flush(&self, queue: Option<&str>, before: Option<WallTime>) -> Result<u64, QueueError>;
}

/// Id of a record whose payload names none: a digest of the payload, 32 hexadecimal digits.
#[must_use]
pub fn record_id(payload: &[u8]) -> String {
    digest(&SHA256, payload).as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
