//! How many workers a queue or pool should have, from how much work waits for it.
//!
//! The fleet owns a [`Scaler`] for each group whose number follows its backlog. Somebody looks how much waits from time
//! to time; each look is two steps: [`Scaler::note`] works out how many the group needs, [`Scaler::step`] how far the
//! number goes now. Between the two stands the [`budget`] that several groups may share.
//!
//! Up at once, down after a cool-down, both at most `step` at a time, never below `min` or above `max`. What is not known
//! changes nothing, and where more workers would not help there are no more of them; the words for people say so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod budget;
mod scaler;
#[cfg(test)]
mod tests;
mod words;

pub use scaler::{Facts, Scaler};

/// Work that waits for the workers of a group, over all its queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Jobs that could be taken now, those of paused queues left out.
    pub waiting: u64,
    /// None of its queues gives jobs: all are paused.
    pub paused: bool,
}

/// How the number of a group's workers follows its backlog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// What to aim at.
    pub target: Target,
    /// Fewer only after so long a time in which fewer were enough.
    pub cooldown: Duration,
    /// The number changes by no more than this at a time.
    pub step: u32,
    /// Least time between two looks.
    pub every: Duration,
    /// What it shares with other groups.
    pub budget: Option<Budget>,
}

/// What the number of workers aims at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The backlog takes no longer than this.
    Time(Duration),
    /// Each worker process has no more than so many jobs of it.
    Size(u32),
}

/// A number of workers that several groups share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Its name.
    pub name: String,
    /// All of its groups together have no more than this.
    pub max: u32,
}
