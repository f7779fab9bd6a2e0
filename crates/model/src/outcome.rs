//! What was said of a delivery ([`Outcome`]) and what becomes of the job ([`Verdict`]).
//!
//! Handlers speak in outcomes, drivers act on verdicts, and only [`crate::retry`] connects the two.

use std::time::Duration;

use crate::time::WallTime;

/// Why something ended as it did: a stable token for grouping, and a text for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// Short stable token such as `timeout` or `card_declined`; at most 64 bytes.
    pub class: Option<String>,
    /// Text for people, at most 512 bytes (an error body: 2 KiB).
    pub text: String,
}

impl Reason {
    /// A reason with a class.
    #[must_use]
    pub fn classed(class: &str, text: impl Into<String>) -> Self {
        Self { class: Some(class.to_owned()), text: text.into() }
    }

    /// A reason without one.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { class: None, text: text.into() }
    }
}

/// Whom a snooze is meant for, and so whose budget it is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The job: charged to its snooze budget.
    Job,
    /// The endpoint or the queue: never charged to the job.
    Endpoint,
}

/// When to try again, as the handler put it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// After this long.
    After(Duration),
    /// At this date.
    At(WallTime),
}

/// A handler's result, for the queue families that keep one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// JSON as the handler wrote it.
    Json(Vec<u8>),
    /// Any other text.
    Text(String),
}

/// What was said of one delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done.
    Complete {
        /// What the handler returned.
        result: Option<Output>,
    },
    /// Tried and did not succeed; counts.
    Retry {
        /// When to try again; `None` leaves it to the backoff.
        when: Option<When>,
        /// Never sooner than this (a receiver may still be working on the last delivery).
        at_least: Duration,
        /// Why.
        reason: Reason,
    },
    /// Not now; does not count.
    Snooze {
        /// When to try again.
        when: When,
        /// Whose fault it is.
        scope: Scope,
        /// Why.
        reason: Reason,
    },
    /// Will never succeed.
    Fail {
        /// Why.
        reason: Reason,
    },
    /// Not wanted any more; not an error.
    Discard {
        /// Why.
        reason: Reason,
    },
    /// Ran into its time limit and was ended.
    TimedOut {
        /// Pause the handler kind wants before another delivery (HTTP: the receiver may still be busy).
        at_least: Duration,
    },
    /// The process that worked on it died by a signal that was not ours.
    Crashed {
        /// `class` is `signal_SEGV`, `oom`, …
        reason: Reason,
    },
    /// Ended by our own forced stop.
    Interrupted {
        /// Due again then; `None` is at once (nothing can still be working on it).
        not_before: Option<WallTime>,
    },
    /// Another worker holds the job by now; whatever was said is void.
    Lost,
}

/// What becomes of the job.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Finished.
    Complete {
        /// What the handler returned.
        result: Option<Output>,
    },
    /// Again; the attempt counts.
    Retry {
        /// After this long; zero is as soon as possible.
        after: Duration,
        /// Counters to remember.
        note: Note,
    },
    /// Again; the attempt does not count.
    Snooze {
        /// After this long.
        after: Duration,
        /// Counters to remember.
        note: Note,
    },
    /// To the failed jobs, for good.
    Bury {
        /// Why.
        reason: Reason,
    },
    /// To the bin.
    Discard {
        /// Why.
        reason: Reason,
    },
    /// Back to the take end of the queue as it was found, attempt uncounted: it was not run, or no longer runs.
    GiveBack,
    /// Back as it was found, attempt uncounted, but not before a date: somebody may still be working on it.
    GiveBackAt {
        /// Due again then.
        due: WallTime,
    },
    /// Let go: it is not ours any more.
    Nothing,
}

/// Changes to the counters kept beside a job, written together with the verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    /// Charge one snooze.
    pub snooze: bool,
    /// Count one crash.
    pub crash: bool,
    /// Count one exception.
    pub exception: bool,
    /// How this delivery ended, for `Job-Previous-Status`: a status, exit code, `timeout`, `crash`, `unreachable`.
    pub status: Option<String>,
    /// Why, for the families that keep the reason of every failed attempt.
    pub reason: Option<Reason>,
}
