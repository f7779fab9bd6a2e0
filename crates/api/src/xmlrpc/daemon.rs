//! Methods about the daemon itself.

use qfleet_model::command::Command;

use super::Caller;
use super::faults::Fault;
use super::value::Value;

/// While it drains nobody gets this far.
pub(super) fn state() -> Value {
    Value::members([("statecode", 1.into()), ("statename", "RUNNING".into())])
}

/// Begins to drain.
pub(super) async fn shutdown(caller: &Caller<'_>) -> Result<Value, Fault> {
    caller.ask(Command::Shutdown { wait: false }).await?;
    Ok(true.into())
}

/// Begins to drain, if there is a manifest to begin anew with.
pub(super) async fn restart(caller: &Caller<'_>) -> Result<Value, Fault> {
    caller.ask(Command::StartOver).await?;
    Ok(true.into())
}
