//! How a process is described.

use std::time::{SystemTime, UNIX_EPOCH};

use qfleet_model::snapshot::{Exit, ProcessView};
use qfleet_model::time::WallTime;
use qfleet_os::signal;
use qfleet_supervisor::Stream;

use super::Caller;
use super::faults::Fault;
use super::process::{find_one, own_name};
use super::value::Value;

/// All processes, sorted by group and name.
pub(super) fn all(caller: &Caller<'_>) -> Value {
    let mut processes = caller.dispatch.status().processes;
    processes.sort_by(|one, other| (&one.group, own_name(one)).cmp(&(&other.group, own_name(other))));
    Value::List(processes.iter().map(|process| described(caller, process)).collect())
}

/// One process.
pub(super) fn one(caller: &Caller<'_>, name: &str) -> Result<Value, Fault> {
    Ok(described(caller, &find_one(&caller.dispatch.status(), name)?))
}

fn described(caller: &Caller<'_>, process: &ProcessView) -> Value {
    let log = |stream| {
        let file = caller.dispatch.log_file(&process.name, stream);
        file.map(|file| file.display().to_string()).unwrap_or_default()
    };
    let (stdout, stderr) = (log(Stream::Stdout), log(Stream::Stderr));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let (status, ended_by) = match &process.exit {
        None => (0, 0),
        Some(Exit::Code(code)) => (*code, 0),
        Some(Exit::Signal(name)) => (-1, signal::number(name).unwrap_or(0)),
    };
    Value::members([
        ("name", own_name(process).into()),
        ("group", process.group.as_str().into()),
        ("start", seconds(process.started_at)),
        ("stop", seconds(process.stopped_at)),
        ("now", i64::try_from(now).unwrap_or(i64::MAX).into()),
        ("state", process.state.code().into()),
        ("statename", process.state.word().into()),
        ("spawnerr", process.error.clone().unwrap_or_default().into()),
        ("exitstatus", status.into()),
        ("exitsignal", ended_by.into()),
        ("logfile", stdout.as_str().into()),
        ("stdout_logfile", stdout.as_str().into()),
        ("stderr_logfile", stderr.into()),
        ("pid", process.pid.unwrap_or(0).into()),
        ("description", process.description.as_str().into()),
    ])
}

fn seconds(at: Option<WallTime>) -> Value {
    at.map_or(0, |at| at.as_millis() / 1000).into()
}
