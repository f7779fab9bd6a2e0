//! Signals: names and numbers, sending them to a process or a whole group, and those sent to us as a stream.
//!
//! A worker hears of them by handlers ([`Received`]). The daemon has the system [hold] them until it reads them ([`Held`]):
//! one that arrives while another program takes its place is read by that one, and as PID 1 none is discarded.

use std::future::poll_fn;
use std::io;
use std::str::FromStr;
use std::task::{Context, Poll};

use nix::libc;
use nix::sys::signal::{SigSet, Signal as Named};
use nix::sys::signalfd::SignalFd;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::raw;

/// Why a signal did not arrive.
#[derive(Debug)]
pub enum SendError {
    /// Nobody with that number is left.
    NoSuchProcess,
    /// The process belongs to somebody else.
    NotPermitted,
    /// Anything else, e.g. a signal number that does not exist.
    Other(io::Error),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchProcess => out.write_str("no such process"),
            Self::NotPermitted => out.write_str("not permitted to signal it"),
            Self::Other(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for SendError {}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ESRCH) => Self::NoSuchProcess,
            Some(libc::EPERM) => Self::NotPermitted,
            _ => Self::Other(error),
        }
    }
}

/// The number of a signal written as `TERM`, `SIGTERM`, `sigterm`, `15` or `RTMIN+3`; `None` when there is no such signal.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        let number = libc::SIGRTMIN().checked_add(offset)?;
        return (number <= libc::SIGRTMAX() && offset >= 0).then_some(number);
    }
    Named::from_str(&format!("SIG{bare}")).ok().map(|signal| signal as i32)
}

/// The name of a signal without `SIG`: `TERM`; real-time signals as `RTMIN+3`, unknown numbers as they are.
#[must_use]
pub fn name(number: i32) -> String {
    if let Ok(signal) = Named::try_from(number) {
        return signal.as_str().trim_start_matches("SIG").to_owned();
    }
    match number - libc::SIGRTMIN() {
        0 => String::from("RTMIN"),
        offset if offset > 0 && number <= libc::SIGRTMAX() => format!("RTMIN+{offset}"),
        _ => number.to_string(),
    }
}

/// Signals one process. It must not have been reaped, since its number could be somebody else's by then.
///
/// # Errors
/// See [`SendError`].
pub fn send(pid: i32, signal: i32) -> Result<(), SendError> {
    positive(pid)?;
    raw::kill(pid, signal)?;
    wake_stopped(pid, signal);
    Ok(())
}

/// Signals every member of a process group, and wakes those that were stopped if the signal is one that ends. The group
/// must be pinned: its leader not yet reaped, or known to have members.
///
/// # Errors
/// See [`SendError`]; no such process means that the group is empty.
pub fn send_group(group: i32, signal: i32) -> Result<(), SendError> {
    positive(group)?;
    raw::kill(-group, signal)?;
    wake_stopped(-group, signal);
    Ok(())
}

/// Signals the group of a child that was launched and has not been reaped. A child that is so young that it has not made
/// its group yet is signalled alone.
///
/// # Errors
/// See [`SendError`].
pub fn send_child(child: i32, signal: i32) -> Result<(), SendError> {
    match send_group(child, signal) {
        Err(SendError::NoSuchProcess) => send(child, signal),
        other => other,
    }
}

/// Whether a process group has members; zombies count.
#[must_use]
pub fn group_exists(group: i32) -> bool {
    positive(group).is_ok()
        && !matches!(raw::kill(-group, 0).map_err(SendError::from), Err(SendError::NoSuchProcess))
}

/// Guards against 0 and negative numbers, which kill(2) reads as groups, our own among them; 1 as a group would be everyone.
fn positive(number: i32) -> Result<(), SendError> {
    if number > 1 { Ok(()) } else { Err(SendError::Other(io::Error::from_raw_os_error(libc::EINVAL))) }
}

/// A stopped process keeps an ending signal pending until it is continued.
fn wake_stopped(target: i32, signal: i32) {
    let asks_to_end =
        matches!(signal, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT | libc::SIGHUP | libc::SIGABRT);
    if asks_to_end {
        // It may have ended in between, which is what was wanted.
        let _ = raw::kill(target, libc::SIGCONT);
    }
}

