//! One turn of the loop after the other, from the first start to the last line of output.

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::time::Moment;
use qfleet_os::signal::Incoming;
use qfleet_os::wall::WallClock;
use qfleet_os::{clock, code};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};

use super::identities::Identities;
use super::probes::Probing;
use super::reading::Read;
use super::worker_link::Heard;
use super::{Beginning, Lived, Supervisor, own_pid};
use crate::fleet::{Effect, Ended, Event, LogLine, Now};
use crate::handle::Request;

/// Children's last output is waited for this long after the end of the last one.
const LAST_OUTPUT: Duration = Duration::from_secs(3);

/// Commands taken in one turn.
const REQUESTS_AT_ONCE: usize = 64;

/// What ended the wait between two turns.
enum Woken {
    /// Children have ended, a timer is due, something was found out, or there are more children to start.
    Look,
    Heard(Heard),
    Asked(Request),
    Probing(Probing),
    Read(Box<Read>),
    Signal(Incoming),
    ClockSet,
    /// A program that is to take our place has shown whether it could.
    Rehearsed(Result<String, String>),
}

impl Supervisor {
    /// Starts the fleet, or goes on with it, and keeps it running until it has been drained or another program is to take
    /// our place. To be called again when that one could not.
    pub async fn run(mut self) -> Lived {
        let local = self.local.clone();
        match local.run_until(self.live()).await {
            Some(ended) => Lived::Ended(ended),
            None => Lived::Replaced(Box::new(self)),
        }
    }

    /// How the fleet ended; `None`: another program is to take our place.
    async fn live(&mut self) -> Option<Ended> {
        if let Beginning::Fresh(effects) = std::mem::replace(&mut self.beginning, Beginning::Over) {
            self.begin(effects).await;
        }
        let mut woken = Woken::Look;
        loop {
            self.turn(woken);
            if let Some(ended) = self.exit {
                self.end().await;
                return Some(ended);
            }
            if self.is_to_be_replaced() {
                return None;
            }
            woken = self.wait().await;
        }
    }

    async fn begin(&mut self, effects: Vec<Effect>) {
        let groups = self.world.manifest.groups.clone();
        if let Ok(identities) = spawn_blocking(move || Identities::look_up(&groups)).await {
            self.world.identities = identities;
        }
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn turn(&mut self, woken: Woken) {
        // The word that woke us is older than those still waiting.
        if let Woken::Heard(heard) = woken {
            self.heard(heard);
            return self.turn(Woken::Look);
        }
        self.reap();
        self.listen();
        self.ring();
        match woken {
            Woken::Asked(request) => self.asked(request),
            Woken::Probing(probing) => self.probing(probing),
            Woken::Read(read) => self.manifest_read(*read),
            Woken::Signal(incoming) => self.signalled(incoming),
            Woken::ClockSet => self.handle(Event::ClockSet),
            Woken::Rehearsed(result) => self.rehearsed(result),
            Woken::Look | Woken::Heard(_) => {}
        }
        for _ in 0..REQUESTS_AT_ONCE {
            let Ok(request) = self.requests.try_recv() else { break };
            self.asked(request);
        }
        for observation in self.letterbox.take() {
            self.handle(Event::Observed(observation));
        }
        for event in self.world.start_some() {
            self.handle(event);
        }
        self.world.clear_tasks();
        self.publish();
    }

    /// Waits until there is something to do; with nothing due, that may be never.
    async fn wait(&mut self) -> Woken {
        let due = self.due().map(|at| at.since(clock::now()));
        let more_to_start = !self.world.asked.is_empty();
        tokio::select! {
            biased;
            () = self.reaper.woken() => Woken::Look,
            Some(heard) = self.heard.recv() => Woken::Heard(heard),
            incoming = self.received.next() => Woken::Signal(incoming),
            () = sleep(due.unwrap_or_default()), if due.is_some() => Woken::Look,
            () = was_set(self.wall.as_ref()) => Woken::ClockSet,
            Some(request) = self.requests.recv() => Woken::Asked(request),
            () = self.letterbox.filled() => Woken::Look,
            Some(probing) = self.probing.recv() => Woken::Probing(probing),
            Some(read) = self.reads.recv() => Woken::Read(Box::new(read)),
            result = self.upgrading.result() => Woken::Rehearsed(result),
            // Between two handfuls of new children everybody else has a turn.
            () = yield_now(), if more_to_start => Woken::Look,
        }
    }

    fn due(&mut self) -> Option<Moment> {
        let others = [self.leftovers.due(), self.telling.due(), self.upgrading.due(), self.to_read.due()];
        others.into_iter().flatten().chain(self.fleet.wake_at()).min()
    }

    fn now() -> Now {
        Now { moment: clock::now(), wall: clock::wall() }
    }

    /// Hands an event to the fleet and carries out what it says.
    pub(super) fn handle(&mut self, event: Event) {
        if self.exit.is_some() {
            return;
        }
        for effect in self.fleet.handle(event, Self::now()) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { .. } | Effect::Recover { .. } => self.world.asked.push_back(effect),
            Effect::Signal { pid, signal, group } => self.world.signal(pid, signal, group),
            Effect::Drain { pid, limit } => self.world.drain(pid, limit),
            Effect::Tune { pid, group } => self.world.tune(pid, &group),
            // Whoever has an answer must see what it says when they look.
            Effect::Answer(ask, answer) => self.after_publishing.push((ask, answer)),
            Effect::ReadManifest { ask, purpose } => self.read_manifest(ask, purpose),
            Effect::Upgrade { ask, binary } => self.upgrade(ask, binary),
            Effect::TakeGroup { ask, group } => self.take_group(ask, group),
            Effect::GroupDropped { group } => self.group_dropped(&group),
            Effect::Remember { schedule, date } => {
                self.dates.remember(schedule, date, &mut self.world.tasks);
            }
            Effect::Input { ask, name, pid, text } => {
                let answer = self.world.input(&name, pid, text.as_bytes());
                self.after_publishing.push((ask, answer));
            }
            // Output is kept by slot; the next child has the new name.
            Effect::Renamed { .. } => {}
            Effect::Gone { slot } => self.world.shelf.remove(slot),
            Effect::Settled => {
                self.telling.ready();
                let_go_of_code();
            }
            Effect::ShuttingDown { again: false } => {
                tracing::info!("shutting down: all processes are asked to end");
                self.telling.stopping(clock::now());
            }
            Effect::ShuttingDown { again: true } => {
                tracing::info!("beginning anew: all processes are asked to end first");
                self.telling.reloading(clock::now());
            }
            Effect::Log(line) => log(&line),
            Effect::Publish => self.publish = true,
            Effect::Exit(ended) => self.exit = Some(ended),
        }
    }

