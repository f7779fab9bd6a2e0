//! Another program takes this one's place: it shows first that it could, by reading a copy of the state; then everything
//! comes to rest for a moment, and it is executed. Whatever goes wrong, the running program goes on.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use qfleet_model::command::{ProcessResult, Refusal, Reply};
use qfleet_model::process::{Pid, SIGKILL};
use qfleet_model::snapshot::Upgrade;
use qfleet_model::time::Moment;
use qfleet_os::exit::Exit;
use qfleet_os::replace::{Program, Rehearsal, rehearse, replace};
use qfleet_os::{clock, signal};
use serde::Deserialize;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::Supervisor;
use super::words::listen;
use crate::fleet::{AskId, Event};

/// A program that has not read the state by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// Once a program may take over, a moment at which nothing is under way is waited for this long.
const REST: Duration = Duration::from_secs(10);

/// How long the output of children may take to be written before.
const FLUSH: Duration = Duration::from_millis(500);

/// The attempt under way, if there is one.
#[derive(Debug, Default)]
pub(super) struct Upgrading {
    attempt: Option<Attempt>,
    /// Children that are not ours any more, after a take-over.
    pub(super) lost: Vec<Pid>,
}

#[derive(Debug)]
struct Attempt {
    ask: AskId,
    program: Program,
    path: PathBuf,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Rehearsing {
        pid: Pid,
        /// Who waits for its end.
        ended: Option<oneshot::Sender<Exit>>,
        result: mpsc::UnboundedReceiver<Result<String, String>>,
    },
    /// It may take over, as soon as nothing is under way.
    Waiting { version: String, until: Moment },
    /// The doors are being closed.
    Replacing { version: String },
}

impl Upgrading {
    /// Waits for the result of a rehearsal.
    pub(super) async fn result(&mut self) -> Result<String, String> {
        if let Some(Attempt { stage: Stage::Rehearsing { result, .. }, .. }) = &mut self.attempt
            && let Some(result) = result.recv().await
        {
            return result;
        }
        std::future::pending().await
    }

    /// A child of nobody has ended: whether it was the rehearsal.
    pub(super) fn ended(&mut self, child: Pid, how: Exit) -> bool {
        match &mut self.attempt {
            Some(Attempt { stage: Stage::Rehearsing { pid, ended, .. }, .. }) if *pid == child => {
                if let Some(ended) = ended.take() {
                    // Whoever does not wait any more has given it up.
                    let _ = ended.send(how);
                }
                true
            }
            _ => false,
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        match &self.attempt {
            Some(Attempt { stage: Stage::Waiting { until, .. }, .. }) => Some(*until),
            _ => None,
        }
    }
}

impl Supervisor {
    /// Begins to find out whether this program could take our place.
    pub(super) fn upgrade(&mut self, ask: AskId, binary: Option<PathBuf>) {
        if self.upgrading.attempt.is_some() {
            return self.not_upgraded(ask, "another upgrade is under way".to_owned());
        }
        let path = binary.unwrap_or_else(|| self.program.clone());
        let begun = Program::open(&path).and_then(|program| {
            let (state, _) = self.carried(path.clone())?;
            Ok((rehearse(&program, state)?, program))
        });
        match begun {
            Err(error) => self.not_upgraded(ask, format!("cannot execute `{}`: {error}", path.display())),
            Ok((rehearsal, program)) => {
                tracing::info!("upgrade: `{}` is asked whether it can take over", path.display());
                let (ended, end) = oneshot::channel();
                let (done, result) = mpsc::unbounded_channel();
                let (pid, shown) = (rehearsal.pid, path.display().to_string());
                self.world.tasks.spawn_local(async move {
                    // Whoever asked lives as long as the loop.
                    let _ = done.send(watch(rehearsal, end).await.map_err(|why| format!("`{shown}` {why}")));
                });
                let stage = Stage::Rehearsing { pid, ended: Some(ended), result };
                self.upgrading.attempt = Some(Attempt { ask, program, path, stage });
            }
        }
    }

    fn not_upgraded(&mut self, ask: AskId, why: String) {
        tracing::warn!("not upgraded, nothing was changed: {why}");
        if self.answers.contains_key(&ask) {
            self.after_publishing.push((ask, Err(Refusal::NotUpgraded { why })));
        }
    }

    /// The rehearsal is over.
    pub(super) fn rehearsed(&mut self, result: Result<String, String>) {
        let Some(mut attempt) = self.upgrading.attempt.take() else { return };
        match result {
            Err(why) => self.not_upgraded(attempt.ask, why),
            Ok(version) => {
                attempt.stage = Stage::Waiting { version, until: clock::now() + REST };
                self.upgrading.attempt = Some(attempt);
            }
        }
    }

