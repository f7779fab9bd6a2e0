//! The life of one process: states, events, actions, and the one function that connects them.
//!
//! A slot of the fleet is always in one [`ProcessState`]; [`ProcessState::step`] says what an event makes of it and what
//! has to be done; the rules are in `step.rs`. The fleet owns the states, the runtime carries out the actions, and nobody
//! else decides about the life of a process.
//!
//! ```text
//!            start              spawned              ready, or startsecs passed
//!  STOPPED ────────► Spawning ──────────► STARTING ────────────────────────────► RUNNING
//!     ▲               ▲  ▲ │ cannot          │ ended too early          ended │     │ stop,
//!     │ ended      ended │ └──────► BACKOFF ◄┘◄───────── again and again ─────┤     │ restart
//!     │         (restart)└─ pause over ─┘ └─► FATAL        EXITED ◄───────────┘     ▼
//!     └──────────────────────────────────── STOPPING ◄──────────────────────────────┘
//! ```
//!
//! `Spawning` exists because deciding and doing are apart: between them a child has been asked for and has no number
//! yet, so nothing may ask for a second one and a stop has nothing to signal.
//!
//! Programs follow supervisord's rules (`startsecs`, `startretries` with pauses of 1, 2, 3 … s, `exitcodes`,
//! `autorestart`) with one difference: supervisord restarts an exited program without any pause, so one that ends at
//! once with `startsecs: 0` burns a core for ever. Here the second such exit in a row waits: always 1 s after an expected
//! exit code, and 1, 2, 4 … 60 s after another one. Workers are up when they say so; the first crash is followed by a
//! new worker at once, a crash within 10 s of such a start by one after 1, 2, 4 … 60 s.
//!
//! Three more things supervisord does not have. A program may be up only when somebody says that it is ready; one that
//! is not in time has failed to start. One that is up and turns out to be unhealthy is asked to end like any other, and
//! what follows is as after a crash. And what was given up is tried once more after a pause, unless somebody stops it:
//! FATAL is not for ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::snapshot::{Exit, StateWord};
use crate::start::DrainLimit;
use crate::time::Moment;

/// The system's number of a process; also the number of the process group it leads.
pub type Pid = i32;

/// The system's number of a signal.
pub type Signal = i32;

/// The signal that cannot be refused.
pub const SIGKILL: Signal = 9;

/// Workers cut off their jobs themselves; this much later than that they are killed.
pub const WORKER_MARGIN: Duration = Duration::from_secs(5);

/// Exit code of a worker that had to cut off running jobs, and of a daemon that had such a worker.
pub const CUT_OFF: i32 = 75;

/// How a process is to be run; the same for all processes of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessPolicy {
    /// Who says that it is up, and how it is asked to end.
    pub kind: ProcessKind,
    /// Programs: up after living this long; zero: as soon as it is executed.
    pub startsecs: Duration,
    /// Programs: somebody says when it is ready, and has so long to do so. `None`: nobody does.
    #[serde(default)]
    pub ready_within: Option<Duration>,
    /// Failed starts in a row that are followed by another attempt.
    pub startretries: u32,
    /// Pause after which what was given up is tried once more; longer each time. `None`: never.
    #[serde(default)]
    pub retry_fatal: Option<Duration>,
    /// Workers: one that is not ready after this long is killed; waiting for an earlier worker is free.
    pub start_wait: Duration,
    /// Programs: what follows an exit nobody asked for. Workers are always started again.
    pub autorestart: Autorestart,
    /// Programs: exit codes that are expected.
    pub exitcodes: Vec<i32>,
    /// Programs: asks it to end.
    pub stop_signal: Signal,
    /// Programs: asks it again, each so long after it was asked first.
    #[serde(default)]
    pub stop_again: Vec<(Duration, Signal)>,
    /// How long ending may take.
    pub stop_wait: Duration,
    /// Workers: from the end of `stop_wait` until their jobs are surely gone.
    pub kill_after: Duration,
}

/// The two kinds of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessKind {
    /// One of our own workers: says when it is ready, is asked over its link to drain.
    Worker,
    /// Any command: is up after `startsecs`, is asked to end by a signal.
    Program,
}

/// Whether to start a process again that ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Autorestart {
    /// Always.
    Always,
    /// When its exit code is not an expected one.
    Unexpected,
    /// Never.
    Never,
}

