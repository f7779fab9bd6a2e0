//! What an event makes of a process: the rules of the table in the architecture, state by state. Pairs that change
//! nothing are listed, so that a new event makes the compiler ask.

use std::time::Duration;

use super::{
    Action, Autorestart, Fault, Past, Patience, Pid, ProcessEvent, ProcessKind, ProcessPolicy, ProcessState,
    SIGKILL, Then, WORKER_MARGIN, Wanted, said,
};
use crate::snapshot::Exit;
use crate::start::DrainLimit;
use crate::time::Moment;

/// A process that survives SIGKILL (it hangs in the kernel) gets another one this often.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// A worker that crashes sooner than this after a crash made it start is trouble.
const WORKER_TROUBLE: Duration = Duration::from_secs(10);

/// The same for a program that counts as started.
const PROGRAM_TROUBLE: Duration = Duration::from_secs(1);

/// One that is unhealthy sooner than this after its start is no better than the one before.
const HEALTH_TROUBLE: Duration = Duration::from_secs(300);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

type Step = (ProcessState, Vec<Action>);

impl ProcessState {
    /// What `event` makes of this state at the moment `now`, and what has to be done about it.
    #[must_use]
    pub fn step(self, event: ProcessEvent, policy: &ProcessPolicy, now: Moment) -> (Self, Vec<Action>) {
        let woken = self.due(policy);
        let (state, mut actions) = match self {
            Self::Stopped | Self::Exited { .. } | Self::Fatal { .. } => self.at_rest(&event, policy, now),
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

    fn at_rest(self, event: &ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
        match (event, self) {
            (ProcessEvent::Start | ProcessEvent::Restart(_), _) => spawn(Past::default()),
            (ProcessEvent::Stop(_), Self::Fatal { why, times, .. }) => {
                silent(Self::Fatal { why, since: None, times })
            }
            (ProcessEvent::TimePassed, state) if state.due(policy).is_some_and(|due| due <= now) => {
                state.tried_once_more(policy)
            }
            (event, state) => state.unmoved(event),
        }
    }

    /// Its one more attempt; another failure gives it up again, for longer.
    fn tried_once_more(self, policy: &ProcessPolicy) -> Step {
        match self {
            Self::Fatal { times, .. } => {
                spawn(Past { failed_starts: policy.startretries, crashes: 0, given_up: times })
            }
            other => silent(other),
        }
    }

    /// What changes nothing for a process at rest.
    fn unmoved(self, event: &ProcessEvent) -> Step {
        match event {
            ProcessEvent::GiveUp { why } if matches!(self, Self::Fatal { .. }) => given_up(why),
            ProcessEvent::Start
            | ProcessEvent::GiveUp { .. }
            | ProcessEvent::Restart(_)
            | ProcessEvent::Stop(_)
            | ProcessEvent::Unhealthy { .. }
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Recalled
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Ended { .. }
            | ProcessEvent::TimePassed => silent(self),
        }
    }

    fn starting(mut self, event: ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Starting { pid, since, executed, ready, old_worker, failure, past } = &mut self else {
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
                ProcessKind::Program => {
                    *ready = true;
                    self.rise(policy, now)
                }
            },
            ProcessEvent::Executed => {
                // The link also closes when a child that failed ends.
                *executed = failure.is_none();
                self.rise(policy, now)
            }
            ProcessEvent::TimePassed
                if policy.kind == ProcessKind::Worker
                    && old_worker.is_none()
                    && failure.is_none()
                    && now >= *since + policy.start_wait =>
            {
                self.never_ready(policy)
            }
            ProcessEvent::TimePassed => self.rise(policy, now),
            ProcessEvent::Ended { pid: ended, exit } if ended == *pid => {
                // The timer that would have made it RUNNING may simply not have been looked at yet.
                let was_ready = *ready || policy.ready_within.is_none();
                let was_up =
                    policy.kind == ProcessKind::Program && was_ready && now >= *since + policy.startsecs;
                match failure.take() {
                    None if was_up => after_running(*since, exit, *past, policy, now),
                    None => failed_start(too_early(&exit, policy), *past, policy, now),
                    Some(why) => failed_start(why, *past, policy, now),
                }
            }
            ProcessEvent::Start
            | ProcessEvent::GiveUp { .. }
            | ProcessEvent::Unhealthy { .. }
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Recalled
            | ProcessEvent::Ended { .. } => silent(self),
        }
    }

    /// A worker that hangs before it is ready: what it would do next is not waited for.
    fn never_ready(mut self, policy: &ProcessPolicy) -> Step {
        let Self::Starting { pid, failure, .. } = &mut self else { return silent(self) };
        *failure = Some(format!("not ready after {} s (`start-wait`)", policy.start_wait.as_secs()));
        let action = Action::Send(*pid, SIGKILL);
        (self, vec![action])
    }

    /// A program that was executed, has lived long enough, and is ready where somebody says so, is up. One that is not
    /// ready in time is asked to end, and has failed to start.
    fn rise(self, policy: &ProcessPolicy, now: Moment) -> Step {
        let due = self.due(policy).is_some_and(|due| due <= now);
        match self {
            Self::Starting { pid, since, executed: true, ready, past, .. }
                if due && policy.kind == ProcessKind::Program =>
            {
                match policy.ready_within {
                    Some(within) if !ready => {
                        let why = format!("not ready within {} s", within.as_secs_f64());
                        let fault = Fault { why, was_up: false, spawned: since, past };
                        replace(pid, fault, policy, now)
                    }
                    Some(_) | None => silent(up(pid, since, now, past)),
                }
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
            ProcessEvent::Unhealthy { why } => {
                replace(pid, Fault { why, was_up: true, spawned, past }, policy, now)
            }
            ProcessEvent::Start
            | ProcessEvent::GiveUp { .. }
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Recalled
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Ended { .. }
            | ProcessEvent::TimePassed => silent(self),
        }
    }

    fn stopping(mut self, event: &ProcessEvent, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Stopping { pid, kill_at, then, fault, .. } = &mut self else { return silent(self) };
        match event {
            ProcessEvent::Start => {
                (*then, *fault) = (Then::StartAgain, None);
                silent(self)
            }
            ProcessEvent::Stop(wanted) => self.hurry(*wanted, Then::Stay, policy, now),
            ProcessEvent::Restart(wanted) => self.hurry(*wanted, Then::StartAgain, policy, now),
            ProcessEvent::Ended { pid: ended, .. } if ended == pid => match (then, fault.take()) {
                (Then::Stay, _) => silent(Self::Stopped),
                (Then::StartAgain, None) => spawn(Past::default()),
                (Then::StartAgain, Some(fault)) => after_fault(fault, policy, now),
            },
            ProcessEvent::TimePassed if kill_at.is_some_and(|due| due <= now) => self.kill(now),
            ProcessEvent::TimePassed if self.due(policy).is_some_and(|due| due <= now) => {
                self.ask_again(policy)
            }
            ProcessEvent::GiveUp { .. }
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Recalled
            | ProcessEvent::Waiting { .. }
            | ProcessEvent::Executed
            | ProcessEvent::Failed { .. }
            | ProcessEvent::Ready
            | ProcessEvent::Unhealthy { .. }
            | ProcessEvent::Ended { .. }
            | ProcessEvent::TimePassed => silent(self),
        }
    }

    fn kill(mut self, now: Moment) -> Step {
        let Self::Stopping { pid, kill_at, killed, .. } = &mut self else { return silent(self) };
        (*kill_at, *killed) = (Some(now + KILL_AGAIN), true);
        let action = Action::Send(*pid, SIGKILL);
        (self, vec![action])
    }

    /// The next of its signals.
    fn ask_again(mut self, policy: &ProcessPolicy) -> Step {
        let Self::Stopping { pid, asked_again, .. } = &mut self else { return silent(self) };
        let Some((_, signal)) = policy.stop_again.get(*asked_again) else { return silent(self) };
        *asked_again += 1;
        let action = Action::Send(*pid, *signal);
        (self, vec![action])
    }

    /// Changes what follows the end; a stricter limit replaces the one under way, a milder one does not.
    fn hurry(mut self, wanted: Patience, follows: Then, policy: &ProcessPolicy, now: Moment) -> Step {
        let Self::Stopping { pid, patience, kill_at, killed, then, fault, .. } = &mut self else {
            return silent(self);
        };
        (*then, *fault) = (follows, None);
        if wanted >= *patience || *killed {
            return silent(self);
        }
        match (policy.kind, wanted) {
            // A program was asked already, and all its limits but this one are the same.
            (ProcessKind::Program, Patience::Limited | Patience::JobsOwn) => {
                *patience = wanted;
                silent(self)
            }
            (ProcessKind::Program, Patience::AtOnce) | (ProcessKind::Worker, _) => {
                let (mut state, actions) = ask_to_end(*pid, wanted, follows, policy, now);
                if let (Self::Stopping { kill_at: due @ Some(_), .. }, Some(earlier)) = (&mut state, *kill_at)
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
            ProcessEvent::GiveUp { why } => given_up(why),
            ProcessEvent::TimePassed if until <= now => spawn(past),
            ProcessEvent::TimePassed
            | ProcessEvent::Unhealthy { .. }
            | ProcessEvent::Spawned(_)
            | ProcessEvent::SpawnFailed { .. }
            | ProcessEvent::Recalled
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
                ready: false,
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
        ProcessEvent::GiveUp { why } => given_up(&why),
        ProcessEvent::Recalled => match wanted {
            Wanted::Gone { then: Then::Stay, .. } => silent(ProcessState::Stopped),
            Wanted::Up | Wanted::Gone { then: Then::StartAgain, .. } => spawn(past),
        },
        ProcessEvent::Waiting { .. }
        | ProcessEvent::Unhealthy { .. }
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

fn given_up(why: &str) -> Step {
    silent(ProcessState::Fatal { why: why.to_owned(), since: None, times: 0 })
}

fn spawn(past: Past) -> Step {
    (ProcessState::Spawning { wanted: Wanted::Up, past }, vec![Action::Spawn])
}

const fn up(pid: Pid, spawned: Moment, now: Moment, past: Past) -> ProcessState {
    let past = Past { failed_starts: 0, given_up: 0, ..past };
    ProcessState::Running { pid, spawned, since: now, past }
}

fn ask_to_end(pid: Pid, patience: Patience, then: Then, policy: &ProcessPolicy, now: Moment) -> Step {
    let stopping = |kill_at, killed| ProcessState::Stopping {
        pid,
        patience,
        kill_at,
        killed,
        asked_at: (policy.kind == ProcessKind::Program).then_some(now),
        asked_again: 0,
        then,
        fault: None,
    };
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
        let times = past.given_up.saturating_add(1);
        return silent(ProcessState::Fatal { why, since: Some(now), times });
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
    let past = Past { failed_starts: 0, crashes, given_up: 0 };
    match pause_after(crashes, expected) {
        None => spawn(past),
        Some(pause) => {
            let why = format!("ended again soon after its start, {}", said(&exit));
            silent(ProcessState::Backoff { until: now + pause, why, past })
        }
    }
}

/// Asks a living program to end because of what it does, or does not; what follows is as after a crash.
fn replace(pid: Pid, because: Fault, policy: &ProcessPolicy, now: Moment) -> Step {
    let (mut state, actions) = ask_to_end(pid, Patience::Limited, Then::StartAgain, policy, now);
    if let ProcessState::Stopping { fault, .. } = &mut state {
        *fault = Some(because);
    }
    (state, actions)
}

fn after_fault(fault: Fault, policy: &ProcessPolicy, now: Moment) -> Step {
    let Fault { why, was_up, spawned, past } = fault;
    if !was_up {
        return failed_start(why, past, policy, now);
    }
    let soon = now.since(spawned) < HEALTH_TROUBLE;
    let crashes = if soon { past.crashes.saturating_add(1) } else { 1 };
    let past = Past { failed_starts: 0, crashes, given_up: 0 };
    match pause_after(crashes, false) {
        None => spawn(past),
        Some(pause) => silent(ProcessState::Backoff { until: now + pause, why, past }),
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
        ProcessKind::Program if policy.ready_within.is_some() => {
            format!("ended before it was ready, {}", said(exit))
        }
        ProcessKind::Program => format!("exited too quickly, {}", said(exit)),
    }
}
