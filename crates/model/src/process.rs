//! The life of one process: states, events, actions, and the one function that connects them.
//!
//! A slot of the fleet is always in one [`ProcessState`]; [`ProcessState::step`] says what an event makes of it and what
//! has to be done. The fleet owns the states, the runtime carries out the actions, and nobody else decides about the
//! life of a process.
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

/// Exit code of a worker that had to cut off running jobs, and of a daemon that had such a worker.
pub const CUT_OFF: i32 = 75;

/// Workers cut off their jobs themselves; this much later than that they are killed.
const WORKER_MARGIN: Duration = Duration::from_secs(5);

/// A process that survives SIGKILL (it hangs in the kernel) gets another one this often.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// A worker that crashes sooner than this after a crash made it start is trouble.
const WORKER_TROUBLE: Duration = Duration::from_secs(10);

/// The same for a program that counts as started.
const PROGRAM_TROUBLE: Duration = Duration::from_secs(1);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How a process is to be run; the same for all processes of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessPolicy {
    /// Who says that it is up, and how it is asked to end.
    pub kind: ProcessKind,
    /// Programs: up after living this long; zero: as soon as it is executed.
    pub startsecs: Duration,
    /// Failed starts in a row that are followed by another attempt.
    pub startretries: u32,
    /// Programs: what follows an exit nobody asked for. Workers are always started again.
    pub autorestart: Autorestart,
    /// Programs: exit codes that are expected.
    pub exitcodes: Vec<i32>,
    /// Programs: asks it to end.
    pub stop_signal: Signal,
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
        /// What follows.
        then: Then,
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
    },
}

/// Troubles in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Starts that failed since it was up last.
    pub failed_starts: u32,
    /// Exits, each soon after the one before.
    pub crashes: u32,
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
    /// The child that was asked for lives.
    Spawned(Pid),
    /// There will be no child.
    SpawnFailed {
        /// Why.
        why: String,
    },
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
    /// The worker takes jobs from now on.
    Ready,
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

type Step = (ProcessState, Vec<Action>);

impl ProcessState {
    /// What `event` makes of this state at the moment `now`, and what has to be done about it.
    #[must_use]
    pub fn step(self, event: ProcessEvent, policy: &ProcessPolicy, now: Moment) -> (Self, Vec<Action>) {
        let woken = self.due(policy);
        let (state, mut actions) = match self {
            Self::Stopped | Self::Exited { .. } | Self::Fatal { .. } => self.at_rest(&event),
            Self::Spawning { wanted, past } => spawning(wanted, past, event, policy, now),
            Self::Starting { .. } => self.starting(event, policy, now),
            Self::Running { .. } => self.running(event, policy, now),
            Self::Stopping { .. } => self.stopping(&event, policy, now),
            Self::Backoff { .. } => self.pausing(&event, now),
        };
        if let Some(due) = state.due(policy)
            && woken != Some(due)
        {
            actions.push(Action::WakeAt(due));
        }
        (state, actions)
    }