/// A signal this process received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl Incoming {
    /// In the order in which they are looked at when several are waiting.
    const ALL: [(Self, libc::c_int); 6] = [
        (Self::Quit, libc::SIGQUIT),
        (Self::Int, libc::SIGINT),
        (Self::Term, libc::SIGTERM),
        (Self::Hup, libc::SIGHUP),
        (Self::Usr1, libc::SIGUSR1),
        (Self::Usr2, libc::SIGUSR2),
    ];
}

/// The signals this process receives, as a stream. Deliveries of the same signal that come close together are one.
#[derive(Debug)]
pub struct Received {
    streams: Vec<(Incoming, Stream)>,
}

impl Received {
    /// Takes over TERM, INT, QUIT, HUP, USR1 and USR2 for the rest of the process's life, and lets every signal in: a
    /// process inherits what its parent had blocked, and would hear neither of a stop nor of its children's end. Needs a
    /// runtime; register before there are other threads.
    ///
    /// # Errors
    /// A handler could not be installed.
    pub fn register() -> io::Result<Self> {
        let streams = Incoming::ALL
            .iter()
            .map(|(incoming, number)| Ok((*incoming, signal(SignalKind::from_raw(*number))?)))
            .collect::<io::Result<_>>()?;
        raw::unblock_all()?;
        Ok(Self { streams })
    }

    /// Waits for the next signal. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Incoming {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Received::next`] for hand-written futures.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        for (incoming, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                return Poll::Ready(*incoming);
            }
        }
        Poll::Pending
    }
}

/// Has the system keep TERM, INT, QUIT, HUP, USR1 and USR2 for [`Held`], also while another program takes this one's
/// place. To be called before there are other threads, which would take them otherwise; everything that is started from
/// here begins with an empty mask.
///
/// # Errors
/// The system refused.
pub fn hold() -> io::Result<()> {
    Ok(held().thread_set_mask()?)
}

fn held() -> SigSet {
    Incoming::ALL.iter().filter_map(|(_, number)| Named::try_from(*number).ok()).collect()
}

/// The signals this process receives, read from the system that holds them. Deliveries of the same signal that were not
/// read in between are one.
#[derive(Debug)]
pub struct Held {
    descriptor: AsyncFd<SignalFd>,
}

impl Held {
    /// Begins to read what [`hold`] holds; every other signal is let in, whatever our parent had blocked. Needs a runtime.
    ///
    /// # Errors
    /// The system refused.
    pub fn register() -> io::Result<Self> {
        hold()?;
        Ok(Self { descriptor: raw::watch_signals(&held())? })
    }

    /// Waits for the next signal. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Incoming {
        loop {
            let Ok(mut ready) = self.descriptor.readable_mut().await else {
                // The runtime ends.
                return std::future::pending().await;
            };
            match ready.get_inner().read_signal() {
                Ok(Some(signal)) => {
                    let came =
                        Incoming::ALL.iter().find(|(_, number)| signal.ssi_signo == number.unsigned_abs());
                    if let Some((incoming, _)) = came {
                        return *incoming;
                    }
                }
                Ok(None) | Err(_) => ready.clear_ready(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(number(text), Some(15), "{text}");
        }
        assert_eq!(number("RTMIN+3"), Some(libc::SIGRTMIN() + 3));
        for text in ["", "SIG", "NOPE", "0", "-9", "65", "RTMIN-1", "RTMIN+99", "RTMIN+-1"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn every_number_has_a_name_that_leads_back() {
        for signal in (1..=31).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            assert_eq!(number(&name(signal)), Some(signal), "{}", name(signal));
        }
    }

    #[test]
    fn numbers_that_mean_everybody_are_refused() {
        for target in [0, 1, -1, -5] {
            assert!(matches!(send(target, 0), Err(SendError::Other(_))));
            assert!(matches!(send_group(target, 0), Err(SendError::Other(_))));
        }
    }
}
