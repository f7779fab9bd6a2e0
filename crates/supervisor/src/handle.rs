//! How everybody else asks the fleet and looks at it. Cheap to clone, usable from any thread.
//!
//! Asking goes through the loop's queue and waits for the fleet's answer; looking reads the newest published state and
//! waits for nobody.

use std::sync::Arc;

use jiff::tz::TimeZone;
use qfleet_manifest::settings::Manifest;
use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_model::name::Selector;
use qfleet_model::snapshot::FleetSnapshot;
use tokio::sync::{mpsc, oneshot, watch};

use crate::fleet::view::{self, Seen};
use crate::runtime::logs::file_of;
use crate::runtime::logs::tail::{LogReader, Shelf, Stream};

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
    pub(crate) seen: watch::Receiver<Arc<Seen>>,
    pub(crate) manifest: watch::Receiver<Arc<Manifest>>,
    pub(crate) logs: Arc<Shelf>,
    pub(crate) zone: TimeZone,
}

impl Handle {
    /// Asks the fleet and waits until it is done: a rolling restart may take as long as the longest job. Dropping the
    /// future gives up the answer, not the command.
    ///
    /// # Errors
    /// The fleet refuses; nothing was done. After the daemon's end: [`Refusal::ShuttingDown`].
    pub async fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { command, answer }).await.map_err(|_| Refusal::ShuttingDown)?;
        answered.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    /// The fleet as it is now; descriptions say how long each process has been up at this moment.
    #[must_use]
    pub fn snapshot(&self) -> FleetSnapshot {
        let seen = self.seen.borrow().clone();
        view::render(&seen, qfleet_os::clock::now(), &self.zone)
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

    /// A reader of one stream of one process' output. A group means its only process.
    ///
    /// # Errors
    /// No process of that name, or several.
    pub fn logs(&self, of: &Selector, stream: Stream) -> Result<LogReader, Refusal> {
        let seen = self.seen.borrow().clone();
        let mut matching = seen.processes.iter().filter(|process| of.matches(&process.name));
        match (matching.next(), matching.next()) {
            (Some(process), None) => {
                let dir = self.manifest.borrow().logging.dir.clone();
                let file = dir.map(|dir| file_of(&dir, &process.view.name));
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
