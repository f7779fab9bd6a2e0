//! Commands about processes: status, pid, start, stop, restart, signal, scale, reload, shutdown.

use std::future::Future;
use std::time::Duration;

use qfleet_api::ClientError;
use qfleet_api::protocol::Pid;
use qfleet_model::command::{Command, Reply};
use qfleet_model::name::{ProcessName, Selector};
use qfleet_model::snapshot::{FleetSnapshot, ProcessView};

use super::{Asking, listing, render};
use crate::args;
use crate::exit::Exit;

/// How often a person who waits sees what is under way.
const PROGRESS: Duration = Duration::from_secs(1);

/// `status`.
pub(super) async fn status(asking: &Asking, args: &args::Status) -> Result<Exit, ClientError> {
    let fleet: FleetSnapshot = asking.client.get("status").await?;
    let (chosen, missing) = choose(&fleet, &args.names);
    if asking.printer.json {
        asking
            .printer
            .value(&chosen.iter().map(|process| listing::Process::from(*process)).collect::<Vec<_>>());
    } else {
        asking.printer.text(&render::status(&chosen, asking.printer.paint));
    }
    if !asking.printer.json {
        under_way(&fleet).iter().for_each(|line| asking.printer.note(line));
    }
    for name in &missing {
        asking.printer.problem(&format_args!("{name}: ERROR (no such process)"));
    }
    Ok(match () {
        () if !missing.is_empty() => Exit::Failed,
        () if chosen.iter().any(|process| process.is_down()) => Exit::NotAllUp,
        () => Exit::Done,
    })
}

/// What is going on with whole groups, or with the fleet.
fn under_way(fleet: &FleetSnapshot) -> Vec<String> {
    let rolling = fleet.groups.iter().filter_map(|group| Some((&group.name, group.rollout.as_ref()?)));
    let crashing = fleet.groups.iter().filter_map(|group| Some((&group.name, group.crash_loop.as_ref()?)));
    let crashing = crashing.map(|(name, why)| format!("{name}: {why}; one worker at a time is tried"));
    let ending = fleet.ending.iter().map(|waits| format!("shutting down: {waits}"));
    let rolling = rolling.map(|(name, far)| format!("{name} is being restarted: {far}"));
    rolling.chain(crashing).chain(empty(fleet)).chain(fleet.reading.iter().cloned()).chain(ending).collect()
}

/// Groups of which nothing else is shown.
fn empty(fleet: &FleetSnapshot) -> impl Iterator<Item = String> {
    let is_empty = |name: &str| fleet.processes.iter().all(|process| process.group != name);
    let empty = fleet.groups.iter().filter(move |group| group.numprocs == 0 && is_empty(&group.name));
    empty.filter_map(|group| {
        let usual = group.manifest_numprocs?;
        Some(format!("{} has no processes: scaled to 0, manifest {usual}", group.name))
    })
}

/// `pid`.
pub(super) async fn pid(asking: &Asking, args: &args::Pid) -> Result<Exit, ClientError> {
    if args.names.is_empty() {
        let Pid { pid } = asking.client.get("pid").await?;
        asking.printer.line(pid.to_string());
        return Ok(Exit::Done);
    }
    let fleet: FleetSnapshot = asking.client.get("status").await?;
    let (chosen, missing) = choose(&fleet, &args.names);
    if asking.printer.json {
        let pids: Vec<_> = chosen
            .iter()
            .map(|process| serde_json::json!({"name": process.name, "pid": process.pid}))
            .collect();
        asking.printer.value(&pids);
    } else {
        chosen.iter().for_each(|process| asking.printer.line(process.pid.unwrap_or(0).to_string()));
    }
    for name in &missing {
        asking.printer.problem(&format_args!("no such process `{name}`"));
    }
    let all = missing.is_empty() && chosen.iter().all(|process| process.pid.is_some());
    Ok(if all { Exit::Done } else { Exit::Failed })
}

/// `start`, `stop`, `restart`, `signal`, `reload`: one command, one result a process.
pub(super) async fn command(asking: &Asking, command: Command) -> Result<Exit, ClientError> {
    let Reply { results } = watching(asking, asking.client.post("command", &command)).await?;
    if asking.printer.json {
        asking.printer.value(&results);
    } else {
        asking.printer.text(&render::results(&results, asking.printer.paint));
        match &command {
            Command::Reload { .. } if results.is_empty() => asking.printer.line("nothing has changed"),
            Command::Reload { dry_run: true, .. } => {
                asking.printer.note("nothing was done: this was a dry run");
            }
            _ => {}
        }
    }
    Ok(if results.iter().all(|result| result.ok) { Exit::Done } else { Exit::Failed })
}

