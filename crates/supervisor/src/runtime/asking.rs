//! What people and the system ask: commands through the handle, signals, and manifests to be read.

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_os::clock;
use qfleet_os::signal::Incoming;
use tokio::task::spawn_blocking;

use super::Supervisor;
use super::reading::{Read, plan, read};
use crate::fleet::{AskId, Event};
use crate::handle::Request;

/// An INT sooner than this after the first one is the same key held down, or the same signal sent to the whole group.
const SAME_INT: Duration = Duration::from_secs(1);

impl Supervisor {
    pub(super) fn asked(&mut self, Request { command, answer }: Request) {
        let ask = self.next_ask();
        self.answers.insert(ask, answer);
        self.handle(Event::Asked(ask, command));
    }

    pub(super) fn next_ask(&mut self) -> AskId {
        self.last_ask += 1;
        AskId(self.last_ask)
    }

    pub(super) fn answer(&mut self, ask: AskId, answer: Result<Reply, Refusal>) {
        match (self.answers.remove(&ask), answer) {
            // Whoever does not wait any more does not want to know.
            (Some(waiting), answer) => drop(waiting.send(answer)),
            (None, Err(refusal)) => tracing::error!("{refusal}"),
            (None, Ok(_)) => {}
        }
    }

    pub(super) fn signalled(&mut self, incoming: Incoming) {
        let now = clock::now();
        match incoming {
            Incoming::Term => self.command(Command::Shutdown),
            Incoming::Int => match self.first_int {
                None => {
                    self.first_int = Some(now);
                    self.command(Command::Shutdown);
                }
                Some(first) if now.since(first) >= SAME_INT => self.handle(Event::Hurry),
                Some(_) => {}
            },
            Incoming::Quit => self.handle(Event::Hurry),
            Incoming::Hup => self.command(Command::Reload { dry_run: false, reset: false }),
            Incoming::Usr1 => {
                tracing::info!("log files are opened anew");
                self.world.output.reopen();
            }
            Incoming::Usr2 => {
                tracing::warn!("replacing the running daemon (USR2) is not yet in this version");
            }
        }
    }

    /// A command nobody waits for.
    pub(super) fn command(&mut self, command: Command) {
        let ask = self.next_ask();
        self.handle(Event::Asked(ask, command));
    }

    pub(super) fn read_manifest(&mut self, ask: AskId, dry_run: bool) {
        if !dry_run {
            self.telling.reloading(clock::now());
        }
        let (reload, done, reading) = (self.reload.clone(), self.read.clone(), self.reading.clone());
        self.world.tasks.spawn_local(async move {
            let _turn = reading.lock().await;
            let read = spawn_blocking(move || read(ask, dry_run, &reload)).await;
            let failed = |_| Read { ask, dry_run, result: Err(String::from("reading the manifest failed")) };
            // The receiver lives as long as the loop.
            let _ = done.send(read.unwrap_or_else(failed));
        });
    }

    pub(super) fn manifest_read(&mut self, Read { ask, dry_run, result }: Read) {
        let result = match result {
            Err(problems) => Err(problems),
            Ok((manifest, identities)) => {
                let plan = plan(&self.world.manifest, &manifest);
                if !dry_run {
                    self.world.manifest = Arc::new(manifest);
                    self.world.identities = identities;
                    self.manifest.send_replace(self.world.manifest.clone());
                }
                Ok(plan)
            }
        };
        self.handle(Event::ManifestRead(ask, result));
        if !dry_run {
            self.telling.reloaded();
        }
    }
}
