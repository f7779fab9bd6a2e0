//! Messages between the daemon and its children, one JSON object a line on a unix stream socket.
//!
//! The child's end is also its lifeline: end of file means that the daemon is gone, and a worker then drains and ends.

use serde::{Deserialize, Serialize};

use crate::start::{DrainLimit, Start};

/// From the daemon to a child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "kebab-case")]
pub enum ToChild {
    /// Always the first message.
    Start(Box<Start>),
    /// Workers: stop taking, finish what runs within the limit, give the rest back, end.
    Drain {
        /// How long the running jobs may take.
        limit: DrainLimit,
    },
    /// Workers: settings that can change while running (numbers such as concurrency, timeout, tries).
    Tune {
        /// The worker's whole settings, as in [`crate::start::Role::Worker`].
        settings: serde_json::Value,
    },
}

/// From a child to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "kebab-case")]
pub enum FromChild {
    /// Preparation failed; the child ends with 127 right after.
    Failed {
        /// What was being done, e.g. `execute /usr/bin/php`.
        step: String,
        /// The system's number for the error, where there is one.
        errno: Option<i32>,
        /// The error in words.
        error: String,
    },
    /// Worker: an earlier worker of this slot still lives; waiting for it. Recovery: the same, or for a store that is away.
    Waiting {
        /// Its process number; 0 when that is not known, or a store is waited for.
        pid: i32,
    },
    /// Schedule: another host runs this date; the child ends right after, without having executed anything.
    Elsewhere,
    /// Worker: settings read, handlers opened; takes jobs from now on.
    Ready,
    /// Worker: wants to be replaced; the daemon answers with `Drain` when it is this one's turn.
    WantsReplacement {
        /// Which limit was reached.
        because: Recycle,
    },
    /// Worker: how it is doing; sent at changes, at most once a second.
    Report(Report),
    /// Worker: its time is over, so these jobs were told to stop.
    CutOff {
        /// Which; at most [`MOST_JOBS`].
        jobs: Vec<JobRef>,
    },
    /// Recovery: what became of a dead worker's jobs.
    Recovered {
        /// Jobs put back into their queues.
        returned: u32,
        /// Jobs set aside because they crashed their worker too often.
        buried: u32,
        /// Those that were running; at most [`MOST_JOBS`].
        #[serde(default)]
        started: Vec<JobRef>,
    },
}

/// No message names more jobs than this.
pub const MOST_JOBS: usize = 100;

/// Names a job: nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobRef {
    /// Its queue, as the manifest names it.
    pub queue: String,
    /// Its id; a long one is cut.
    pub id: String,
}

/// Why a worker wants to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recycle {
    /// `max-time` has passed.
    MaxTime,
    /// `max-jobs` were handled.
    MaxJobs,
    /// Private memory is above `memory`.
    Memory,
}

impl Recycle {
    /// The manifest key that caused it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::MaxTime => "max-time",
            Self::MaxJobs => "max-jobs",
            Self::Memory => "memory",
        }
    }
}

/// Figures of one worker, counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Report {
    /// Jobs running now.
    pub running: u32,
    /// Deliveries that ended, by outcome.
    pub completed: u64,
    /// Deliveries that will be repeated and count.
    pub retried: u64,
    /// Deliveries that will be repeated and do not count.
    pub snoozed: u64,
    /// Jobs buried.
    pub failed: u64,
    /// Jobs discarded.
    pub discarded: u64,
    /// Jobs given back.
    pub given_back: u64,
    /// Outcomes that came after the job was lost.
    pub late: u64,
    /// `Some(text)` while the worker cannot reach its Redis.
    pub outage: Option<String>,
    /// Endpoints that are not open, with the state in words.
    pub gates: Vec<String>,
    /// Queues of this worker that are paused, by manifest name.
    pub paused: Vec<String>,
}

impl Report {
    /// Deliveries that have ended, whatever was said of them.
    #[must_use]
    pub fn ended(&self) -> u64 {
        [self.completed, self.retried, self.snoozed, self.failed, self.discarded]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}
