//! Descriptors of this process: the standard three, how many there may be, and which a program inherits.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::raw;

/// Between two looks at an output that does not block and takes nothing.
const FULL: Duration = Duration::from_millis(20);

/// Opens `/dev/null` in place of standard descriptors that were closed when this process was started. Without it the next
/// socket would become "standard output".
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn ensure_standard() -> io::Result<()> {
    loop {
        // The system gives the lowest free number.
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        set_close_on_exec(&null, false)?;
        // Stays open for the life of the process.
        let _ = null.into_raw_fd();
    }
}

/// Marks every descriptor except 0, 1 and 2 so that a program does not inherit it, whoever opened it and before or after
/// this process began.
///
/// # Errors
/// The system refused and `/proc` is not mounted.
pub fn close_others_on_exec() -> io::Result<()> {
    raw::close_on_exec_from(3)
}

/// How many descriptors a process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// What holds now.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

/// Raises the number of descriptors this process may have to what the system allows, and gives back what it was. Children
/// are to get the old value (limit `nofile`), because some programs break above 1024.
///
/// # Errors
/// The system refused.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(OpenFiles { soft, hard })
}

/// Takes [`raise_open_files`] back, before everything begins anew in this process.
///
/// # Errors
/// The system refused.
pub fn restore_open_files(before: OpenFiles) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, before.soft, before.hard)?)
}

/// Has reads and writes return at once.
///
/// # Errors
/// Not an open descriptor.
pub fn set_nonblocking(descriptor: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(descriptor, FcntlArg::F_GETFL)?);
    fcntl(descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// [`Write::write_all`], also for an output that somebody has set not to block. Blocks.
///
/// # Errors
/// Nobody reads it any more, or the system refused.
pub fn write_all(output: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Says whether a program that is executed keeps the descriptor.
///
/// # Errors
/// Not an open descriptor.
pub fn set_close_on_exec(descriptor: &impl AsFd, close: bool) -> io::Result<()> {
    let flag = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(descriptor, FcntlArg::F_SETFD(flag))?;
    Ok(())
}
