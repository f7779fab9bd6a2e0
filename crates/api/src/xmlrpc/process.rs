//! Methods that start, stop, signal and write to processes.
//!
//! A process is named `group:process`, or by one word when both are the same; `group:*` and `group:` are the whole group.
//! Results about several processes list those that something was done to.

use qfleet_model::command::{Command, ProcessResult};
use qfleet_model::name::Selector;
use qfleet_model::snapshot::{FleetSnapshot, ProcessView, StateWord};
use qfleet_os::signal;

use super::Caller;
use super::faults::{Fault, Kind, SUCCESS};
use super::value::Value;
use crate::dispatch::Failure;

/// What a name means.
#[derive(Debug)]
pub(super) enum Named {
    Group(String),
    Process(Box<ProcessView>),
}

/// The process' own part of its name.
pub(super) fn own_name(process: &ProcessView) -> &str {
    process.name.split_once(':').map_or(process.name.as_str(), |(_, own)| own)
}

/// Finds what a name means.
pub(super) fn find(fleet: &FleetSnapshot, name: &str) -> Result<Named, Fault> {
    let bad_name = || Kind::BadName.of(name);
    let (group, own) = match name.split_once(':') {
        Some((group, "*" | "")) => {
            let known = fleet.groups.iter().any(|known| known.name == group);
            return known.then(|| Named::Group(group.to_owned())).ok_or_else(bad_name);
        }
        Some((group, own)) => (group, own),
        None => (name, name),
    };
    let found = fleet.processes.iter().find(|process| process.group == group && own_name(process) == own);
    found.map(|process| Named::Process(Box::new(process.clone()))).ok_or_else(bad_name)
}

/// Finds one process.
pub(super) fn find_one(fleet: &FleetSnapshot, name: &str) -> Result<ProcessView, Fault> {
    match find(fleet, name)? {
        Named::Process(process) => Ok(*process),
        Named::Group(_) => Err(Kind::BadName.of(name)),
    }
}

fn find_group(fleet: &FleetSnapshot, name: &str) -> Result<String, Fault> {
    let known = fleet.groups.iter().any(|known| known.name == name);
    known.then(|| name.to_owned()).ok_or_else(|| Kind::BadName.of(name))
}

/// Starting, running, or about to be tried again: what a start refuses.
const fn is_up(state: StateWord) -> bool {
    matches!(state, StateWord::Running | StateWord::Starting | StateWord::Backoff)
}

/// What a stop has something to do for. Under supervisord a process that stops cannot be stopped; here it may be about to
/// come back with the next worker, and whoever waits for its end shall see it. A schedule at rest is kept from its next run.
fn can_stop(process: &ProcessView) -> bool {
    let is_due = process.schedule.as_ref().is_some_and(|schedule| !schedule.held);
    is_up(process.state) || matches!(process.state, StateWord::Stopping) || is_due
}

/// Supervisord leaves for good what it has given up; here it is tried again later, and a stop puts an end to that. The
/// answer is the one that its clients know.
fn comes_back(process: &ProcessView) -> bool {
    process.state == StateWord::Fatal
}

const fn can_be_signalled(process: &ProcessView) -> bool {
    matches!(process.state, StateWord::Running | StateWord::Starting | StateWord::Stopping)
}

fn is_down(process: &ProcessView) -> bool {
    !is_up(process.state)
}

fn selector(process: &ProcessView) -> Selector {
    Selector::Process(process.group.clone(), own_name(process).to_owned())
}

pub(super) async fn start(caller: &Caller<'_>, name: &str, wait: bool) -> Result<Value, Fault> {
    let process = match find(&caller.dispatch.status(), name)? {
        Named::Group(group) => return start_group(caller, &group, wait).await,
        Named::Process(process) => process,
    };
    if is_up(process.state) {
        return Err(Kind::AlreadyStarted.of(name));
    }
    let results = caller.carry_out(Command::Start { names: vec![selector(&process)] }, wait).await?;
    results.iter().find_map(Fault::of_result).map_or(Ok(true.into()), Err)
}