/// `scale`: one command a group.
pub(super) async fn scale(asking: &Asking, args: args::Scale) -> Result<Exit, ClientError> {
    let mut results = Vec::new();
    for (group, to) in args.groups {
        let Reply { results: some } =
            watching(asking, asking.client.post("command", &Command::Scale { group, to })).await?;
        if !asking.printer.json {
            asking.printer.text(&render::results(&some, asking.printer.paint));
        }
        results.extend(some);
    }
    if asking.printer.json {
        asking.printer.value(&results);
    }
    Ok(if results.iter().all(|result| result.ok) { Exit::Done } else { Exit::Failed })
}

/// `shutdown`.
pub(super) async fn shutdown(asking: &Asking, args: &args::Shutdown) -> Result<Exit, ClientError> {
    if args.wait {
        return shutdown_and_wait(asking).await;
    }
    match asking.client.post::<Reply>("command", &Command::Shutdown { wait: false }).await {
        Ok(_) => asking.printer.line("shutting down"),
        Err(ClientError::Said(body)) if body.code == "shutting-down" => {
            asking.printer.line("already shutting down");
        }
        // It may be gone before its answer is read.
        Err(ClientError::Broken(..)) => asking.printer.line("shut down"),
        Err(error) => return Err(error),
    }
    Ok(Exit::Done)
}

/// The same until the daemon is gone, with what it waits for, and in the end what was cut off.
async fn shutdown_and_wait(asking: &Asking) -> Result<Exit, ClientError> {
    if !asking.printer.json {
        asking.printer.line("shutting down");
    }
    let command = Command::Shutdown { wait: true };
    let mut answer = std::pin::pin!(asking.client.post::<Reply>("command", &command));
    let mut said = String::new();
    let reply = loop {
        tokio::select! {
            reply = answer.as_mut() => break reply,
            () = tokio::time::sleep(PROGRESS) => say_what_it_waits_for(asking, &mut said).await,
        }
    };
    let results = match reply {
        Ok(Reply { results }) => results,
        // It may be gone before its answer is read.
        Err(ClientError::Broken(..)) => Vec::new(),
        Err(error) => return Err(error),
    };
    gone(asking).await?;
    if asking.printer.json {
        asking.printer.value(&results);
    } else {
        asking.printer.text(&render::results(&results, asking.printer.paint));
        asking.printer.line("shut down");
    }
    Ok(if results.is_empty() { Exit::Done } else { Exit::Failed })
}

/// A line whenever something else is waited for than before.
async fn say_what_it_waits_for(asking: &Asking, said: &mut String) {
    let status = asking.client.get::<FleetSnapshot>("status").await;
    let Ok(FleetSnapshot { ending: Some(ending), .. }) = status else { return };
    // The seconds that are left differ each time.
    let what = ending.split(", ").next().unwrap_or_default();
    if what != said.as_str() && !asking.printer.json {
        asking.printer.line(&ending);
        what.clone_into(said);
    }
}

/// Waits until nobody is at the socket any more.
async fn gone(asking: &Asking) -> Result<(), ClientError> {
    loop {
        match asking.client.get::<Pid>("pid").await {
            Ok(_) | Err(ClientError::Broken(..)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(ClientError::NoDaemon(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Waits for an answer; a person sees what it is that takes so long.
async fn watching<T>(
    asking: &Asking,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    if !asking.printer.watched || asking.printer.json {
        return answer.await;
    }
    let mut answer = std::pin::pin!(answer);
    let mut shown = false;
    loop {
        tokio::select! {
            answer = answer.as_mut() => {
                if shown {
                    asking.printer.progress("");
                }
                return answer;
            }
            () = tokio::time::sleep(PROGRESS) => {
                if let Ok(FleetSnapshot { groups, processes, .. }) = asking.client.get("status").await {
                    asking.printer.progress(&render::progress(&groups, &processes));
                    shown = true;
                }
            }
        }
    }
}

/// The processes with these names (all without any) as they are listed, and the names nothing has.
fn choose<'a>(fleet: &'a FleetSnapshot, names: &'a [Selector]) -> (Vec<&'a ProcessView>, Vec<&'a Selector>) {
    static ALL: [Selector; 1] = [Selector::All];
    let names = if names.is_empty() { &ALL } else { names };
    let chosen = fleet.processes.iter().filter(|process| {
        let name = taken_apart(process);
        names.iter().any(|selector| selector.matches(&name))
    });
    let chosen = chosen.collect();
    let missing = names.iter().filter(|selector| match selector {
        Selector::All => false,
        // A group scaled to nothing has no processes and is still there.
        Selector::Group(group) => !fleet.groups.iter().any(|known| known.name == *group),
        Selector::Process(..) => {
            !fleet.processes.iter().any(|process| selector.matches(&taken_apart(process)))
        }
    });
    (chosen, missing.collect())
}

/// The name of a listed process in its parts.
fn taken_apart(process: &ProcessView) -> ProcessName {
    let own = process.name.split_once(':').map_or(process.name.as_str(), |(_, own)| own);
    ProcessName { group: process.group.clone(), process: own.to_owned(), number: process.number }
}
