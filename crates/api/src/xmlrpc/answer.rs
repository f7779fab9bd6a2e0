//! A call to its method, with its parameters checked; and the methods about methods.

use super::codec::Call;
use super::faults::{Fault, Kind};
use super::methods::{self, Entry, Kind as Type, Method, TABLE};
use super::value::Value;
use super::{Caller, config, daemon, group, info, logs, process};
use crate::access::Peer;
use crate::dispatch::Dispatch;

/// Calls in one call; a fleet has fewer processes than that.
const MOST_CALLS: usize = 10_000;

/// Results of the calls in one call, in bytes. What comes after is not carried out: a short request could ask for all logs
/// a thousand times, and the daemon shall not run out of memory over it.
const MOST_RESULTS: usize = 16 * 1024 * 1024;

/// Carries out a call. Methods that wait do so here, and nobody else waits for them.
///
/// # Errors
/// A fault, for the caller to read.
pub async fn answer(dispatch: &Dispatch, peer: &Peer, call: &Call) -> Result<Value, Fault> {
    let caller = Caller { dispatch, peer };
    match methods::find(&call.method) {
        Some(entry) if entry.method == Method::Multicall => {
            check(entry, &call.params)?;
            several(&caller, &call.params).await
        }
        _ => one(&caller, &call.method, &call.params).await,
    }
}

/// Each call of a list after the one before it. A result is the bare value, as supervisord's clients expect it, and a
/// failure its fault; both beside others that went well or not.
async fn several(caller: &Caller<'_>, params: &[Value]) -> Result<Value, Fault> {
    let [Value::List(calls)] = params else { return Err(Kind::IncorrectParameters.bare()) };
    if calls.len() > MOST_CALLS {
        return Err(Kind::IncorrectParameters.of(format!("more than {MOST_CALLS} calls in one")));
    }
    let (mut results, mut weight) = (Vec::with_capacity(calls.len()), 0);
    for call in calls {
        let result =
            match (call.member("methodName"), call.member("params")) {
                _ if weight > MOST_RESULTS => Err(Kind::Failed
                    .of("not carried out: the results before it are as much as one answer may hold")),
                (Some(Value::Text(name)), Some(Value::List(params))) => one(caller, name, params).await,
                (Some(Value::Text(name)), None) => one(caller, name, &[]).await,
                _ => Err(Kind::IncorrectParameters.of("a call needs `methodName`, and `params` as a list")),
            };
        let result = result.unwrap_or_else(|fault| fault.value());
        weight += result.weight();
        results.push(result);
    }
    Ok(Value::List(results))
}