pub(super) async fn start_group(caller: &Caller<'_>, name: &str, wait: bool) -> Result<Value, Fault> {
    let group = find_group(&caller.dispatch.status(), name)?;
    let is_schedule = |process: &ProcessView| process.group == group && process.schedule.is_some();
    let one_run = caller.dispatch.status().processes.iter().any(is_schedule);
    let whole = vec![Selector::Group(group.clone())];
    let start = |names| Command::Start { names: if one_run { whole } else { names } };
    caller.several(Some(&group), is_down, start, wait).await
}

/// Whoever starts everything does not mean one run of each schedule: those only go on waiting for their time, and are told
/// of as little as what runs already.
pub(super) async fn start_all(caller: &Caller<'_>, wait: bool) -> Result<Value, Fault> {
    let fleet = caller.dispatch.status();
    if fleet.processes.iter().all(|process| process.schedule.is_none()) {
        return caller.several(None, is_down, |names| Command::Start { names }, wait).await;
    }
    let chosen = caller.chosen(&fleet, None, |process| is_down(process) && process.schedule.is_none());
    let results = caller.carry_out(Command::Start { names: vec![Selector::All] }, wait).await?;
    Ok(told(&chosen, &results))
}

pub(super) async fn stop(caller: &Caller<'_>, name: &str, wait: bool) -> Result<Value, Fault> {
    let process = match find(&caller.dispatch.status(), name)? {
        Named::Group(group) => return stop_group(caller, &group, wait).await,
        Named::Process(process) => process,
    };
    let command = Command::Stop { names: vec![selector(&process)] };
    if !can_stop(&process) {
        if comes_back(&process) {
            caller.ask(command).await?;
        }
        return Err(Kind::NotRunning.of(name));
    }
    let results = caller.carry_out(command, wait).await?;
    results.iter().find_map(Fault::of_result).map_or(Ok(true.into()), Err)
}

pub(super) async fn stop_group(caller: &Caller<'_>, name: &str, wait: bool) -> Result<Value, Fault> {
    let group = find_group(&caller.dispatch.status(), name)?;
    stop_several(caller, Some(&group), wait).await
}

pub(super) async fn stop_all(caller: &Caller<'_>, wait: bool) -> Result<Value, Fault> {
    stop_several(caller, None, wait).await
}

async fn stop_several(caller: &Caller<'_>, group: Option<&str>, wait: bool) -> Result<Value, Fault> {
    let fleet = caller.dispatch.status();
    let mut chosen = caller.chosen(&fleet, group, |process| can_stop(process) || comes_back(process));
    if chosen.is_empty() {
        return Ok(Value::List(Vec::new()));
    }
    let names = chosen.iter().map(|process| selector(process)).collect();
    let results = caller.carry_out(Command::Stop { names }, wait).await?;
    chosen.retain(|process| can_stop(process));
    Ok(told(&chosen, &results))
}

pub(super) async fn signal(caller: &Caller<'_>, name: &str, word: &str) -> Result<Value, Fault> {
    let process = match find(&caller.dispatch.status(), name)? {
        Named::Group(group) => return signal_group(caller, &group, word).await,
        Named::Process(process) => process,
    };
    let signal = number(word)?;
    if !can_be_signalled(&process) {
        return Err(Kind::NotRunning.of(name));
    }
    let command = Command::Signal { names: vec![selector(&process)], signal };
    let results = caller.carry_out(command, true).await?;
    results.iter().find_map(Fault::of_result).map_or(Ok(true.into()), Err)
}

pub(super) async fn signal_group(caller: &Caller<'_>, name: &str, word: &str) -> Result<Value, Fault> {
    let group = find_group(&caller.dispatch.status(), name)?;
    signal_several(caller, Some(&group), word).await
}

pub(super) async fn signal_all(caller: &Caller<'_>, word: &str) -> Result<Value, Fault> {
    signal_several(caller, None, word).await
}

