//! A child of the daemon: reads from its link what to become, prepares itself, and becomes it.
//!
//! Everything before the runtime is ordinary blocking code in a process with one thread, so that preparing is safe and each
//! failure can be told over the link with the step that failed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use qfleet_manifest::settings::{Level, LogFormat};
use qfleet_model::frame::{self, FrameError, Frames};
use qfleet_model::link::{FromChild, ToChild};
use qfleet_model::start::{Role, Start};
use qfleet_os::job_child;
use qfleet_os::prepare::{self, StepError};
use qfleet_worker::Link;
use serde::de::DeserializeOwned;

use crate::exit::Exit;
use crate::logging;
use crate::turn;

/// What a shell answers, and so what people expect, when something could not be executed.
const NOT_EXECUTED: u8 = 127;

/// Becomes what the daemon asks for.
pub(crate) fn run() -> ExitCode {
    let (link, start, frames) = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            logging::start(LogFormat::Text, Level::Info);
            tracing::error!("{error}");
            return Exit::Usage.into();
        }
    };
    if let Err(step) = prepare::prepare(&start.preparation, &link) {
        return not_executed(&link, step);
    }
    match start.role {
        Role::Program { argv } => {
            let environment: Vec<_> = std::env::vars_os().collect();
            let step = prepare::execute(&argv, &environment);
            not_executed(&link, step)
        }
        Role::Once { settings, key, agreed_for, elsewhere, argv } => {
            match turn::is_ours(settings, &key, agreed_for) {
                Ok(true) => {
                    let environment: Vec<_> = std::env::vars_os().collect();
                    let step = prepare::execute(&argv, &environment);
                    not_executed(&link, step)
                }
                Ok(false) => {
                    say(&link, &FromChild::Elsewhere);
                    ExitCode::from(u8::try_from(elsewhere).unwrap_or_default())
                }
                Err(error) => {
                    say(&link, &turn::not_known(error));
                    ExitCode::from(NOT_EXECUTED)
                }
            }
        }
        Role::Worker { settings, ledger, after } => work(&link, settings, |settings, link| {
            qfleet_worker::run(settings, ledger, after, Some(Link::new(link, frames)))
        }),
        Role::Recover { settings, ledger } => work(&link, settings, |settings, link| {
            qfleet_worker::recover(settings, ledger, Some(Link::new(link, frames)))
        }),
    }
}

/// Takes the link and reads the first message; what came after it stays in the frames.
fn begin() -> io::Result<(UnixStream, Start, Frames)> {
    let mut link = prepare::take_link()?;
    let mut frames = Frames::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        match frames.next_message().map_err(invalid)? {
            Some(ToChild::Start(start)) => return Ok((link, *start, frames)),
            Some(_) => {
                return Err(io::Error::other("the first message of the daemon does not say what to become"));
            }
            None => {}
        }
        match link.read(&mut buffer)? {
            0 => return Err(io::Error::other("the daemon ended before it said what to become")),
            count => frames.feed(&buffer[..count]),
        }
    }
}

fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Says over the link what failed. If that fails too the daemon is gone, and nobody is left to tell.
fn not_executed(link: &UnixStream, step: StepError) -> ExitCode {
    say(link, &FromChild::from(step));
    ExitCode::from(NOT_EXECUTED)
}

fn say(mut link: &UnixStream, message: &FromChild) {
    if let Ok(line) = frame::line(message) {
        let _gone = link.write_all(&line);
    }
}

/// Runs a worker's part on a runtime with one thread.
fn work<S: DeserializeOwned, F: Future<Output = i32>>(
    link: &UnixStream,
    settings: serde_json::Value,
    part: impl FnOnce(S, UnixStream) -> F,
) -> ExitCode {
    logging::start(LogFormat::Text, Level::Info);
    let prepared = serde_json::from_value(settings)
        .map_err(|error| format!("unreadable settings: {error}"))
        .and_then(|settings| Ok((settings, link.try_clone().map_err(|error| error.to_string())?)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match (prepared, runtime) {
        (Ok((settings, link)), Ok(runtime)) => {
            let code = runtime.block_on(async {
                tokio::spawn(async {
                    let Err(error) = job_child::adopt_orphans().await;
                    tracing::warn!("what leaves its job's group goes to the daemon: {error}");
                });
                part(settings, link).await
            });
            // Threads that wait for a lock or a name must not hold the end up.
            runtime.shutdown_background();
            ExitCode::from(u8::try_from(code).unwrap_or(Exit::Internal.code()))
        }
        (Err(error), _) => {
            tracing::error!("cannot start the worker: {error}");
            Exit::BadManifest.into()
        }
        (_, Err(error)) => {
            tracing::error!("cannot start the worker: {error}");
            Exit::Internal.into()
        }
    }
}
