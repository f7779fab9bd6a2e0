//! All one may see of the fleet. Status output, XML-RPC, metrics and dashboard are renderings of this one value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::link::Report;
use crate::time::WallTime;

/// The fleet at one instant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetSnapshot {
    /// Process number of the daemon.
    pub pid: i32,
    /// Its version.
    pub version: String,
    /// When it started, milliseconds since 1970.
    pub started_at: Option<WallTime>,
    /// `true` once draining has begun.
    pub shutting_down: bool,
    /// What the end waits for, in words.
    #[serde(default)]
    pub ending: Option<String>,
    /// What became of the last attempt to put another program in the daemon's place.
    #[serde(default)]
    pub upgrade: Option<Upgrade>,
    /// A manifest that is being read without end, in words.
    #[serde(default)]
    pub reading: Option<String>,
    /// Groups in manifest order.
    pub groups: Vec<GroupView>,
    /// Processes, group by group, by number.
    pub processes: Vec<ProcessView>,
}

/// What became of an attempt to put another program in the daemon's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Counts the attempts in the life of the daemon.
    pub number: u64,
    /// The version before.
    pub from: String,
    /// The version that was to take over.
    pub to: String,
    /// Processes that lived through it.
    pub kept: usize,
    /// When, milliseconds since 1970.
    pub at: WallTime,
    /// Why it did not happen; the old program goes on.
    pub error: Option<String>,
}

/// A queue, pool, program or schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: GroupKind,
    /// Processes wanted now.
    pub numprocs: u32,
    /// Processes the manifest says, when an operator's `scale` says otherwise.
    pub manifest_numprocs: Option<u32>,
    /// A rolling restart under way, in words.
    pub rollout: Option<String>,
    /// Its workers crash again and again, so that one at a time is tried: why, in words.
    #[serde(default)]
    pub crash_loop: Option<String>,
    /// What the number follows; `None`: it is fixed.
    #[serde(default)]
    pub scale: Option<ScaleView>,
}

/// A number of workers that follows their backlog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScaleView {
    /// Never fewer.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// Whom it shares a number with.
    pub budget: Option<String>,
    /// Why there are so many, in words; empty until somebody has looked.
    pub why: String,
}

/// Kinds of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupKind {
    /// Worker processes of one queue.
    Queue,
    /// Worker processes of several queues.
    Pool,
    /// A plain supervised command.
    Program,
    /// A command that runs at its dates.
    Schedule,
}

/// supervisord's words for the state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StateWord {
    /// Not running, by request or never started.
    Stopped,
    /// Asked for, or running and not ready.
    Starting,
    /// Up.
    Running,
    /// Will be tried again after a pause.
    Backoff,
    /// Asked to end.
    Stopping,
    /// Ended by itself.
    Exited,
    /// Given up.
    Fatal,
    /// A signal could not be delivered.
    Unknown,
}

impl StateWord {
    /// The word as it is printed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// supervisord's number for it.
    #[must_use]
    pub const fn code(self) -> i32 {
        match self {
            Self::Stopped => 0,
            Self::Starting => 10,
            Self::Running => 20,
            Self::Backoff => 30,
            Self::Stopping => 40,
            Self::Exited => 100,
            Self::Fatal => 200,
            Self::Unknown => 1000,
        }
    }

    /// Whether `qfleet status` counts it as "not up" (exit code 3).
    #[must_use]
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Stopped | Self::Exited | Self::Fatal | Self::Unknown)
    }
}

/// What keeps a process and all that descends from it together, so that nobody of it outlives its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keeping {
    /// A control group of its own.
    Cgroup,
    /// Its process group, and a look for descendants that have left it.
    #[default]
    Walk,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// Exit code.
    Code(i32),
    /// Killed by a signal, named without `SIG`.
    Signal(String),
}

/// One process slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    /// Full name, `messages:messages_01`.
    pub name: String,
    /// Its group.
    pub group: String,
    /// Its number in the group.
    pub number: u32,
    /// Its state.
    pub state: StateWord,
    /// Its process number while it has one.
    pub pid: Option<i32>,
    /// Last change of state, RFC 3339 UTC in JSON listings.
    pub since: WallTime,
    /// How it ended last.
    pub exit: Option<Exit>,
    /// supervisorctl's third column.
    pub description: String,
    /// What went wrong last, e.g. `exited too quickly`.
    pub error: Option<String>,
    /// Start of the living process.
    pub started_at: Option<WallTime>,
    /// End of the last one.
    pub stopped_at: Option<WallTime>,
    /// Restarts after a crash since the daemon began.
    pub crashes: u32,
    /// Worker figures.
    pub report: Option<Report>,
    /// What keeps its descendants together.
    #[serde(default)]
    pub tree: Keeping,
    /// Schedules: their dates and their last run.
    #[serde(default)]
    pub schedule: Option<ScheduleView>,
}

impl ProcessView {
    /// Whether `qfleet status` counts it as "not up" (exit code 3). A schedule that waits for its time is fine; one that an
    /// operator holds is not, and neither is one whose last run failed.
    #[must_use]
    pub fn is_down(&self) -> bool {
        let failed = |schedule: &ScheduleView| {
            schedule.held || schedule.last.as_ref().is_some_and(|last| last.end.is_failure())
        };
        self.state.is_down() && self.schedule.as_ref().is_none_or(failed)
    }
}

/// What there is to know of a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// Its next date.
    pub next: Option<WallTime>,
    /// Its last run that is over.
    pub last: Option<RunView>,
    /// An operator stopped it; it does not run until somebody starts it.
    pub held: bool,
    /// A date that waits for the end of the run before.
    pub waits: Option<WallTime>,
    /// Dates that were missed since the daemon began.
    pub missed: u64,
    /// Dates that were left out since the daemon began, as the run before was not over.
    pub left_out: u64,
}

/// A run of a schedule that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// The date it was for; `None`: an operator wanted it.
    pub date: Option<WallTime>,
    /// When its process was started, if one was.
    pub began: Option<WallTime>,
    /// When it was over.
    pub ended: WallTime,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub end: RunEnd,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEnd {
    /// By itself.
    Ended {
        /// How.
        exit: Exit,
        /// Its exit code is an expected one.
        expected: bool,
    },
    /// It took longer than its `timeout` and was stopped.
    TimedOut,
    /// It was stopped for the run of a later date.
    Replaced,
    /// Somebody stopped it.
    Stopped,
    /// It could not be started.
    NotStarted {
        /// Why.
        why: String,
    },
    /// Another host has run this date.
    Elsewhere,
}

impl RunEnd {
    /// Whether somebody should look at it.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        match self {
            Self::Ended { expected, .. } => !*expected,
            Self::TimedOut | Self::NotStarted { .. } => true,
            Self::Replaced | Self::Stopped | Self::Elsewhere => false,
        }
    }

    /// In words: `ended with exit code 1`, `timed out`.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::Ended { exit, .. } => format!("ended {}", crate::process::said(exit)),
            Self::TimedOut => String::from("timed out"),
            Self::Replaced => String::from("stopped for the next run"),
            Self::Stopped => String::from("stopped"),
            Self::NotStarted { why } => format!("not started: {why}"),
            Self::Elsewhere => String::from("ran on another host"),
        }
    }
}
