//! `failed`: jobs that failed for good.

use qfleet_api::ClientError;
use qfleet_api::protocol::{FailedDetail, FailedList, Flush, Flushed, Results, Which};
use qfleet_api::socket::client::part;

use super::{Asking, listing, render};
use crate::args::{self, Failed, FailedAction};
use crate::exit::Exit;

pub(super) async fn run(asking: &Asking, args: Failed) -> Result<Exit, ClientError> {
    match args.action {
        None => list(asking, &args.list).await,
        Some(FailedAction::List(args)) => list(asking, &args).await,
        Some(FailedAction::Show(args)) => show(asking, &args.id).await,
        Some(FailedAction::Retry(args)) => {
            let all = args.ids.iter().any(|id| id == "all");
            let ids = if all { Vec::new() } else { args.ids };
            each(asking, "failed/retry", &Which { ids, queue: args.queue, all }).await
        }
        Some(FailedAction::Forget(args)) => {
            each(asking, "failed/forget", &Which { ids: args.ids, ..Which::default() }).await
        }
        Some(FailedAction::Flush(args)) => {
            flush(asking, &Flush { queue: args.queue, older_than_hours: args.hours }).await
        }
        Some(FailedAction::Prune(args)) => {
            flush(asking, &Flush { queue: args.queue, older_than_hours: Some(args.hours) }).await
        }
    }
}

async fn list(asking: &Asking, args: &args::FailedList) -> Result<Exit, ClientError> {
    let queue = args.queue.as_ref().map_or_else(String::new, |queue| format!("&queue={}", part(queue)));
    let resource = format!("failed?from={}&limit={}{queue}", args.from, args.limit);
    let FailedList { failed, problems } = asking.client.get(&resource).await?;
    if asking.printer.json {
        asking.printer.value(&listing::list::<_, listing::Failed<'_>>(&failed));
    } else if problems.is_empty() || !failed.is_empty() {
        asking.printer.text(&render::failed(&failed));
    }
    Ok(mentioned(asking, &problems))
}

async fn show(asking: &Asking, id: &str) -> Result<Exit, ClientError> {
    let job: FailedDetail = asking.client.get(&format!("failed/{}", part(id))).await?;
    if asking.printer.json {
        asking.printer.value(&listing::FailedWhole::from(&job));
    } else {
        asking.printer.text(&render::failed_job(&job, asking.printer.paint));
    }
    Ok(Exit::Done)
}

async fn each(asking: &Asking, resource: &str, which: &Which) -> Result<Exit, ClientError> {
    let Results { results } = asking.client.post(resource, which).await?;
    if asking.printer.json {
        asking.printer.value(&results);
    } else if results.is_empty() {
        asking.printer.line("no failed jobs");
    } else {
        asking.printer.text(&render::done(&results, asking.printer.paint));
    }
    Ok(if results.iter().all(|result| result.ok) { Exit::Done } else { Exit::Failed })
}

async fn flush(asking: &Asking, flush: &Flush) -> Result<Exit, ClientError> {
    let flushed: Flushed = asking.client.post("failed/flush", flush).await?;
    if asking.printer.json {
        asking.printer.value(&flushed);
    } else {
        let jobs = if flushed.removed == 1 { "failed job" } else { "failed jobs" };
        asking.printer.line(format!("removed {} {jobs}", flushed.removed));
    }
    Ok(mentioned(asking, &flushed.problems))
}

/// Tells which stores could not be reached; the rest was done.
fn mentioned(asking: &Asking, problems: &[String]) -> Exit {
    problems.iter().for_each(|problem| asking.printer.problem(problem));
    if problems.is_empty() { Exit::Done } else { Exit::Failed }
}
