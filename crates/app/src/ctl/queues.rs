//! Commands about queues: queues, jobs, pause, resume, push.

use std::io::Read;

use qfleet_api::ClientError;
use qfleet_api::protocol::{self, ErrorBody, JobList, Pushed, QueueList, QueueNames, Results};
use qfleet_api::socket::client::part;

use super::{Asking, listing, now, render};
use crate::args::{JobState, Jobs, ListQueues, Push, Queues};
use crate::exit::Exit;

/// `queues`.
pub(super) async fn list(asking: &Asking, args: &ListQueues) -> Result<Exit, ClientError> {
    let names: Vec<String> = args.queues.iter().map(|name| format!("name={}", part(name))).collect();
    let QueueList { queues } = asking.client.get(&format!("queues?{}", names.join("&"))).await?;
    if asking.printer.json {
        asking.printer.value(&listing::list::<_, listing::Queue<'_>>(&queues));
    } else {
        asking.printer.text(&render::queues(&queues, now(), asking.printer.paint));
    }
    Ok(if queues.iter().all(|queue| queue.error.is_none()) { Exit::Done } else { Exit::Failed })
}

/// `jobs`.
pub(super) async fn jobs(asking: &Asking, args: &Jobs) -> Result<Exit, ClientError> {
    let state = match args.state {
        None => "",
        Some(JobState::Waiting) => "&state=waiting",
        Some(JobState::Delayed) => "&state=delayed",
        Some(JobState::Reserved) => "&state=reserved",
    };
    let resource = format!("jobs/{}?from={}&limit={}{state}", part(&args.queue), args.from, args.limit);
    let JobList { jobs, cut } = asking.client.get(&resource).await?;
    if asking.printer.json {
        asking.printer.value(&listing::list::<_, listing::Job<'_>>(&jobs));
    } else {
        asking.printer.text(&render::jobs(&jobs, now()));
    }
    if cut {
        asking
            .printer
            .note("there are more: the list was cut because the payloads are large; go on with --from");
    }
    Ok(Exit::Done)
}

/// `pause`, `resume`.
pub(super) async fn set_paused(asking: &Asking, args: Queues, paused: bool) -> Result<Exit, ClientError> {
    let resource = if paused { "pause" } else { "resume" };
    let Results { results } = asking.client.post(resource, &QueueNames { queues: args.queues }).await?;
    if asking.printer.json {
        asking.printer.value(&results);
    } else {
        asking.printer.text(&render::done(&results, asking.printer.paint));
    }
    Ok(if results.iter().all(|result| result.ok) { Exit::Done } else { Exit::Failed })
}

/// `push`.
pub(super) async fn push(asking: &Asking, args: Push) -> Result<Exit, ClientError> {
    let delay_ms = args.delay.map_or(0, |delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    let pushed: Pushed = match args.name {
        Some(name) => {
            let data = args.data.unwrap_or_else(|| "{}".to_owned());
            let push = protocol::Push { queue: args.queue, name, data, delay_ms };
            asking.client.post("push", &push).await?
        }
        None => {
            let mut payload = Vec::new();
            if let Err(error) = std::io::stdin().lock().read_to_end(&mut payload) {
                return Err(own_error(&format!("cannot read the payload from standard input: {error}")));
            }
            let resource = format!("push?queue={}&delay-ms={delay_ms}", part(&args.queue));
            asking.client.post_bytes(&resource, payload.into()).await?
        }
    };
    if asking.printer.json {
        asking.printer.value(&pushed);
    } else {
        let id = pushed.id.as_ref().map_or_else(String::new, |id| format!(" `{id}`"));
        asking.printer.line(format!("pushed{id} to `{}/{}`", pushed.connection, pushed.queue));
    }
    if let Some(note) = &pushed.note {
        asking.printer.note(note);
    }
    Ok(Exit::Done)
}

/// Something went wrong on this side.
fn own_error(what: &str) -> ClientError {
    ClientError::Said(ErrorBody { code: "client".to_owned(), error: what.to_owned(), hint: None })
}
