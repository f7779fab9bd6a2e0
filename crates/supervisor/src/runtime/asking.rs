//! What people and the system ask: commands through the handle, signals, and manifests to be read.

use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::settings::Manifest;
use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_model::time::Moment;
use qfleet_os::clock;
use qfleet_os::signal::Incoming;
use tokio::task::spawn_blocking;

use super::Supervisor;
use super::reading::{Kept, Read, new_warnings, plan, read};
use super::reads::Wish;
use crate::fleet::{AskId, Event, Purpose, TakenGroup};
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
            Incoming::Term => self.command(Command::Shutdown { wait: false }),
            Incoming::Int => match self.first_int {
                None => {
                    self.first_int = Some(now);
                    self.command(Command::Shutdown { wait: false });
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
            Incoming::Usr2 => self.command(Command::Upgrade { binary: None }),
        }
    }

    /// A command nobody waits for.
    pub(super) fn command(&mut self, command: Command) {
        let ask = self.next_ask();
        self.handle(Event::Asked(ask, command));
    }

    pub(super) fn read_manifest(&mut self, ask: AskId, purpose: Purpose) {
        if purpose == Purpose::Apply {
            self.telling.reloading(clock::now());
        }
        if self.to_read.stuck().is_some() {
            return self.not_read((ask, purpose));
        }
        self.to_read.want((ask, purpose));
        self.read_next();
    }

    /// Begins to read for whoever is next, if nothing else is being read.
    fn read_next(&mut self) {
        let Some((wish, progress)) = self.to_read.begin(clock::now()) else { return };
        let (reload, done, in_force) = (self.reload.clone(), self.read.clone(), self.world.manifest.clone());
        self.world.tasks.spawn_local(async move {
            let read = spawn_blocking(move || read(wish, &reload, &in_force, &progress)).await;
            let (ask, purpose) = wish;
            let failed = |_| Read { ask, purpose, result: Err(String::from("reading the manifest failed")) };
            // The receiver lives as long as the loop.
            let _ = done.send(read.unwrap_or_else(failed));
        });
    }

    /// Gives up what is read without end.
    pub(super) fn give_up_reads(&mut self, now: Moment) {
        let in_vain = self.to_read.give_up(now);
        if let Some(stuck) = self.to_read.stuck().filter(|_| !in_vain.is_empty()) {
            tracing::warn!("{}", stuck.said(now));
            self.publish = true;
        }
        in_vain.into_iter().for_each(|wish| self.not_read(wish));
    }

    fn not_read(&mut self, (ask, purpose): Wish) {
        let stuck = self.to_read.stuck().map(|stuck| stuck.refusal(clock::now()));
        self.handle(Event::ManifestRead(ask, Err(stuck.unwrap_or_default())));
        if purpose == Purpose::Apply {
            self.telling.reloaded();
        }
    }

    pub(super) fn manifest_read(&mut self, Read { ask, purpose, result }: Read) {
        let is_waited_for = self.to_read.ended();
        self.read_next();
        if !is_waited_for {
            self.publish = true;
            return tracing::info!(
                "the manifest was read after all, too late to be brought into force: reload it again"
            );
        }
        let result = match result {
            Err(problems) => Err(problems),
            Ok((manifest, identities)) => {
                let (plan, manifest) = (plan(&self.world.manifest, &manifest), Arc::new(manifest));
                if purpose != Purpose::Look {
                    for warning in new_warnings(&self.world.manifest, &manifest) {
                        tracing::warn!("{warning}");
                    }
                }
                match purpose {
                    Purpose::Look => {}
                    Purpose::Keep => self.keep(Kept { manifest, identities: Some(identities) }),
                    Purpose::Apply => {
                        self.world.identities = identities;
                        self.put_in_force(manifest.clone());
                        self.keep(Kept { manifest, identities: None });
                    }
                }
                Ok(plan)
            }
        };
        self.handle(Event::ManifestRead(ask, result));
        if purpose == Purpose::Apply {
            self.telling.reloaded();
        }
    }

    pub(super) fn keep(&mut self, kept: Kept) {
        self.last_read.send_replace(kept.manifest.clone());
        self.kept = kept;
    }

    pub(super) fn put_in_force(&mut self, manifest: Arc<Manifest>) {
        self.manifest.send_replace(manifest.clone());
        self.world.manifest = manifest;
    }

    /// Brings one group of the manifest as read last into force.
    pub(super) fn take_group(&mut self, ask: AskId, name: String) {
        let manifest = self.world.manifest.with_group(&self.kept.manifest, &name);
        let taken = manifest.and_then(|manifest| {
            let settings = Arc::new(manifest.group(&name)?.clone());
            let order = manifest.groups.iter().map(|group| group.name.clone()).collect();
            Some((manifest, TakenGroup { settings, order }))
        });
        let taken = match taken {
            None => Err(name),
            Some((manifest, taken)) => {
                // The newer of the two answers about who somebody is.
                if let Some(identities) = self.kept.identities.take() {
                    self.world.identities = identities;
                }
                self.put_in_force(Arc::new(manifest));
                Ok(taken)
            }
        };
        self.handle(Event::GroupTaken(ask, taken));
    }

    /// One group is not in force any more.
    pub(super) fn group_dropped(&mut self, name: &str) {
        self.put_in_force(Arc::new(self.world.manifest.without_group(name)));
    }
}
