//! What becomes of the children's output. Reading never depends on being able to write: `capture` reads into memory and
//! hands whole lines to bounded queues; threads of their own write them to our own output and to files, and when those
//! are blocked or full, whole lines are dropped and counted.

use std::path::{Path, PathBuf};

pub(crate) mod capture;
pub(crate) mod output;
mod queue;
mod rotate;
pub mod tail;

/// The log file of a process in the log directory.
pub(crate) fn file_of(dir: &Path, process: &str) -> PathBuf {
    dir.join(format!("{}.log", process.replace(['/', ':'], ".")))
}