    pub(super) fn publish(&mut self) {
        if std::mem::take(&mut self.publish) {
            let mut seen = self.fleet.seen(own_pid(), self.started_at);
            seen.upgrade = self.upgrade.clone();
            seen.stuck = self.to_read.stuck();
            self.telling.status(self.fleet.counts());
            self.seen.send_replace(Arc::new(seen));
        }
        for (ask, answer) in std::mem::take(&mut self.after_publishing) {
            self.answer(ask, answer);
        }
    }

    /// Every process has ended: waits for what they left behind, and for the last lines they wrote.
    async fn end(&mut self) {
        self.publish = true;
        self.publish();
        self.end_probes();
        let now = clock::now();
        self.leftovers.end_all(now);
        self.leftovers.take_over_orphans(&self.world.trees, |pid| self.world.is_child(pid), now);
        self.reap();
        if let Some(latest) = self.fleet.ends_at() {
            self.leftovers.hurry(latest);
        }
        while let Some(due) = self.leftovers.due() {
            tokio::select! {
                () = self.reaper.woken() => {}
                () = sleep(due.since(clock::now())) => {}
                Incoming::Quit | Incoming::Int = self.received.next() => self.leftovers.hurry(clock::now()),
            }
            self.reap();
        }
        let tasks = &mut self.world.tasks;
        let all_read = timeout(LAST_OUTPUT, async { while tasks.join_next().await.is_some() {} }).await;
        if all_read.is_err() {
            tracing::debug!("somebody still has the output of a process that has ended");
        }
        self.world.output.finish();
        self.world.ledgers.tidy();
        self.world.trees.leave();
        self.world.child.limits.restore();
    }
}

/// What it took to begin is not needed to go on.
pub(super) fn let_go_of_code() {
    if let Err(error) = code::let_go() {
        tracing::debug!("the program's code stays in memory: {error}");
    }
}

async fn was_set(wall: Option<&WallClock>) {
    match wall {
        Some(wall) => wall.was_set().await,
        None => std::future::pending().await,
    }
}

fn log(LogLine { warning, name, pid, text }: &LogLine) {
    match (warning, pid) {
        (true, Some(pid)) => tracing::warn!(process = %name, pid, "{text}"),
        (true, None) => tracing::warn!(process = %name, "{text}"),
        (false, Some(pid)) => tracing::info!(process = %name, pid, "{text}"),
        (false, None) => tracing::info!(process = %name, "{text}"),
    }
}
