//! All one may ask of a running daemon, and what it may answer.
//!
//! Every door (command line, XML-RPC, dashboard) ends here. A [`Refusal`] has a stable code, so each door can translate it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::Selector;

/// A request to the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Start what is stopped; answered when each is up or has failed.
    Start {
        /// Which processes, joined.
        names: Vec<Selector>,
    },
    /// Drain and stop; answered when each is down.
    Stop {
        /// Which processes, joined.
        names: Vec<Selector>,
    },
    /// Stop and start: rolling, or all at once with `now`.
    Restart {
        /// Which processes, joined.
        names: Vec<Selector>,
        /// All at once, limited by `stop-wait`.
        now: bool,
    },
    /// Change how many processes a group has, until a reload changes its `numprocs`.
    Scale {
        /// Queue, pool or program.
        group: String,
        /// New number of processes.
        to: u32,
    },
    /// Send a signal.
    Signal {
        /// Which processes, joined.
        names: Vec<Selector>,
        /// Signal number.
        signal: i32,
    },
    /// Read the manifest again.
    Reload {
        /// Only say what would change.
        dry_run: bool,
        /// Drop the operator's stops and scales.
        reset: bool,
    },
    /// Drain all and end.
    Shutdown,
}

/// What a request did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// One result a process (or a group, for reload), in the order of their names.
    pub results: Vec<ProcessResult>,
}

/// What a request did to one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessResult {
    /// `messages:messages_01`, or a group's name.
    pub name: String,
    /// Whether it is now as asked.
    pub ok: bool,
    /// `started`, `stopped`, `restarted`, `signalled`, `added`, `removed`, `changed`, or what went wrong.
    pub text: String,
}

/// Why a request was not carried out at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Refusal {
    /// Nothing in the fleet has this name.
    NoMatch {
        /// As asked for.
        name: String,
        /// A name that looks like it.
        hint: Option<String>,
    },
    /// A rolling restart of this group is under way.
    RolloutUnderWay {
        /// The group.
        group: String,
    },
    /// The daemon is draining.
    ShuttingDown,
    /// The manifest has problems; nothing was changed.
    BadManifest {
        /// All of them, rendered for reading.
        problems: String,
    },
    /// The request makes no sense, e.g. scaling what cannot be scaled.
    BadRequest {
        /// What is wrong and what to do.
        what: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch { name, hint: Some(hint) } => {
                write!(out, "no process named `{name}`; did you mean `{hint}`?")
            }
            Self::NoMatch { name, hint: None } => {
                write!(out, "no process named `{name}`; `qfleet status` lists them")
            }
            Self::RolloutUnderWay { group } => {
                write!(out, "a rolling restart of `{group}` is under way; try again when it is done")
            }
            Self::ShuttingDown => out.write_str("the daemon is shutting down"),
            Self::BadManifest { problems } => {
                write!(out, "the manifest has problems, nothing was changed:\n{problems}")
            }
            Self::BadRequest { what } => out.write_str(what),
        }
    }
}

impl std::error::Error for Refusal {}
