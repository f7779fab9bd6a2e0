//! How everybody else asks the fleet and looks at it. Cheap to clone, usable from any thread.
//!
//! Asking goes through the loop's queue and waits for the fleet's answer; looking reads the newest published state and
//! waits for nobody.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use qfleet_manifest::logs::LogFile;
use qfleet_manifest::settings::{Logging, Logs, Manifest};
use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_model::name::Selector;
use qfleet_model::observation::Observation;
use qfleet_model::process::Pid;
use qfleet_model::snapshot::{FleetSnapshot, Keeping};
use tokio::sync::{mpsc, oneshot, watch};

use crate::fleet::view::{self, Seen};
use crate::fleet::watches::Watch;
use crate::runtime::letterbox::Letterbox;
use crate::runtime::logs::destination;
use crate::runtime::logs::output::Output;
use crate::runtime::logs::tail::{LogReader, Shelf, Stream};
use crate::runtime::probes::{Probing, Wanted};

/// A command on its way to the fleet, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Reply, Refusal>>,
}

/// All that others see of the supervisor.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) letterbox: Letterbox,
    pub(crate) probing: mpsc::UnboundedSender<Probing>,
    pub(crate) seen: watch::Receiver<Arc<Seen>>,
    pub(crate) manifest: watch::Receiver<Arc<Manifest>>,
    pub(crate) last_read: watch::Receiver<Arc<Manifest>>,
    pub(crate) logs: Arc<Shelf>,
    pub(crate) output: Output,
    pub(crate) logging: Arc<Logging>,
    pub(crate) keeping: Keeping,
    pub(crate) zone: TimeZone,
}

