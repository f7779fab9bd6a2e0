//! What threads outside the supervisor's loop have found out and tell it.
//!
//! An observation says how something is, never what changed: a newer one of the same [`Subject`] takes the place of an
//! older one that was not looked at yet. So a fast watcher cannot flood the loop, and nothing is lost by that. Who
//! watches keeps count of what has to be counted.

use crate::notice::Notice;
use crate::process::Pid;
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
    /// What the last probe of a program has found.
    Probed {
        /// The full name of its process.
        process: String,
        /// Which child: another one is another matter.
        pid: Pid,
        /// What was asked.
        question: Question,
        /// Nothing, if it is as it should be.
        trouble: Option<ProbeTrouble>,
    },
    /// What a program has said of itself so far.
    Notified {
        /// Which child.
        pid: Pid,
        /// All of it: what was true once stays.
        notice: Notice,
    },
    /// What a program and its children have in memory for themselves.
    Memory {
        /// The full name of its process.
        process: String,
        /// Which child.
        pid: Pid,
        /// So many bytes.
        bytes: u64,
    },
}

/// What a probe wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// Whether it is ready.
    Ready,
    /// Whether it is healthy.
    Healthy,
}

/// What a probe found instead of what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTrouble {
    /// In words without secrets.
    pub why: String,
    /// So many times in a row.
    pub times: u32,
}

/// What an observation is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The work that waits for the group of this name.
    Backlog(String),
    /// This question about the process of this name.
    Probed(String, Question),
    /// What this child says of itself.
    Notified(Pid),
    /// The memory of the process of this name.
    Memory(String),
}

impl Observation {
    /// What it is about: only the newest of each subject counts.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::Backlog { group, .. } => Subject::Backlog(group.clone()),
            Self::Probed { process, question, .. } => Subject::Probed(process.clone(), *question),
            Self::Notified { pid, .. } => Subject::Notified(*pid),
            Self::Memory { process, .. } => Subject::Memory(process.clone()),
        }
    }
}
