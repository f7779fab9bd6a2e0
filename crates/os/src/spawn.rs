//! Starts children of the daemon. Each begins as our own binary with one end of a socket as descriptor 0, and prepares
//! itself from what it is told there (see [`crate::prepare`]).
//!
//! So nothing of ours runs between fork and exec, and the daemon may have threads. Launch from the main thread only: a
//! child that asks to be signalled when its parent dies is tied to the thread that launched it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::pipe2;

use crate::descriptors;

/// The program file that this process runs, held open so that replacing the file on disk cannot mix versions.
#[derive(Debug)]
pub struct OwnImage {
    file: File,
}

impl OwnImage {
    /// Opens the running program.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn open() -> io::Result<Self> {
        // O_PATH needs no permission to read, which a program file does not always grant.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open("/proc/self/exe").map_err(
            |error| {
                io::Error::new(error.kind(), format!("open `/proc/self/exe`: {error}; is /proc mounted?"))
            },
        )?;
        Ok(Self { file })
    }

    /// A path that leads to the image in this process and in one that is about to become it.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }
}

/// A child to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What it runs.
    pub image: &'a OwnImage,
    /// Arguments after the name.
    pub args: &'a [&'a str],
    /// The complete environment; nothing is inherited.
    pub env: &'a [(OsString, OsString)],
    /// What `ps` shows in place of the program, e.g. `qfleet: messages:messages_01`.
    pub name: &'a str,
    /// Its standard input is a pipe from us; `false`: `/dev/null`.
    pub input: bool,
}

/// A child that was started. Reaping it is the caller's business ([`crate::reap`]). Every descriptor is close-on-exec
/// and does not block.
#[derive(Debug)]
pub struct Launched {
    /// Its process number.
    pub pid: i32,
    /// Our end of the link. Closing it tells the child that we are gone.
    pub link: UnixStream,
    /// What it prints.
    pub stdout: OwnedFd,
    /// What it complains about.
    pub stderr: OwnedFd,
    /// What it reads, if that was asked for.
    pub stdin: Option<OwnedFd>,
}

/// Starts a child. Its signal mask is empty, its handled signals are default.
///
/// # Errors
/// Out of descriptors, processes or memory; the program file may not be executed.
pub fn launch(launch: &Launch<'_>) -> io::Result<Launched> {
    let (link, its_link) = UnixStream::pair()?;
    let (stdout, its_stdout) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, its_stderr) = pipe2(OFlag::O_CLOEXEC)?;
    link.set_nonblocking(true)?;
    descriptors::set_nonblocking(&stdout)?;
    descriptors::set_nonblocking(&stderr)?;
    let stdin = if launch.input { Some(send_input(&link)?) } else { None };

    // Without a hook, a user or a group the standard library takes posix_spawn, and it empties the signal mask itself.
    let child = Command::new(launch.image.path())
        .arg0(launch.name)
        .args(launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(its_link)))
        .stdout(Stdio::from(its_stdout))
        .stderr(Stdio::from(its_stderr))
        .spawn()?;
    // Dropping the handle neither waits nor kills.
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok(Launched { pid, link, stdout, stderr, stdin })
}

/// What to do when a child could not be started, where there is something to do; begins with `; `, or is empty.
#[must_use]
pub fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE) => {
            "; raise the limit of open files (`LimitNOFILE=` of a systemd unit, or `ulimit -Hn`)"
        }
        Some(Errno::EAGAIN) => {
            "; raise the limit of processes (`TasksMax=` of a systemd unit, or `ulimit -Hu`)"
        }
        _ => "",
    }
}

/// Makes a pipe, leaves its reading end in the link for [`crate::prepare::take_link`], and gives back the other one. A
/// descriptor travels with at least one byte; a blank in front of the first message means nothing to a reader of JSON.
fn send_input(link: &UnixStream) -> io::Result<OwnedFd> {
    let (its_end, ours) = pipe2(OFlag::O_CLOEXEC)?;
    descriptors::set_nonblocking(&ours)?;
    let ends = [its_end.as_raw_fd()];
    let (byte, rights) = ([IoSlice::new(b" ")], [ControlMessage::ScmRights(&ends)]);
    sendmsg::<()>(link.as_raw_fd(), &byte, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(ours)
}