impl Handle {
    /// Asks the fleet and waits until it is done: a rolling restart may take as long as the longest job. Dropping the
    /// future gives up the answer, not the command.
    ///
    /// # Errors
    /// The fleet refuses; nothing was done. After the daemon's end: [`Refusal::ShuttingDown`].
    pub async fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        self.tell(command).await?.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    /// Hands a command to the fleet; the answer comes later, for whoever wants to wait for it.
    ///
    /// # Errors
    /// [`Refusal::ShuttingDown`] after the daemon's end.
    pub async fn tell(&self, command: Command) -> Result<oneshot::Receiver<Result<Reply, Refusal>>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { command, answer }).await.map_err(|_| Refusal::ShuttingDown)?;
        Ok(answered)
    }

    /// Tells the fleet what somebody outside its loop has found out. Never waits: only the newest of each
    /// [`qfleet_model::observation::Subject`] is kept until the loop looks. After the daemon's end nobody does.
    pub fn observe(&self, observation: Observation) {
        self.letterbox.put(observation);
    }

    /// Executes a command as this child of a process would, and waits for its end. Dropping the future kills it with all
    /// it has started.
    ///
    /// # Errors
    /// What it found, in words: how it ended if not with 0, and the last line it wrote.
    pub async fn try_command(&self, process: &str, pid: Pid, argv: &[String]) -> Result<(), String> {
        let (found, answer) = oneshot::channel();
        let wanted = Wanted { process: process.to_owned(), pid, argv: argv.to_owned(), found };
        // After the daemon's end nobody receives it, and nobody wants to know.
        let _ = self.probing.send(Probing::Wanted(wanted));
        answer.await.unwrap_or_else(|_| Err("the process is gone".to_owned()))
    }

    /// The fleet as it is now; descriptions say how long each process has been up at this moment.
    #[must_use]
    pub fn snapshot(&self) -> FleetSnapshot {
        let seen = self.seen.borrow().clone();
        let mut snapshot = view::render(&seen, qfleet_os::clock::now(), &self.zone);
        snapshot.processes.iter_mut().for_each(|process| process.tree = self.keeping);
        snapshot
    }

    /// What somebody should watch now, of all processes.
    #[must_use]
    pub fn watches(&self) -> Vec<Watch> {
        let seen = self.seen.borrow().clone();
        seen.processes.iter().flat_map(|process| process.watches.iter().cloned()).collect()
    }

    /// Tells when the fleet has changed.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes { seen: self.seen.clone() }
    }

    /// The manifest in force: the one the daemon was started with, or that of the last reload.
    #[must_use]
    pub fn manifest(&self) -> Arc<Manifest> {
        self.manifest.borrow().clone()
    }

    /// Whether the supervisor is gone: nothing will change any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.seen.has_changed().is_err()
    }

    /// Tells when another manifest is in force.
    #[must_use]
    pub fn manifests(&self) -> Manifests {
        Manifests { manifest: self.manifest.clone() }
    }

    /// The manifest as it was read last, whether it is in force or not.
    #[must_use]
    pub fn last_read(&self) -> Arc<Manifest> {
        self.last_read.borrow().clone()
    }

    /// Forgets the output of one process so far; its log file begins anew. Rotated files stay.
    ///
    /// # Errors
    /// As [`Handle::logs`].
    pub fn clear_logs(&self, of: &Selector) -> Result<(), Refusal> {
        self.logs(of, Stream::Stdout)?.clear();
        self.logs(of, Stream::Stderr)?.clear();
        let seen = self.seen.borrow().clone();
        for process in seen.processes.iter().filter(|process| of.matches(&process.name)) {
            let files =
                [Stream::Stdout, Stream::Stderr].map(|stream| self.file_of(&process.view.name, stream));
            files.into_iter().flatten().for_each(|file| self.output.clear(file));
        }
        Ok(())
    }

    /// The log file of one stream of a process of this full name. That of standard output may hold the lines of standard
    /// error too; what has no file of its own has none here.
    #[must_use]
    pub fn log_file(&self, process: &str, stream: Stream) -> Option<PathBuf> {
        let group = process.split(':').next().unwrap_or(process);
        let is_parted =
            self.manifest.borrow().group(group).is_some_and(|group| group.process.logs.parts_streams());
        if stream == Stream::Stderr && !is_parted {
            return None;
        }
        self.file_of(process, stream).map(|file| file.path.clone())
    }

    fn file_of(&self, process: &str, stream: Stream) -> Option<Arc<LogFile>> {
        let manifest = self.manifest.borrow();
        let group = manifest.group(process.split(':').next().unwrap_or(process));
        let usual = Logs::default();
        let logs = group.map_or(&usual, |group| &group.process.logs);
        destination(logs, &self.logging, process, stream).file
    }

    /// Waits until the lines that were read so far are in their files, but not for long. Blocks.
    pub fn wait_until_written(&self) {
        self.output.wait_until_written();
    }

    /// A reader of one stream of one process' output. A group means its only process.
    ///
    /// # Errors
    /// No process of that name, or several.
    pub fn logs(&self, of: &Selector, stream: Stream) -> Result<LogReader, Refusal> {
        let seen = self.seen.borrow().clone();
        let mut matching = seen.processes.iter().filter(|process| of.matches(&process.name));
        match (matching.next(), matching.next()) {
            (Some(process), None) => {
                let file = self.log_file(&process.view.name, stream);
                Ok(self.logs.reader(process.slot, stream, file))
            }
            (Some(one), Some(_)) => Err(Refusal::BadRequest {
                what: format!("`{of}` is several processes; name one, e.g. `{}`", one.view.name),
            }),
            (None, _) => Err(Refusal::NoMatch {
                name: of.to_string(),
                hint: view::similar(
                    &of.to_string(),
                    seen.processes.iter().map(|process| process.view.name.as_str()),
                ),
            }),
        }
    }
}

/// A stream of "another manifest is in force".
#[derive(Debug)]
pub struct Manifests {
    manifest: watch::Receiver<Arc<Manifest>>,
}

impl Manifests {
    /// Waits until the manifest in force is another one than at the last call (or at the birth of this value). `false`
    /// when the daemon is about to end.
    pub async fn next(&mut self) -> bool {
        self.manifest.changed().await.is_ok()
    }
}

/// A stream of "something changed".
#[derive(Debug)]
pub struct Changes {
    seen: watch::Receiver<Arc<Seen>>,
}

impl Changes {
    /// Waits until the fleet differs from what it was at the last call (or at the birth of this value). `false` when the
    /// daemon is about to end and nothing will change any more.
    pub async fn next(&mut self) -> bool {
        self.seen.changed().await.is_ok()
    }
}