/// Where a slot is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessState {
    /// Not running, by request or never started.
    Stopped,
    /// A child was asked for; nobody knows its number yet.
    Spawning {
        /// What to do once it is there.
        wanted: Wanted,
        /// Troubles so far.
        past: Past,
    },
    /// Living, not up yet.
    Starting {
        /// Its number.
        pid: Pid,
        /// When it was spawned.
        since: Moment,
        /// Programs: the command has been executed.
        executed: bool,
        /// Programs: somebody said that it is ready.
        #[serde(default)]
        ready: bool,
        /// Workers: the earlier worker it waits for.
        old_worker: Option<Pid>,
        /// What it said about why it cannot go on; it ends right after.
        failure: Option<String>,
        /// Troubles so far.
        past: Past,
    },
    /// Up.
    Running {
        /// Its number.
        pid: Pid,
        /// When it was spawned.
        spawned: Moment,
        /// When it was up.
        since: Moment,
        /// Troubles so far.
        past: Past,
    },
    /// Asked to end.
    Stopping {
        /// Its number.
        pid: Pid,
        /// How long it may take.
        patience: Patience,
        /// When it is killed; `None` leaves it the time its jobs need.
        kill_at: Option<Moment>,
        /// SIGKILL was sent.
        killed: bool,
        /// Programs: when it was asked first.
        #[serde(default)]
        asked_at: Option<Moment>,
        /// Programs: how often it was asked again.
        #[serde(default)]
        asked_again: usize,
        /// What follows.
        then: Then,
        /// Why it has to be replaced, where that is its own fault: what follows is as after a crash.
        #[serde(default)]
        fault: Option<Fault>,
    },
    /// Tried again after a pause.
    Backoff {
        /// End of the pause.
        until: Moment,
        /// What went wrong.
        why: String,
        /// Troubles so far.
        past: Past,
    },
    /// Ended by itself, and stays so.
    Exited {
        /// How.
        exit: Exit,
        /// Whether that was expected.
        expected: bool,
    },
    /// Given up.
    Fatal {
        /// What went wrong.
        why: String,
        /// When, if it is tried again after a long pause; `None`: somebody stopped it since.
        #[serde(default)]
        since: Option<Moment>,
        /// How often in a row.
        #[serde(default)]
        times: u32,
    },
}

/// Why a living process is replaced, and what there was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// In words.
    pub why: String,
    /// It was up; else its start has failed.
    pub was_up: bool,
    /// When it was spawned.
    pub spawned: Moment,
    /// Troubles so far.
    pub past: Past,
}

/// Troubles in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Starts that failed since it was up last.
    pub failed_starts: u32,
    /// Exits, each soon after the one before.
    pub crashes: u32,
    /// How often it was given up since it was up last.
    #[serde(default)]
    pub given_up: u32,
}

/// What is wanted of a child that is being spawned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// That it lives.
    Up,
    /// That it ends at once: somebody changed their mind.
    Gone {
        /// How long ending may take.
        patience: Patience,
        /// What follows.
        then: Then,
    },
}

/// What follows when a process has ended that was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// It stays stopped.
    Stay,
    /// A new one is started.
    StartAgain,
}

/// How long a process that was asked to end may take; a stricter word replaces a milder one, never the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Patience {
    /// As if `stop-wait` were zero.
    AtOnce,
    /// Up to `stop-wait`.
    Limited,
    /// Workers: as long as the running jobs' own timeouts allow. Programs have no such thing: `stop-wait`.
    JobsOwn,
}

/// What happens to a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It shall run.
    Start,
    /// It shall not run.
    Stop(Patience),
    /// It shall run anew.
    Restart(Patience),
    /// Nobody is to be started for now: it waits, given up. Not for one whose child may be on its way.
    GiveUp {
        /// Why.
        why: String,
    },
    /// The child that was asked for lives.
    Spawned(Pid),
    /// There will be no child.
    SpawnFailed {
        /// Why.
        why: String,
    },
    /// The child that was asked for had not been started yet, and will not be unless it is asked for again.
    Recalled,
    /// The worker waits for an earlier one of this slot.
    Waiting {
        /// The earlier worker.
        pid: Pid,
    },
    /// The program has been executed.
    Executed,
    /// The child could not become what it should; it ends right after.
    Failed {
        /// Why.
        why: String,
    },
    /// The worker takes jobs from now on; the program is ready.
    Ready,
    /// The program is up and does not do what it should.
    Unhealthy {
        /// What it does, or does not.
        why: String,
    },
    /// The child has ended.
    Ended {
        /// Its number.
        pid: Pid,
        /// How.
        exit: Exit,
    },
    /// Time has passed; something may be due.
    TimePassed,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a child; answered by [`ProcessEvent::Spawned`] or [`ProcessEvent::SpawnFailed`].
    Spawn,
    /// Send a signal to the child's process group.
    Send(Pid, Signal),
    /// Tell the worker to drain.
    Drain(Pid, DrainLimit),
    /// Come back with [`ProcessEvent::TimePassed`] then, or a little later.
    WakeAt(Moment),
}

