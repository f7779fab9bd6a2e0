//! Which children ended. The daemon reaps everyone, strangers too: as PID 1 or subreaper it inherits the orphans of its
//! whole tree.
//!
//! Nothing else in the process may wait for children: no `tokio::process`, no [`std::process::Child::wait`].

use std::io;
use std::task::{Context, Poll};

use nix::sys::prctl;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Usage};
use crate::raw::{self, Whom};

/// A child that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its process number.
    pub pid: i32,
    /// How it ended.
    pub how: Exit,
    /// What it used.
    pub usage: Usage,
}

/// Has orphans of our tree come to us instead of to the system's first process.
///
/// # Errors
/// The system refused.
pub fn become_subreaper() -> io::Result<()> {
    prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// Wakes up when children end, and tells which.
#[derive(Debug)]
pub struct Reaper {
    woken: Signal,
}

impl Reaper {
    /// Takes over SIGCHLD. Needs a runtime; register before the first child is launched.
    ///
    /// # Errors
    /// The handler could not be installed.
    pub fn register() -> io::Result<Self> {
        Ok(Self { woken: signal(SignalKind::child())? })
    }

    /// Waits until at least one child may have ended; then take them with [`Reaper::next_ended`] until there is none.
    /// One wake-up may stand for many. Nothing is lost when the future is dropped.
    pub async fn woken(&mut self) {
        self.woken.recv().await;
    }

    /// [`Reaper::woken`] for hand-written futures.
    pub fn poll_woken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.woken.poll_recv(context).map(|_| ())
    }

    /// The next child that ended, or `None`; does not wait. Its number is free for others from now on.
    ///
    /// # Errors
    /// The system refused, which should not happen.
    pub fn next_ended(&self) -> io::Result<Option<Ended>> {
        let ended = self.peek_ended()?;
        if let Some(ended) = &ended {
            self.release(ended.pid)?;
        }
        Ok(ended)
    }

    /// The next child that ended, left in place until [`Reaper::release`]: in between its number is nobody else's, and
    /// the rest of its group can be signalled safely. Gives the same child until it is released.
    ///
    /// # Errors
    /// The system refused, which should not happen.
    pub fn peek_ended(&self) -> io::Result<Option<Ended>> {
        Ok(raw::ended(Whom::Any, false)?.map(|child| Ended {
            pid: child.pid,
            how: child.exit,
            usage: child.usage,
        }))
    }

    /// Frees the number of a child that has ended.
    ///
    /// # Errors
    /// It is no child of ours, or was released already.
    pub fn release(&self, pid: i32) -> io::Result<()> {
        raw::ended(Whom::Pid(pid), true).map(drop)
    }
}
