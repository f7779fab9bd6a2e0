//! System calls that no library offers in a safe form, each behind one small safe function.
//!
//! Owns nothing and decides nothing; the rest of the crate calls it. Together with the mapped file it is the only place
//! where `unsafe` stands. Signals are plain numbers here because real-time signals have no name elsewhere.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::code::Unchanged;
use crate::exit::{Exit, Usage};
use crate::limits::Limit;

/// Whose end to wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whom {
    /// Any child of this process.
    Any,
    /// One child.
    Pid(i32),
}

/// A child that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    pub(crate) pid: i32,
    pub(crate) exit: Exit,
    pub(crate) usage: Usage,
}

/// Looks for an ended child without waiting; `consume` frees its process number.
pub(crate) fn ended(whom: Whom, consume: bool) -> io::Result<Option<Waited>> {
    let (kind, id) = match whom {
        Whom::Any => (libc::P_ALL, 0),
        Whom::Pid(pid) => (libc::P_PID, pid),
    };
    let keep = if consume { 0 } else { libc::WNOWAIT };
    let flags = libc::WEXITED | libc::WNOHANG | keep;
    loop {
        // SAFETY: both are plain C structures for which all zeroes is a valid value.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { (zeroed(), zeroed()) };
        // SAFETY: the kernel writes into two structures that we own and that outlive the call. The raw call is used
        // because the library's waitid does not pass the fifth argument, and wait4 cannot leave the zombie in place.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                kind,
                id,
                ptr::from_mut(&mut info),
                flags,
                ptr::from_mut(&mut usage),
            )
        };
        if answer == -1 {
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::ECHILD) if matches!(whom, Whom::Any) => return Ok(None),
                _ => return Err(error),
            }
        }
        // SAFETY: waitid filled in a child's record, or left the zeroes, and both give valid numbers.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if pid == 0 {
            return Ok(None);
        }
        let exit = match info.si_code {
            libc::CLD_EXITED => Exit::Code(status),
            code => Exit::Signal { number: status, core: code == libc::CLD_DUMPED },
        };
        return Ok(Some(Waited { pid, exit, usage: Usage::from(&usage) }));
    }
}

/// Waits until a child has ended and frees its number. Blocks.
pub(crate) fn wait_and_consume(pid: i32) {
    // SAFETY: asks for no status, so it touches no memory of ours.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Sends a signal; `target` as in kill(2), so negative numbers mean a group. Zero and -1 are refused.
pub(crate) fn kill(target: i32, signal: i32) -> io::Result<()> {
    if target == 0 || target == -1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: takes two numbers and touches no memory of ours.
    check(unsafe { libc::kill(target, signal) })
}

/// Becomes readable when the child ends. Needs a runtime.
pub(crate) fn watch(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    readable(pidfd(pid)?)
}

/// Waits for a descriptor to become readable. Needs a runtime.
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open and owned; it moves into the result, which gives the same number as long as it lives.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// Sends a signal to the process that has this number while `is_it` says that it is the one meant. The descriptor that is
/// opened before asking stays with that process, so nobody else can get the signal.
pub(crate) fn signal_if(pid: i32, signal: i32, is_it: impl FnOnce() -> bool) -> io::Result<()> {
    let pidfd = pidfd(pid)?;
    if !is_it() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: takes an open descriptor and numbers; the record that may go with the signal is left out.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Becomes readable when a signal of the set is there. Needs a runtime.
pub(crate) fn watch_signals(signals: &SigSet) -> io::Result<AsyncFd<SignalFd>> {
    let descriptor = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    // SAFETY: as above: open, owned, and the same number as long as the result lives.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let Ok(descriptor) = RawFd::try_from(answer) else { return Err(io::Error::last_os_error()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec), and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Waits for the first byte of a socket, leaves it there, and takes the descriptor that came with it, if one did.
pub(crate) fn peek_descriptor(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let came = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this descriptor for us (there is room for one only), and nobody else knows it.
    Ok(came.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Takes over a descriptor that the program before this one has left open for it.
///
/// # Errors
/// There is no such descriptor, or it is one of the standard three.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: only sets a flag; a number that is not open gives EBADF.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open. Whoever calls this does so once for each number, before anything else was opened, with numbers
    // that the former program wrote down for this purpose, so nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    match close_range(first) {
        // Old container runtimes answer EPERM to calls they do not know.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EINVAL)) => {
            close_on_exec_one_by_one(first)
        }
        other => other,
    }
}

fn close_range(first: u32) -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors; it closes none, so no owner loses one.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The slow way of [`close_on_exec_from`].
pub(crate) fn close_on_exec_one_by_one(first: u32) -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(descriptor) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if descriptor.unsigned_abs() >= first {
            // SAFETY: only sets a flag; the directory's own descriptor may be among them and does not mind. A number
            // that was closed meanwhile gives EBADF, which is as good.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Sets every signal except SIGPIPE to its default disposition and unblocks all.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // The first two cannot be changed; the third is what the language's runtime expects to be ignored.
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGPIPE) {
            // SAFETY: the default disposition runs no code of ours. Numbers the C library keeps for itself give
            // EINVAL and stay as they are.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    unblock_all()
}

/// Lets every signal in that this thread's parent may have blocked.
pub(crate) fn unblock_all() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it; both only touch `none`.
    check(unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut())
    })
}

/// Whether writing into a closed pipe ends the process (what programs expect) or is an error (what Rust code expects).
pub(crate) fn broken_pipe_kills(kills: bool) {
    // SAFETY: neither disposition runs code of ours.
    unsafe { libc::signal(libc::SIGPIPE, if kills { libc::SIG_DFL } else { libc::SIG_IGN }) };
}