impl ProcessState {
    /// When time alone will change something.
    #[must_use]
    pub fn due(&self, policy: &ProcessPolicy) -> Option<Moment> {
        match self {
            Self::Starting { since, executed: true, ready, .. } if policy.kind == ProcessKind::Program => {
                let wait = match policy.ready_within {
                    Some(within) if !ready => within.max(policy.startsecs),
                    Some(_) | None => policy.startsecs,
                };
                Some(*since + wait)
            }
            Self::Starting { since, old_worker: None, failure: None, .. }
                if policy.kind == ProcessKind::Worker =>
            {
                Some(*since + policy.start_wait)
            }
            Self::Stopping { kill_at, killed: true, .. } => *kill_at,
            Self::Stopping { kill_at, killed: false, asked_at, asked_again, .. } => {
                let next = policy.stop_again.get(*asked_again);
                let next = next.zip(*asked_at).map(|((after, _), asked)| asked + *after);
                next.into_iter().chain(*kill_at).min()
            }
            Self::Fatal { since, times, .. } => Some((*since)? + pause_when_given_up(*times, policy)?),
            Self::Backoff { until, .. } => Some(*until),
            Self::Starting { .. }
            | Self::Stopped
            | Self::Spawning { .. }
            | Self::Running { .. }
            | Self::Exited { .. } => None,
        }
    }

    /// Whatever its patience: a process that was asked to end is killed at this moment at the latest.
    pub fn kill_by(&mut self, latest: Moment) -> Option<Action> {
        match self {
            Self::Stopping { kill_at, killed: false, .. } if kill_at.is_none_or(|at| at > latest) => {
                *kill_at = Some(latest);
                Some(Action::WakeAt(latest))
            }
            Self::Stopping { .. }
            | Self::Stopped
            | Self::Spawning { .. }
            | Self::Starting { .. }
            | Self::Running { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Fatal { .. } => None,
        }
    }

    /// The number of the living child.
    #[must_use]
    pub const fn pid(&self) -> Option<Pid> {
        match self {
            Self::Starting { pid, .. } | Self::Running { pid, .. } | Self::Stopping { pid, .. } => Some(*pid),
            Self::Stopped
            | Self::Spawning { .. }
            | Self::Backoff { .. }
            | Self::Exited { .. }
            | Self::Fatal { .. } => None,
        }
    }

    /// supervisord's word for it.
    #[must_use]
    pub const fn word(&self) -> StateWord {
        match self {
            Self::Stopped => StateWord::Stopped,
            Self::Spawning { .. } | Self::Starting { .. } => StateWord::Starting,
            Self::Running { .. } => StateWord::Running,
            Self::Stopping { .. } => StateWord::Stopping,
            Self::Backoff { .. } => StateWord::Backoff,
            Self::Exited { .. } => StateWord::Exited,
            Self::Fatal { .. } => StateWord::Fatal,
        }
    }

    /// It was asked to end for good and has not yet.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        matches!(
            self,
            Self::Stopping { then: Then::Stay, .. }
                | Self::Spawning { wanted: Wanted::Gone { then: Then::Stay, .. }, .. }
        )
    }

    /// No child lives, and none will for a long time unless somebody asks.
    #[must_use]
    pub const fn is_at_rest(&self) -> bool {
        matches!(self, Self::Stopped | Self::Exited { .. } | Self::Fatal { .. })
    }
}

/// No pause after giving up is longer, unless the first one is.
const LONGEST_FATAL: Duration = Duration::from_secs(3600);

/// How long one that was given up so often in a row is left alone; `None`: for ever.
fn pause_when_given_up(times: u32, policy: &ProcessPolicy) -> Option<Duration> {
    let first = policy.retry_fatal?;
    let doubled = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    Some(first.saturating_mul(doubled).min(LONGEST_FATAL.max(first)))
}

/// How a process ended, in words: `with exit code 1`, `by signal KILL`.
#[must_use]
pub fn said(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("with exit code {code}"),
        Exit::Signal(name) => format!("by signal {name}"),
    }
}

mod step;
#[cfg(test)]
mod tests;