/// A signal that there is not is told of each process: a fault about all of them would end `supervisorctl signal X all`.
async fn signal_several(caller: &Caller<'_>, group: Option<&str>, word: &str) -> Result<Value, Fault> {
    match number(word) {
        Ok(signal) => {
            caller.several(group, can_be_signalled, |names| Command::Signal { names, signal }, true).await
        }
        Err(fault) => {
            let fleet = caller.dispatch.status();
            let chosen = caller.chosen(&fleet, group, can_be_signalled);
            Ok(Value::List(chosen.into_iter().map(|process| result(process, Some(fault.clone()))).collect()))
        }
    }
}

/// A signal by name or number; 0 only asks whether there is anybody.
fn number(word: &str) -> Result<i32, Fault> {
    let number = if word.trim() == "0" { Some(0) } else { signal::number(word.trim()) };
    number.ok_or_else(|| Kind::BadSignal.of(word))
}

pub(super) async fn input(caller: &Caller<'_>, name: &str, text: &str) -> Result<Value, Fault> {
    let process = find_one(&caller.dispatch.status(), name)?;
    if process.pid.is_none() || process.state == StateWord::Stopping {
        return Err(Kind::NotRunning.of(name));
    }
    caller.ask(Command::Input { name: selector(&process), text: text.to_owned() }).await?;
    Ok(true.into())
}

impl Caller<'_> {
    /// Has the fleet do something; waits until it is done.
    pub(super) async fn ask(&self, command: Command) -> Result<Vec<ProcessResult>, Fault> {
        self.carry_out(command, true).await
    }

    /// The same, or without waiting for it.
    async fn carry_out(&self, command: Command, wait: bool) -> Result<Vec<ProcessResult>, Fault> {
        let fault = |failure| match failure {
            Failure::Refused(refusal) => Fault::from(refusal),
            other => Kind::Failed.of(other.to_string()),
        };
        if wait {
            return Ok(self.dispatch.command(self.peer, command).await.map_err(fault)?.results);
        }
        self.dispatch.begin(self.peer, command).await.map_err(fault)?;
        Ok(Vec::new())
    }

    /// Those processes of a group, or of all, that are in a fitting state; in the order of their priority, as supervisord
    /// lists them.
    pub(super) fn chosen<'f>(
        &self,
        fleet: &'f FleetSnapshot,
        group: Option<&str>,
        fits: impl Fn(&ProcessView) -> bool,
    ) -> Vec<&'f ProcessView> {
        let manifest = self.dispatch.manifest();
        let of_group = |process: &&ProcessView| group.is_none_or(|group| process.group == group);
        let fitting = fleet.processes.iter().filter(of_group).filter(|process| fits(process));
        let mut chosen: Vec<&ProcessView> = fitting.collect();
        chosen.sort_by_cached_key(|process| manifest.group(&process.group).map(|it| it.process.priority));
        chosen
    }

    /// Has the fleet do something with those processes of a group, or of all, that are in a fitting state.
    async fn several(
        &self,
        group: Option<&str>,
        fits: impl Fn(&ProcessView) -> bool,
        command: impl FnOnce(Vec<Selector>) -> Command,
        wait: bool,
    ) -> Result<Value, Fault> {
        let fleet = self.dispatch.status();
        let chosen = self.chosen(&fleet, group, fits);
        if chosen.is_empty() {
            return Ok(Value::List(Vec::new()));
        }
        let names = chosen.iter().map(|process| selector(process)).collect();
        let results = self.carry_out(command(names), wait).await?;
        Ok(told(&chosen, &results))
    }
}

/// What became of each of these.
fn told(chosen: &[&ProcessView], results: &[ProcessResult]) -> Value {
    let fault = |name| results.iter().find(|result| result.name == name).and_then(Fault::of_result);
    Value::List(chosen.iter().map(|process| result(process, fault(process.name.as_str()))).collect())
}

/// What became of one process, in a list of several.
pub(super) fn result(process: &ProcessView, fault: Option<Fault>) -> Value {
    let (status, description) = match fault {
        None => (SUCCESS, "OK".to_owned()),
        Some(fault) => (fault.code(), fault.to_string()),
    };
    Value::members([
        ("name", own_name(process).into()),
        ("group", process.group.as_str().into()),
        ("status", status.into()),
        ("description", description.into()),
    ])
}
