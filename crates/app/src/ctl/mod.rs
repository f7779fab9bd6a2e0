//! The short commands: each asks the daemon over its control socket (or needs none), prints, and says how it went.

mod check;
mod failed;
mod import;
mod listing;
mod pages;
pub(crate) mod places;
pub(crate) mod print;
mod probe;
mod programs;
mod queues;
mod render;
mod tail;
mod upgrade;
mod version;

use std::time::{Duration, SystemTime};

use qfleet_api::{Client, ClientError};
use qfleet_model::command::Command;
use qfleet_model::time::WallTime;

use crate::args::{Control, Options};
use crate::ctl::places::SocketChoice;
use crate::ctl::print::Printer;
use crate::exit::Exit;
use crate::world::Machine;

/// What a command asks with and prints to.
#[derive(Debug, Clone)]
struct Asking {
    client: Client,
    printer: Printer,
}

/// Carries out one short command.
#[must_use]
pub(crate) fn run(command: Control, options: &Options) -> Exit {
    let printer = Printer::new(options);
    match done(command, options, printer) {
        Exit::Done if print::is_cut_off() => Exit::Failed,
        exit => exit,
    }
}

fn done(command: Control, options: &Options, printer: Printer) -> Exit {
    match command {
        Control::Completions(args) => return pages::completions(printer, &args),
        Control::Man(args) => return pages::man(printer, &args),
        Control::Import(args) => return import::run(printer, &args),
        _ => {}
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            printer.problem(&format_args!("cannot wait for anything: {error}"));
            return Exit::Failed;
        }
    };
    let choice = match &command {
        // Asks nobody, and reads the manifest itself: a pipe would be empty by then.
        Control::Check(args) if !args.against_running => SocketChoice::usual(&Machine),
        _ => SocketChoice::find(options, &Machine),
    };
    let asking = Asking { client: Client::new(choice.path()), printer };
    match runtime.block_on(carry_out(&asking, command, options)) {
        Ok(exit) => exit,
        Err(error) => {
            printer.problem(&error);
            if matches!(error, ClientError::NoDaemon(_)) {
                printer.text_of_problem(&choice);
            }
            exit_of(&error)
        }
    }
}

async fn carry_out(asking: &Asking, command: Control, options: &Options) -> Result<Exit, ClientError> {
    match command {
        Control::Check(args) => check::run(asking, &args, options).await,
        Control::Status(args) => programs::status(asking, &args).await,
        Control::Start(args) => programs::command(asking, Command::Start { names: args.names }).await,
        Control::Stop(args) => programs::command(asking, Command::Stop { names: args.names }).await,
        Control::Restart(args) => {
            programs::command(
                asking,
                Command::Restart { names: args.names, now: args.now, batch: args.batch },
            )
            .await
        }
        Control::Signal(args) => {
            programs::command(asking, Command::Signal { names: args.names, signal: args.signal }).await
        }
        Control::Reload(args) => {
            programs::command(asking, Command::Reload { dry_run: args.dry_run, reset: args.reset }).await
        }
        Control::Scale(args) => programs::scale(asking, args).await,
        Control::Pid(args) => programs::pid(asking, &args).await,
        Control::Shutdown(args) => programs::shutdown(asking, &args).await,
        Control::Upgrade(args) => upgrade::run(asking, args).await,
        Control::Tail(args) => tail::run(asking, &args).await,
        Control::Pause(args) => queues::set_paused(asking, args, true).await,
        Control::Resume(args) => queues::set_paused(asking, args, false).await,
        Control::ListQueues(args) => queues::list(asking, &args).await,
        Control::Jobs(args) => queues::jobs(asking, &args).await,
        Control::Push(args) => queues::push(asking, args).await,
        Control::Failed(args) => failed::run(asking, args).await,
        Control::Version => version::run(asking).await,
        // These are done before anything is asked.
        Control::Completions(args) => Ok(pages::completions(asking.printer, &args)),
        Control::Man(args) => Ok(pages::man(asking.printer, &args)),
        Control::Import(args) => Ok(import::run(asking.printer, &args)),
    }
}

/// The exit code for what went wrong.
fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::NoDaemon(_) => Exit::NoDaemon,
        ClientError::Said(body) if body.code == "bad-manifest" => Exit::BadManifest,
        ClientError::Said(_)
        | ClientError::Denied(_)
        | ClientError::Stranger(_)
        | ClientError::Silent(_)
        | ClientError::Broken(..)
        | ClientError::OtherVersion { .. } => Exit::Failed,
    }
}

/// The date, for ages in listings.
fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use qfleet_api::protocol::ErrorBody;

    use super::*;

    #[test]
    fn scripts_can_tell_what_went_wrong_by_the_exit_code() {
        let said = |code: &str| {
            ClientError::Said(ErrorBody { code: code.to_owned(), error: String::new(), hint: None })
        };
        for (error, code) in [
            (ClientError::NoDaemon("/run/q.sock".into()), 4),
            (said("bad-manifest"), 78),
            (said("no-match"), 1),
            (said("unreachable"), 1),
            (ClientError::Denied("/run/q.sock".into()), 1),
            (ClientError::Broken("/run/q.sock".into(), "reset".to_owned()), 1),
        ] {
            assert_eq!(exit_of(&error).code(), code, "{error:?}");
        }
    }
}
