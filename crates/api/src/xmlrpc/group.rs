//! Methods about groups and the manifest: reading it, and bringing single groups into the fleet or out of it.

use qfleet_manifest::diff::{Change, diff};
use qfleet_model::command::Command;

use super::Caller;
use super::faults::Fault;
use super::value::Value;

/// Reads the manifest: names of groups that are new, differ, or are gone, one list inside another.
pub(super) async fn reload(caller: &Caller<'_>) -> Result<Value, Fault> {
    caller.ask(Command::Reread).await?;
    let (active, read) = (caller.dispatch.manifest(), caller.dispatch.last_read());
    let (mut added, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for change in diff(&active.groups, &read.groups) {
        let (list, name) = match &change {
            Change::Added(group) => (&mut added, &group.name),
            Change::Restart { to, .. } | Change::InPlace { to } => (&mut changed, &to.name),
            Change::Removed(name) => (&mut removed, name),
        };
        list.push(Value::from(name.as_str()));
    }
    Ok(Value::List(vec![Value::List([added, changed, removed].map(Value::List).into())]))
}

pub(super) async fn add(caller: &Caller<'_>, name: &str) -> Result<Value, Fault> {
    caller.ask(Command::AddGroup { group: name.to_owned() }).await?;
    Ok(true.into())
}

pub(super) async fn remove(caller: &Caller<'_>, name: &str) -> Result<Value, Fault> {
    caller.ask(Command::RemoveGroup { group: name.to_owned() }).await?;
    Ok(true.into())
}