async fn one(caller: &Caller<'_>, name: &str, params: &[Value]) -> Result<Value, Fault> {
    let Some(entry) = methods::find(name) else { return Err(Kind::UnknownMethod.of(name)) };
    check(entry, params)?;
    let is_system = name.starts_with("system.");
    if !is_system && entry.method != Method::SendRemoteCommEvent && caller.dispatch.status().shutting_down {
        return Err(Kind::ShutdownState.bare());
    }
    let given = Given(params);
    match entry.method {
        Method::GetApiVersion => Ok("3.0".into()),
        Method::GetSupervisorVersion => Ok(caller.dispatch.version().version.into()),
        Method::GetIdentification => Ok("qfleet".into()),
        Method::GetState => Ok(daemon::state()),
        Method::GetPid => Ok(caller.dispatch.status().pid.into()),
        Method::ReadLog => logs::read_own(caller, given.int(0), given.int(1)),
        Method::ClearLog => logs::clear_own(caller),
        Method::Shutdown => daemon::shutdown(caller).await,
        Method::Restart => daemon::restart(caller).await,
        Method::ReloadConfig => group::reload(caller).await,
        Method::AddProcessGroup => group::add(caller, given.text(0)).await,
        Method::RemoveProcessGroup => group::remove(caller, given.text(0)).await,
        Method::StartProcess => process::start(caller, given.text(0), given.flag(1)).await,
        Method::StartProcessGroup => process::start_group(caller, given.text(0), given.flag(1)).await,
        Method::StartAllProcesses => process::start_all(caller, given.flag(0)).await,
        Method::StopProcess => process::stop(caller, given.text(0), given.flag(1)).await,
        Method::StopProcessGroup => process::stop_group(caller, given.text(0), given.flag(1)).await,
        Method::StopAllProcesses => process::stop_all(caller, given.flag(0)).await,
        Method::SignalProcess => process::signal(caller, given.text(0), given.text(1)).await,
        Method::SignalProcessGroup => process::signal_group(caller, given.text(0), given.text(1)).await,
        Method::SignalAllProcesses => process::signal_all(caller, given.text(0)).await,
        Method::SendProcessStdin => process::input(caller, given.text(0), given.text(1)).await,
        // Nobody listens to events; whoever sends one need not know.
        Method::SendRemoteCommEvent => Ok(true.into()),
        Method::GetProcessInfo => info::one(caller, given.text(0)),
        Method::GetAllProcessInfo => Ok(info::all(caller)),
        Method::GetAllConfigInfo => Ok(config::all(caller)),
        Method::ReadProcessStdoutLog | Method::ReadProcessStderrLog => {
            logs::read(caller, given.text(0), logs::stream(entry.method), given.int(1), given.int(2)).await
        }
        Method::TailProcessStdoutLog | Method::TailProcessStderrLog => {
            logs::tail(caller, given.text(0), logs::stream(entry.method), given.int(1), given.int(2)).await
        }
        Method::ClearProcessLogs => logs::clear(caller, given.text(0)),
        Method::ClearAllProcessLogs => Ok(logs::clear_all(caller)),
        Method::ListMethods => Ok(Value::List(TABLE.iter().map(|entry| entry.name.into()).collect())),
        Method::MethodHelp => about(given.text(0)).map(|entry| entry.help.into()),
        Method::MethodSignature => about(given.text(0)).map(signature),
        Method::Multicall => Err(Kind::IncorrectParameters.of("no several calls inside several calls")),
    }
}

fn about(name: &str) -> Result<&'static Entry, Fault> {
    methods::find(name).ok_or_else(|| Kind::SignatureUnsupported.of(name))
}

fn signature(entry: &Entry) -> Value {
    let types = std::iter::once(&entry.gives).chain(entry.takes);
    Value::List(types.map(|kind| kind.name().into()).collect())
}

/// Whether these are parameters for this method.
fn check(entry: &Entry, params: &[Value]) -> Result<(), Fault> {
    let (least, most) = (entry.takes.len() - entry.optional, entry.takes.len());
    if !(least..=most).contains(&params.len()) {
        let wanted = if least == most { most.to_string() } else { format!("{least} or {most}") };
        let what = format!("{} takes {wanted} parameters, not {}", entry.name, params.len());
        return Err(Kind::IncorrectParameters.of(what));
    }
    for (at, (kind, given)) in entry.takes.iter().zip(params).enumerate() {
        let fits = match kind {
            Type::Text => matches!(given, Value::Text(_)),
            Type::Int => matches!(given, Value::Int(_) | Value::Bool(_)),
            Type::Bool => matches!(given, Value::Bool(_) | Value::Int(_)),
            Type::List => matches!(given, Value::List(_)),
            Type::Struct => matches!(given, Value::Struct(_)),
        };
        if !fits {
            let what = format!("parameter {} of {} must be a {}", at + 1, entry.name, kind.name());
            return Err(Kind::IncorrectParameters.of(what));
        }
    }
    Ok(())
}

/// Parameters that fit.
#[derive(Clone, Copy)]
struct Given<'a>(&'a [Value]);

impl<'a> Given<'a> {
    fn text(self, at: usize) -> &'a str {
        match self.0.get(at) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    fn int(self, at: usize) -> i64 {
        match self.0.get(at) {
            Some(Value::Int(number)) => *number,
            Some(Value::Bool(flag)) => (*flag).into(),
            _ => 0,
        }
    }

    /// Left out, it is set.
    fn flag(self, at: usize) -> bool {
        match self.0.get(at) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::Int(number)) => *number != 0,
            _ => true,
        }
    }
}
