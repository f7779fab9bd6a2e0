//! The loop: waits for what happens, hands it to the fleet, carries out what the fleet says.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use qfleet_manifest::problem::Problems;
use qfleet_manifest::settings::Manifest;
use qfleet_model::command::Refusal;
use qfleet_os::service::Service;
use qfleet_os::spawn::OwnImage;
use tokio::sync::{mpsc, watch};

use crate::fleet::view::Seen;
use crate::handle::{Handle, Request};

pub mod logs;

/// Commands that may wait for the loop; more wait at their door.
const REQUESTS: usize = 64;

/// Reads the manifest again. Runs on a thread of its own, so it may block for a moment.
pub type Reload = Arc<dyn Fn() -> Result<Manifest, Problems> + Send + Sync>;

/// All a supervisor needs to know.
pub struct Setup {
    /// What to run.
    pub manifest: Manifest,
    /// Reads the manifest again.
    pub reload: Reload,
    /// What every child begins as.
    pub image: OwnImage,
    /// Arguments that make our binary play the part of a child.
    pub child_args: Vec<String>,
    /// The environment the daemon was started with.
    pub environment: Vec<(OsString, OsString)>,
    /// Directory of the ledgers; made if it is not there.
    pub state_dir: PathBuf,
    /// Who started the daemon and wants to know how it is.
    pub service: Service,
}

impl fmt::Debug for Setup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the manifest nor the environment belongs into a log.
        out.debug_struct("Setup").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// Runs a fleet.
#[derive(Debug)]
pub struct Supervisor {
    setup: Setup,
    requests: mpsc::Receiver<Request>,
}

impl Supervisor {
    /// Prepares everything and starts nothing. To be called on the main thread, inside a single-threaded runtime, before
    /// any child or door exists: from here on the process takes its signals and reaps its children.
    ///
    /// # Errors
    /// A signal handler cannot be installed, or the state directory cannot be made.
    pub fn new(setup: Setup) -> io::Result<(Self, Handle)> {
        let (requests, received) = mpsc::channel(REQUESTS);
        let handle = Handle {
            requests,
            seen: watch::Sender::new(Arc::new(Seen::default())).subscribe(),
            manifest: watch::Sender::new(Arc::new(setup.manifest.clone())).subscribe(),
            logs: Arc::default(),
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        };
        Ok((Self { setup, requests: received }, handle))
    }

    /// Starts the fleet, keeps it running, and ends when it has been drained: with the exit code of the daemon.
    pub async fn run(mut self) -> u8 {
        while let Some(request) = self.requests.recv().await {
            let _ = request.answer.send(Err(Refusal::ShuttingDown));
        }
        drop(self.setup);
        0
    }
}
