//! One daemon at a time: a locked file with the holder's process number in it. The system lets go of the lock when the
//! holder dies, however it dies, so a file that was left behind proves nothing and hinders nobody.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// The lock; held until it is dropped. The file stays.
#[derive(Debug)]
pub struct InstanceLock {
    file: File,
}

/// Why the lock could not be taken.
#[derive(Debug)]
pub enum LockError {
    /// Another daemon has it.
    HeldBy(Option<i32>),
    /// The file cannot be made or opened.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeldBy(Some(pid)) => write!(out, "held by process {pid}"),
            Self::HeldBy(None) => out.write_str("held by another process"),
            Self::Io(error) => write!(out, "{error}"),
        }
    }
}

impl std::error::Error for LockError {}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl InstanceLock {
    /// Takes the lock, without waiting, and writes our process number into the file.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::HeldBy(written_pid(&mut file))),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { file })
    }
}

impl AsFd for InstanceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OwnedFd> for InstanceLock {
    /// The lock of the program whose place we have taken, which has not been let go in between.
    fn from(locked: OwnedFd) -> Self {
        Self { file: File::from(locked) }
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        // A number that is not ours any more could mislead people; nothing depends on it.
        let _ = self.file.set_len(0);
    }
}

fn written_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
