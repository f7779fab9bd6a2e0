//! What becomes of the children's output. Reading never depends on being able to write: `capture` reads into memory and
//! hands whole lines to bounded queues; threads of their own write them to our own output and to files, and when those
//! are blocked or full, whole lines are dropped and counted.

use std::sync::Arc;

use qfleet_manifest::logs::LogFile;
use qfleet_manifest::per_process::OneProcess;
use qfleet_manifest::settings::{Logging, Logs};
use serde::{Deserialize, Serialize};

pub(crate) mod capture;
pub(crate) mod output;
mod queue;
mod rotate;
pub mod tail;

use tail::Stream;

/// Where the lines of a stream go, beside the memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Destination {
    pub(crate) file: Option<Arc<LogFile>>,
    /// Our own output.
    pub(crate) ours: bool,
}

/// Where the lines of a stream of this process go.
pub(crate) fn destination(logs: &Logs, logging: &Logging, process: &str, stream: Stream) -> Destination {
    let group = process.split(':').next().unwrap_or(process);
    let number = process.rsplit_once('_').and_then(|(_, number)| number.parse().ok()).unwrap_or(0);
    let is_stderr = stream == Stream::Stderr;
    let file = logs.file(logging, OneProcess { name: process, group, number }, is_stderr);
    Destination { file: file.map(Arc::new), ours: logs.output && !logs.discards(is_stderr) }
}
