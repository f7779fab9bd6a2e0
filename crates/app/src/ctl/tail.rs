//! `tail`: the end of a process' output, and what follows.
//!
//! The stream belongs to the process' slot, so it goes on when the process is replaced; and over an upgrade of the daemon,
//! which cuts it off, as it is asked for again from where it was.

use qfleet_api::ClientError;
use qfleet_api::socket::client::part;

use super::Asking;
use crate::args::{Channel, Tail};
use crate::exit::Exit;

pub(super) async fn run(asking: &Asking, args: &Tail) -> Result<Exit, ClientError> {
    let channel = match args.channel {
        Channel::Stdout => "stdout",
        Channel::Stderr => "stderr",
    };
    let (name, lines) = (part(&args.name.to_string()), args.lines);
    let follow = if args.follow { "&follow=1" } else { "" };
    let mut pieces = asking.client.stream(&format!("logs/{name}/{channel}?lines={lines}{follow}")).await?;
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            // Without -f this cannot be waited for long; the answer is complete within moments.
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
        };
        match piece {
            Some(Ok(bytes)) if asking.printer.bytes(&bytes).is_ok() => {}
            Some(Ok(_)) => return Ok(Exit::Done),
            Some(Err(cut_off)) => {
                let Some(at) = pieces.at().filter(|_| args.follow) else { return Err(cut_off) };
                let more = asking.client.stream(&format!("logs/{name}/{channel}?from={at}&follow=1")).await;
                let Ok(more) = more else { return Err(cut_off) };
                pieces = more;
            }
            None if args.follow => {
                asking.printer.note(&format!(
                    "the output of `{}` has ended: it was removed, or the daemon ends",
                    args.name
                ));
                return Ok(Exit::Done);
            }
            None => return Ok(Exit::Done),
        }
    }
}
