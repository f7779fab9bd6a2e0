//! A job, whatever family of queues it came from, and the limits it brings with it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::time::WallTime;

/// The families of queues, as the manifest and the `Job-Format` header name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Laravel's queues, 8 to 13.
    Laravel,
    /// Bull 4.
    Bull,
    /// BullMQ 5 and 6.
    Bullmq,
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Laravel => "laravel",
            Self::Bull => "bull",
            Self::Bullmq => "bullmq",
        })
    }
}

/// One delivery of a job: what a handler gets to see of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The family it came from.
    pub format: Format,
    /// Key prefix of the connection it came from; part of its identity.
    pub prefix: String,
    /// The queue's name in Redis, without prefix.
    pub queue: String,
    /// The id its producer knows it by. Laravel: `uuid`, else `id`; empty when the payload has neither.
    pub id: String,
    /// What the identity is built from. Laravel: `retry_of`, else `uuid`, else `id`. Else the same as `id`.
    pub identity_of: String,
    /// The producer's time stamp as it is written in the payload (Laravel `createdAt`), else empty.
    pub created: String,
    /// When it was created, where known.
    pub created_at: Option<WallTime>,
    /// Laravel: `displayName`, else `job`. Bull, BullMQ: `name`.
    pub name: String,
    /// This attempt, from 1.
    pub attempt: u32,
    /// The payload byte for byte as the producer's side wrote it; never parsed and printed again.
    pub payload: Vec<u8>,
    /// Limits written in the job; they win over the manifest.
    pub limits: JobLimits,
    /// What is remembered of earlier deliveries.
    pub history: History,
    /// W3C trace context the producer put at the payload's top, if any.
    pub traceparent: Option<String>,
    /// Companion of `traceparent`.
    pub tracestate: Option<String>,
    /// Tags of the job (Horizon writes them), at most 20.
    pub tags: Vec<String>,
}

/// Limits a job brings along.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobLimits {
    /// Tries; `Some(0)` is unlimited.
    pub tries: Option<u32>,
    /// Longest run; `Some(ZERO)` is unlimited.
    pub timeout: Option<Duration>,
    /// Pause before the next attempt.
    pub backoff: Option<Backoff>,
    /// A rule for the pause that only the application knows, by name; there is no `backoff` then.
    pub unknown_backoff: Option<String>,
    /// No attempt starts, and no outcome is repeated, after this; switches `tries` off.
    pub retry_until: Option<WallTime>,
    /// A timeout ends the job for good.
    pub fail_on_timeout: bool,
    /// Fail after this many deliveries that ended in `retry`, whatever the tries.
    pub max_exceptions: Option<u32>,
}

/// Counters of a job's earlier deliveries, kept beside it, never inside its payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Deliveries before this one.
    pub deliveries: u32,
    /// Snoozes charged to the job so far.
    pub snoozes: u32,
    /// First delivery, when remembered.
    pub first_delivery: Option<WallTime>,
    /// Crashes so far.
    pub crashes: u32,
    /// Deliveries that ended in `retry` so far.
    pub exceptions: u32,
    /// How the last delivery ended: an HTTP status, an exit code, `timeout`, `crash` or `unreachable`.
    pub previous: Option<String>,
}