/// The nice value of this process.
pub(crate) fn nice() -> i32 {
    // SAFETY: reads a number. -1 is a valid answer, and asking about oneself cannot fail.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets a variable of this process' environment. For a process that has one thread, as a child that prepares itself. A
/// name that is empty or has `=`, and a zero byte anywhere, would panic.
pub(crate) fn set_variable(name: &str, value: &str) {
    // SAFETY: nobody reads the environment at the same time, since there is no other thread.
    unsafe { std::env::set_var(name, value) }
}

/// Sets the nice value of this process.
pub(crate) fn set_nice(value: i32) -> io::Result<()> {
    // SAFETY: takes numbers and touches no memory of ours.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) })
}

/// Asks for `signal` when the thread that started this process ends.
pub(crate) fn die_with_parent(signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::try_from(signal).unwrap_or(0)) })
}

/// Gives the pages of a mapped file back; whoever reads there gets them from the file again.
pub(crate) fn let_go(part: Unchanged) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(part.start());
    // SAFETY: the range is a private mapping of a file without the right to write, and no page in it was ever written, so
    // each comes back as it is. Code that runs through it only waits for that.
    check(unsafe { libc::madvise(start, part.len(), libc::MADV_DONTNEED) })
}

/// The monotonic clock.
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into a structure that we own. The clock exists on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What a job's child does between fork and exec. Made before the fork, so that the child only reads it.
#[derive(Debug)]
pub(crate) struct BeforeExec {
    pub(crate) limits: Vec<Limit>,
    pub(crate) nice: Option<i32>,
    pub(crate) umask: Option<u32>,
    pub(crate) cwd: Option<CString>,
    /// Becomes descriptor 3.
    pub(crate) third: Option<OwnedFd>,
    pub(crate) parent: i32,
    /// Where the child says which step failed: one byte, see [`BeforeExec::STEPS`].
    pub(crate) failed_step: OwnedFd,
}

impl BeforeExec {
    /// Steps by the byte that stands for them.
    pub(crate) const STEPS: [&str; 6] = [
        "reset signals",
        "set limits",
        "set nice value",
        "ask to end with the worker",
        "enter",
        "descriptor 3",
    ];

    /// Has the child of `command` do this before it executes its program.
    pub(crate) fn install(self, command: &mut Command) {
        // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are allowed. It makes system
        // calls alone (signal, sigprocmask, setrlimit, setpriority, umask, prctl, getppid, chdir, dup2, fcntl,
        // close_range, write), allocates nothing, takes no lock, and reads only what was built before the fork, which
        // the closure owns. An error is built from a number and needs no memory.
        unsafe { command.pre_exec(move || self.run()) };
    }

    fn run(&self) -> io::Result<()> {
        self.step(0, reset_signals())?;
        for limit in &self.limits {
            self.step(1, limit.set())?;
        }
        if let Some(nice) = self.nice {
            self.step(2, set_nice(nice))?;
        }
        if let Some(mask) = self.umask {
            // SAFETY: takes a number, cannot fail.
            unsafe { libc::umask(mask) };
        }
        self.step(3, self.end_with_parent())?;
        if let Some(cwd) = &self.cwd {
            // SAFETY: reads a C string that we own.
            self.step(4, check(unsafe { libc::chdir(cwd.as_ptr()) }))?;
        }
        if let Some(third) = &self.third {
            self.step(5, become_third(third.as_raw_fd()))?;
        }
        // Everything here was opened close-on-exec anyway; this catches what a library may have left open. It marks and
        // does not close, because the runtime still needs its own pipe to report a failed exec.
        let _ = close_range(if self.third.is_some() { 4 } else { 3 });
        Ok(())
    }

    fn end_with_parent(&self) -> io::Result<()> {
        die_with_parent(libc::SIGKILL)?;
        // SAFETY: reads a number.
        if unsafe { libc::getppid() } == self.parent {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }

    fn step(&self, number: u8, result: io::Result<()>) -> io::Result<()> {
        if result.is_err() {
            // SAFETY: writes one byte that we own to a pipe that we own.
            unsafe { libc::write(self.failed_step.as_raw_fd(), ptr::from_ref(&number).cast(), 1) };
        }
        result
    }
}

fn become_third(descriptor: RawFd) -> io::Result<()> {
    if descriptor == 3 {
        // SAFETY: sets a flag on a descriptor that we own.
        return check(unsafe { libc::fcntl(3, libc::F_SETFD, 0) });
    }
    // SAFETY: happens in the forked child only; whoever owns descriptor 3 is in the parent and keeps it there.
    match unsafe { libc::dup2(descriptor, 3) } {
        3 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::descriptors::set_close_on_exec;

    /// The way for systems without close_range, which this one need not be.
    #[test]
    fn descriptors_can_be_marked_one_by_one() {
        let file = std::fs::File::open("/dev/null").unwrap();
        set_close_on_exec(&file, false).unwrap();
        let marked = || {
            // SAFETY: reads a flag of a descriptor that we own.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) == libc::FD_CLOEXEC }
        };
        close_on_exec_one_by_one(file.as_raw_fd().unsigned_abs() + 1).unwrap();
        assert!(!marked());
        close_on_exec_one_by_one(file.as_raw_fd().unsigned_abs()).unwrap();
        assert!(marked());
    }

    #[test]
    fn waiting_for_nobody_ends_at_once() {
        assert!(ended(Whom::Pid(i32::MAX), true).is_err());
        wait_and_consume(i32::MAX);
    }
}
