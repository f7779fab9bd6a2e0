//! Core dumps of processes that hold other people's secrets in memory: the daemon and its workers leave none.
//!
//! Not `PR_SET_DUMPABLE`, which would also shut such a process off from its own files in `/proc`.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The kernel writes no dump that is smaller than a page, and hands none to a program that collects them when the limit is
/// exactly this; to such a program a limit of 0 would be nothing but a wish.
const NONE: u64 = 1;

/// How large a core dump may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// Largest dump, in bytes.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

/// Has this process, and whoever it starts, leave no core dump, and gives back what held before. Programs are to get that
/// (limit `core`).
///
/// # Errors
/// The system refused.
pub fn forbid() -> io::Result<Cores> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, NONE.min(hard), hard)?;
    Ok(Cores { soft, hard })
}

/// Takes [`forbid`] back, before everything begins anew in this process.
///
/// # Errors
/// The system refused.
pub fn restore(before: Cores) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_CORE, before.soft, before.hard)?)
}