    /// When time alone will change something.
    #[must_use]
    pub fn due(&self, policy: &ProcessPolicy) -> Option<Moment> {
        match self {
            Self::Starting { since, executed: true, .. } if policy.kind == ProcessKind::Program => {
                Some(*since + policy.startsecs)
            }
            Self::Stopping { kill_at, .. } => *kill_at,
            Self::Backoff { until, .. } => Some(*until),
            Self::Starting { .. }
            | Self::Stopped
            | Self::Spawning { .. }
            | Self::Running { .. }
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

    /// No child lives, and none will without somebody asking.
    #[must_use]
    pub const fn is_at_rest(&self) -> bool {
        matches!(self, Self::Stopped | Self::Exited { .. } | Self::Fatal { .. })
    }

    fn at_rest(self, event: &ProcessEvent) -> Step {
        match event {
            ProcessEvent::Start | ProcessEvent::Restart(_) => spawn(Past::default()),
            ProcessEvent::Stop(_)
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Ended { .. }
            | ProcessEvent::TimePassed => silent(self),
        }
    }

    fn starting(mut self, event: ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Starting { pid, since, executed, old_worker, failure, past } = &mut self else {
            return silent(self);
        };
        match event {
            ProcessEvent::Stop(patience) => ask_to_end(*pid, patience, Then::Stay, policy, now),
            ProcessEvent::Restart(patience) => ask_to_end(*pid, patience, Then::StartAgain, policy, now),
            ProcessEvent::Waiting { pid: earlier } => {
                *old_worker = Some(earlier);
                silent(self)
            }
            ProcessEvent::Failed { why } => {
                *failure = Some(why);
                silent(self)
            }
            ProcessEvent::Ready => match policy.kind {
                ProcessKind::Worker => silent(up(*pid, *since, now, *past)),
                ProcessKind::Program => silent(self),
            },
            ProcessEvent::Executed => {
                // The link also closes when a child that failed ends.
                *executed = failure.is_none();
                self.rise(policy, now)
            }
            ProcessEvent::TimePassed => self.rise(policy, now),
            ProcessEvent::Ended { pid: ended, exit } if ended == *pid => {
                // The timer that would have made it RUNNING may simply not have been looked at yet.
                let was_up = policy.kind == ProcessKind::Program && now >= *since + policy.startsecs;
                match failure.take() {
                    None if was_up => after_running(*since, exit, *past, policy, now),
                    None => failed_start(too_early(&exit, policy), *past, policy, now),
                    Some(why) => failed_start(why, *past, policy, now),
                }
            }
            ProcessEvent::Start
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Ended { .. } => silent(self),
        }
    }

    /// A program that was executed and has lived long enough is up.
    fn rise(self, policy: &ProcessPolicy, now: Moment) -> Step {
        match self {
            Self::Starting { pid, since, executed: true, past, .. }
                if policy.kind == ProcessKind::Program && now >= since + policy.startsecs =>
            {
                silent(up(pid, since, now, past))
            }
            other => silent(other),
        }
    }

    fn running(self, event: ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Running { pid, spawned, past, .. } = self else { return silent(self) };
        match event {
            ProcessEvent::Stop(patience) => ask_to_end(pid, patience, Then::Stay, policy, now),
            ProcessEvent::Restart(patience) => ask_to_end(pid, patience, Then::StartAgain, policy, now),
            ProcessEvent::Ended { pid: ended, exit } if ended == pid => {
                after_running(spawned, exit, past, policy, now)
            }
            ProcessEvent::Start
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Ended { .. }
            | ProcessEvent::TimePassed => silent(self),
        }
    }

    fn stopping(self, event: &ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Stopping { pid, patience, kill_at, killed, then } = self else { return silent(self) };
        match event {
            ProcessEvent::Start => {
                silent(Self::Stopping { pid, patience, kill_at, killed, then: Then::StartAgain })
            }
            ProcessEvent::Stop(wanted) => self.hurry(*wanted, Then::Stay, policy, now),
            ProcessEvent::Restart(wanted) => self.hurry(*wanted, Then::StartAgain, policy, now),
            ProcessEvent::Ended { pid: ended, .. } if *ended == pid => match then {
                Then::Stay => silent(Self::Stopped),
                Then::StartAgain => spawn(Past::default()),
            },
            ProcessEvent::TimePassed if kill_at.is_some_and(|due| due <= now) => (
                Self::Stopping { pid, patience, kill_at: Some(now + KILL_AGAIN), killed: true, then },
                vec![Action::Send(pid, SIGKILL)],
            ),
            ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Ended { .. }
            | ProcessEvent::TimePassed => silent(self),
        }
    }

    /// Changes what follows the end; a stricter limit replaces the one under way, a milder one does not.
    fn hurry(self, wanted: Patience, then: Then, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Stopping { pid, patience, kill_at, killed, .. } = self else { return silent(self) };
        if wanted >= patience || killed {
            return silent(Self::Stopping { pid, patience, kill_at, killed, then });
        }
        match (policy.kind, wanted) {
            // A program was asked already, and all its limits but this one are the same.
            (ProcessKind::Program, Patience::Limited | Patience::JobsOwn) => {
                silent(Self::Stopping { pid, patience: wanted, kill_at, killed, then })
            }
            (ProcessKind::Program, Patience::AtOnce) | (ProcessKind::Worker, _) => {
                let (mut state, actions) = ask_to_end(pid, wanted, then, policy, now);
                if let (Self::Stopping { kill_at: due @ Some(_), .. }, Some(earlier)) = (&mut state, kill_at)
                {
                    *due = (*due).min(Some(earlier));
                }
                (state, actions)
            }
        }
    }

    fn pausing(self, event: &ProcessEvent, now: Moment) -> Step {
        let Self::Backoff { until, past, .. } = self else { return silent(self) };
        match event {
            ProcessEvent::Start | ProcessEvent::Restart(_) => spawn(Past::default()),
            ProcessEvent::Stop(_) => silent(Self::Stopped),
            ProcessEvent::TimePassed if until <= now => spawn(past),
            ProcessEvent::TimePassed
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Ended { .. } => silent(self),
        }
    }
}

fn spawning(wanted: Wanted, past: Past, event: ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
    let changed = |wanted| silent(ProcessState::Spawning { wanted, past });
    match event {
        ProcessEvent::Start => changed(match wanted {
            Wanted::Up => Wanted::Up,
            Wanted::Gone { patience, .. } => Wanted::Gone { patience, then: Then::StartAgain },
        }),
        ProcessEvent::Stop(patience) => changed(wanted.gone(patience, Then::Stay)),
        ProcessEvent::Restart(patience) => changed(wanted.gone(patience, Then::StartAgain)),
        ProcessEvent::Spawned(pid) => match wanted {
            Wanted::Up => silent(ProcessState::Starting {
                pid,
                since: now,
                executed: false,
                old_worker: None,
                failure: None,
                past,
            }),
            Wanted::Gone { patience, then } => ask_to_end(pid, patience, then, policy, now),
        },
        ProcessEvent::SpawnFailed { why } => match wanted {
            Wanted::Up => failed_start(why, past, policy, now),
            Wanted::Gone { then: Then::Stay, .. } => silent(ProcessState::Stopped),
            Wanted::Gone { then: Then::StartAgain, .. } => failed_start(why, past, policy, now),
        },
        ProcessEvent::Waiting { .. }
        | ProcessEvent::Executed
        | ProcessEvent::Failed { .. }
        | ProcessEvent::Ready
        | ProcessEvent::Ended { .. }
        | ProcessEvent::TimePassed => changed(wanted),
    }
}

impl Wanted {
    fn gone(self, wanted: Patience, then: Then) -> Self {
        match self {
            Self::Up => Self::Gone { patience: wanted, then },
            Self::Gone { patience, .. } => Self::Gone { patience: patience.min(wanted), then },
        }
    }
}

/// The state as it is now, and nothing to do.
fn silent(state: ProcessState) -> Step {
    (state, Vec::new())
}

fn spawn(past: Past) -> Step {
    (ProcessState::Spawning { wanted: Wanted::Up, past }, vec![Action::Spawn])
}

const fn up(pid: Pid, spawned: Moment, now: Moment, past: Past) -> ProcessState {
    let past = Past { failed_starts: 0, crashes: past.crashes };
    ProcessState::Running { pid, spawned, since: now, past }
}

fn ask_to_end(pid: Pid, patience: Patience, then: Then, policy: &ProcessPolicy, now: Moment) -> Step {
    let stopping = |kill_at, killed| ProcessState::Stopping { pid, patience, kill_at, killed, then };
    match (policy.kind, patience) {
        (ProcessKind::Worker, Patience::JobsOwn) => {
            (stopping(None, false), vec![Action::Drain(pid, DrainLimit::JobsOwn)])
        }
        (ProcessKind::Worker, Patience::Limited | Patience::AtOnce) => {
            let limit = if patience == Patience::Limited { policy.stop_wait } else { Duration::ZERO };
            let kill_at = now + limit.saturating_add(policy.kill_after).saturating_add(WORKER_MARGIN);
            (stopping(Some(kill_at), false), vec![Action::Drain(pid, DrainLimit::AtMost(limit))])
        }
        (ProcessKind::Program, Patience::JobsOwn | Patience::Limited) => {
            (stopping(Some(now + policy.stop_wait), false), vec![Action::Send(pid, policy.stop_signal)])
        }
        (ProcessKind::Program, Patience::AtOnce) => {
            (stopping(Some(now + KILL_AGAIN), true), vec![Action::Send(pid, SIGKILL)])
        }
    }
}

fn failed_start(why: String, past: Past, policy: &ProcessPolicy, now: Moment) -> Step {
    let failed = past.failed_starts.saturating_add(1);
    if failed > policy.startretries {
        return silent(ProcessState::Fatal { why });
    }
    let until = now + Duration::from_secs(u64::from(failed)).min(LONGEST_PAUSE);
    silent(ProcessState::Backoff { until, why, past: Past { failed_starts: failed, ..past } })
}

fn after_running(spawned: Moment, exit: Exit, past: Past, policy: &ProcessPolicy, now: Moment) -> Step {
    let (again, expected, trouble) = match policy.kind {
        ProcessKind::Worker => (true, false, WORKER_TROUBLE),
        ProcessKind::Program => {
            let expected = matches!(exit, Exit::Code(code) if policy.exitcodes.contains(&code));
            let again = match policy.autorestart {
                Autorestart::Always => true,
                Autorestart::Unexpected => !expected,
                Autorestart::Never => false,
            };
            (again, expected, PROGRAM_TROUBLE)
        }
    };
    if !again {
        return silent(ProcessState::Exited { exit, expected });
    }
    let soon = now.since(spawned) < trouble;
    let crashes = if soon { past.crashes.saturating_add(1) } else { 1 };
    let past = Past { failed_starts: 0, crashes };
    match pause_after(crashes, expected) {
        None => spawn(past),
        Some(pause) => {
            let why = format!("ended again soon after its start, {}", said(&exit));
            silent(ProcessState::Backoff { until: now + pause, why, past })
        }
    }
}

/// The pause after so many exits in a row, each soon after the one before.
fn pause_after(crashes: u32, expected: bool) -> Option<Duration> {
    let doublings = crashes.checked_sub(2)?;
    let seconds = if expected { 1 } else { 1_u64.checked_shl(doublings).unwrap_or(u64::MAX) };
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

fn too_early(exit: &Exit, policy: &ProcessPolicy) -> String {
    match policy.kind {
        ProcessKind::Worker => format!("ended before it was ready, {}", said(exit)),
        ProcessKind::Program => format!("exited too quickly, {}", said(exit)),
    }
}

/// How a process ended, in words: `with exit code 1`, `by signal KILL`.
#[must_use]
pub fn said(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("with exit code {code}"),
        Exit::Signal(name) => format!("by signal {name}"),
    }
}

#[cfg(test)]
mod tests;
