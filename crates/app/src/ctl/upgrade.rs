//! `upgrade`: another program in the daemon's place, seen through until that one answers.

use std::time::{Duration, Instant};

use qfleet_api::ClientError;
use qfleet_model::command::{Command, Reply};
use qfleet_model::snapshot::{FleetSnapshot, Upgrade};
use qfleet_model::words::counted;
use qfleet_os::tree::Member;

use super::Asking;
use crate::args;
use crate::exit::Exit;

/// Between two questions whether it is there.
const PAUSE: Duration = Duration::from_millis(50);

/// A daemon that is not back by then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(asking: &Asking, args: args::Upgrade) -> Result<Exit, ClientError> {
    let binary = match args.binary.map(std::path::absolute).transpose() {
        Ok(binary) => binary,
        Err(error) => {
            asking.printer.problem(&format_args!("--binary: {error}"));
            return Ok(Exit::Usage);
        }
    };
    let before: FleetSnapshot = asking.client.get("status").await?;
    match asking.client.post::<Reply>("command", &Command::Upgrade { binary }).await {
        // It may be gone before its answer is read.
        Ok(_) | Err(ClientError::Broken(..)) => {}
        Err(error) => return Err(error),
    }
    let upgrade = outcome(asking, &before).await?;
    let Some(upgrade) = upgrade else {
        asking.printer.problem(&"the daemon does not say what became of it: look at its log");
        return Ok(Exit::Failed);
    };
    if asking.printer.json {
        asking.printer.value(&upgrade);
    }
    match &upgrade.error {
        Some(why) => {
            asking.printer.problem(&format_args!("not upgraded, the running program goes on: {why}"));
        }
        None if asking.printer.json => {}
        None => {
            let Upgrade { from, to, kept, .. } = &upgrade;
            let kept = counted(*kept, "process was", "processes were");
            asking.printer.line(format!("upgraded from {from} to {to}: {kept} kept"));
        }
    }
    Ok(if upgrade.error.is_none() { Exit::Done } else { Exit::Failed })
}

/// Waits until whoever has the daemon's place says what became of an attempt after those that were known before.
async fn outcome(asking: &Asking, before: &FleetSnapshot) -> Result<Option<Upgrade>, ClientError> {
    let number = before.upgrade.as_ref().map_or(0, |upgrade| upgrade.number);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match asking.client.get::<FleetSnapshot>("status").await {
            Ok(FleetSnapshot { upgrade: Some(upgrade), .. }) if upgrade.number > number => {
                return Ok(Some(upgrade));
            }
            Ok(_) | Err(ClientError::Broken(..)) => tokio::time::sleep(PAUSE).await,
            // A program that lost the door does not listen; the old one, put back in its place, opens it again.
            Err(ClientError::NoDaemon(_)) if Member::of(before.pid).is_some() => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