    /// Whether the program that takes over does so now. Everybody who waits for an answer has got one then.
    pub(super) fn is_to_be_replaced(&mut self) -> bool {
        let Some(Attempt { ask, stage: Stage::Waiting { version, until }, .. }) = &self.upgrading.attempt
        else {
            return false;
        };
        let (ask, version, until) = (*ask, version.clone(), *until);
        let at_rest = self.world.asked.is_empty() && self.to_read.is_at_rest();
        let why = match () {
            () if self.fleet.is_ending() => "the daemon is shutting down",
            () if at_rest => "",
            () if until <= clock::now() => {
                "processes are being started, or the manifest is being read; try again"
            }
            () => return false,
        };
        if !why.is_empty() {
            self.upgrading.attempt = None;
            self.not_upgraded(ask, why.to_owned());
            self.publish();
            return false;
        }
        let own = env!("CARGO_PKG_VERSION");
        let text = format!("{own} is being replaced by {version}");
        self.answer(ask, Ok(Reply { results: vec![ProcessResult::ok("daemon", text)] }));
        for (_, waiting) in self.answers.drain() {
            // Whoever does not wait any more does not want to know.
            let _ = waiting.send(Err(Refusal::Replaced));
        }
        self.handle(Event::AskersSentAway);
        self.publish();
        if let Some(attempt) = &mut self.upgrading.attempt {
            attempt.stage = Stage::Replacing { version };
        }
        true
    }

    /// Puts the other program in our place. To be called after [`super::Lived::Replaced`], when nobody can ask any more and
    /// our own log is written. Returns only when that was not possible; everything is as it was then, and
    /// [`Supervisor::run`] goes on.
    pub fn replace(&mut self) {
        let Some(Attempt { program, path, stage: Stage::Replacing { version }, .. }) =
            self.upgrading.attempt.take()
        else {
            return;
        };
        while let Ok(request) = self.requests.try_recv() {
            let why = "the daemon is being replaced; try again".to_owned();
            let _ = request.answer.send(Err(Refusal::NotUpgraded { why }));
        }
        self.listen();
        let number = self.upgrade.as_ref().map_or(0, |upgrade| upgrade.number) + 1;
        let mut upgrade = Upgrade {
            number,
            from: env!("CARGO_PKG_VERSION").to_owned(),
            to: version,
            kept: self.world.children.values().filter(|child| child.probe.is_none()).count(),
            at: clock::wall(),
            error: None,
        };
        self.upgrade = Some(upgrade.clone());
        let Err(error) = self.executed(&program, path);
        let why = error.to_string();
        tracing::error!("not upgraded, the running program goes on: {why}");
        upgrade.error = Some(why);
        self.upgrade = Some(upgrade);
        self.telling.reloaded();
        self.publish = true;
    }

    fn executed(&self, program: &Program, path: PathBuf) -> io::Result<std::convert::Infallible> {
        if !self.world.output.flush(FLUSH) {
            return Err(io::Error::other("the output of the processes cannot be written: nobody reads ours"));
        }
        let old = Program::own()?;
        let (state, surviving) = self.carried(path)?;
        self.telling.reloading(clock::now());
        self.telling.alive();
        replace(program, state.as_fd(), old.as_fd(), surviving.all(), None)
    }
}

/// What a program answers that could take over.
#[derive(Deserialize)]
struct Answer {
    version: String,
}

/// Waits for the end of a rehearsal: the version of the program that could take over, or what is wrong with it.
async fn watch(rehearsal: Rehearsal, mut end: oneshot::Receiver<Exit>) -> Result<String, String> {
    let Rehearsal { pid, stdout, stderr } = rehearsal;
    let Ok(Some((exit, words))) = timeout(PATIENCE, listen([stdout, stderr], &mut end)).await else {
        if matches!(end.try_recv(), Err(TryRecvError::Empty)) {
            // Nobody has told us of its end: it was not reaped yet, and the number is still its own.
            let _ = signal::send_group(pid, SIGKILL);
        }
        return Err(format!("does not answer within {} s", PATIENCE.as_secs()));
    };
    let said = String::from_utf8_lossy(&words.stderr).trim().to_owned();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    if exit != Exit::Code(0) {
        return Err(format!("cannot take over, it ended with {exit}{said}"));
    }
    match serde_json::from_slice::<Answer>(&words.stdout) {
        Ok(Answer { version }) => Ok(version),
        Err(_) => Err(format!("does not answer like qfleet{said}")),
    }
}
