//! What threads outside the supervisor's loop have found out and tell it.
//!
//! An observation says how something is, never what changed: a newer one of the same [`Subject`] takes the place of an
//! older one that was not looked at yet. So a fast watcher cannot flood the loop, and nothing is lost by that. Who
//! watches keeps count of what has to be counted.

use crate::scale::Backlog;

/// How something outside the fleet is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// How much work waits for a group whose number of workers follows it.
    Backlog {
        /// Queue or pool.
        group: String,
        /// How much; or why that is not known, in words without secrets.
        found: Result<Backlog, String>,
    },
}

/// What an observation is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The work that waits for the group of this name.
    Backlog(String),
}

impl Observation {
    /// What it is about: only the newest of each subject counts.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::Backlog { group, .. } => Subject::Backlog(group.clone()),
        }
    }
}
