//! All one may ask of a running daemon, and what it may answer.
//!
//! Every door (command line, XML-RPC, dashboard) ends here. A [`Refusal`] has a stable code, so each door can translate it.

use std::fmt;
use std::path::PathBuf;

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
        /// Rolling: so many processes of a group at a time; `None`: one.
        #[serde(default)]
        batch: Option<u32>,
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
    /// Read the manifest and change nothing; [`Command::AddGroup`] takes groups from it.
    Reread,
    /// Bring a group into the fleet that is in the manifest as read last.
    AddGroup {
        /// Queue, pool or program.
        group: String,
    },
    /// Drop a group whose processes are all at rest.
    RemoveGroup {
        /// Queue, pool or program.
        group: String,
    },
    /// Write to a program's standard input.
    Input {
        /// The process.
        name: Selector,
        /// What it gets to read.
        text: String,
    },
    /// Drain all and end.
    Shutdown {
        /// Answered at the end, with what was cut off.
        #[serde(default)]
        wait: bool,
    },
    /// Drain all and begin anew in the same process, with the manifest as it is then.
    StartOver,
    /// Put another program in the place of the daemon's own; no process is touched. Answered when it is about to happen.
    Upgrade {
        /// Its file; `None`: the one that the running program was started from.
        #[serde(default)]
        binary: Option<PathBuf>,
    },
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
    /// What went wrong, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

impl ProcessResult {
    /// Done as asked.
    #[must_use]
    pub fn ok(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, text: text.into(), trouble: None }
    }
}

/// Why a process is not as asked, as far as a program may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// What it executes is not there.
    NoFile,
    /// What it executes cannot be executed.
    NotExecutable,
    /// It could not be started, or did not stay up.
    StartFailed,
    /// It ended, was stopped or removed while somebody waited for it to be up.
    Ended,
    /// There is no process to do it to.
    NotRunning,
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
    /// The group that was to be added is in the fleet already.
    AlreadyActive {
        /// The group.
        group: String,
    },
    /// The group that was to be removed has processes that are not at rest.
    StillRunning {
        /// The group.
        group: String,
    },
    /// There is no process to do it to.
    NotRunning {
        /// The process.
        name: String,
    },
    /// The process takes no input: it has closed it, is no program, or does not read what it was sent.
    NoInput {
        /// The process.
        name: String,
        /// Why.
        why: String,
    },
    /// The program that was to take the daemon's place cannot, or not now; nothing was changed.
    NotUpgraded {
        /// Why, maybe in its own words.
        why: String,
    },
    /// Another program takes the daemon's place. What was asked for goes on; its answer would come too late.
    Replaced,
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
            Self::AlreadyActive { group } => write!(out, "`{group}` is in the fleet already"),
            Self::StillRunning { group } => {
                write!(out, "`{group}` has processes that are not at rest; stop it first")
            }
            Self::NotRunning { name } => write!(out, "`{name}` is not running"),
            Self::NoInput { name, why } => write!(out, "`{name}` takes no input: {why}"),
            Self::NotUpgraded { why } => write!(out, "not upgraded, nothing was changed: {why}"),
            Self::Replaced => out.write_str("the daemon is being replaced; what was asked for goes on"),
            Self::BadRequest { what } => out.write_str(what),
        }
    }
}

impl std::error::Error for Refusal {}
