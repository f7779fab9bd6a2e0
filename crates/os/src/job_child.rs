//! A child of a worker that runs one job, or one after the other: own process group, pipes for input, output and control,
//! and no way to outlive the worker.
//!
//! Spawn from the thread that lives as long as the worker (its single-threaded runtime's): the child is killed when the
//! thread that spawned it ends. The child is kept as a zombie after its end until [`JobProcess`] is dropped, so that its
//! number, and with it its group's, cannot become somebody else's in between. Dropping kills what is left of the group; the
//! zombie is then consumed by a task of the current runtime, or by a short-lived thread where there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{getpid, pipe2};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;

use crate::exit::{Exit, Usage};
use crate::prepare::{StepError, not_executed};
use crate::raw::{self, BeforeExec, Whom};
use crate::reap::{Reaper, become_subreaper};
use crate::signal::{self, SendError};
use crate::{limits, tree, usage};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct JobChild {
    /// Program and arguments; a bare name is looked up in the `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// The complete environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory, the worker's when `None`.
    pub cwd: Option<PathBuf>,
    /// File mode creation mask, the worker's when `None`.
    pub umask: Option<u32>,
    /// Added to the worker's nice value.
    pub nice: Option<i32>,
    /// Soft and hard limits, by the names in [`limits::NAMES`].
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Whether the child gets the write end of a pipe as descriptor 3.
    pub control: bool,
}

/// How a job's child ended, and what it used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// How it ended.
    pub exit: Exit,
    /// What it used. See [`Usage`] about small memory figures.
    pub usage: Usage,
}

/// A running child. The pipes can be taken out.
#[derive(Debug)]
pub struct JobProcess {
    /// Its process number, which is its group's too.
    pub pid: i32,
    /// Where it reads from. Dropping it is the end of its input.
    pub stdin: Option<Sender>,
    /// What it prints.
    pub stdout: Option<Receiver>,
    /// What it complains about.
    pub stderr: Option<Receiver>,
    /// What it writes to descriptor 3, if it was asked for.
    pub control: Option<Receiver>,
    /// Taken out when dropped.
    pidfd: Option<AsyncFd<OwnedFd>>,
}

/// Those that were spawned and whose numbers are not free yet.
static LEADERS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// This process waits for no other children.
static ADOPTS: AtomicBool = AtomicBool::new(false);

fn leaders() -> MutexGuard<'static, BTreeSet<i32>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this is a child that was spawned here, and not one that another has left behind.
#[must_use]
pub fn is_job(pid: i32) -> bool {
    leaders().contains(&pid)
}

/// Whether every orphan of ours was left behind by a job that has ended: there is no other one, and no other children.
#[must_use]
pub fn orphans_are_of_ended_jobs() -> bool {
    ADOPTS.load(Ordering::Relaxed) && leaders().is_empty()
}

/// Has orphans of our jobs come to us, and reaps those that have ended, for ever. Only for a process that waits for no
/// other children than those spawned here.
///
/// # Errors
/// The system refused; orphans then go to the daemon.
pub async fn adopt_orphans() -> io::Result<Infallible> {
    let mut reaper = Reaper::register()?;
    become_subreaper()?;
    ADOPTS.store(true, Ordering::Relaxed);
    let own = getpid().as_raw();
    loop {
        reaper.woken().await;
        for orphan in tree::children_of(own).into_iter().filter(|pid| !is_job(*pid)) {
            // One that still lives is left alone.
            let _ = raw::ended(Whom::Pid(orphan), true);
        }
    }
}

impl JobChild {
    /// Starts it. Needs a runtime.
    ///
    /// # Errors
    /// The step that failed. `execute …` with [`Errno::ENOENT`], [`Errno::EACCES`] and the like is a matter of
    /// configuration; [`Errno::EAGAIN`], [`Errno::ENOMEM`] and [`Errno::EMFILE`] may pass.
    pub fn spawn(&self) -> Result<JobProcess, StepError> {
        let program = self.argv.first().filter(|program| !program.is_empty());
        let program =
            program.ok_or_else(|| StepError::said("execute", Some(Errno::ENOENT), "the command is empty"))?;
        // In the child, 3 becomes the control pipe. It must be taken in this process too, or the standard library's own pipe
        // could get that number and be overwritten. In a worker it is the link; where it is free, our end of the pipe gets
        // it, as the lowest number there is.
        let (control, its_control) = match self.control {
            true => pipe().map(|(ours, its)| (Some(ours), Some(its)))?,
            false => (None, None),
        };
        let (failed_step, its_failed_step) = pipe()?;

        let mut command = Command::new(program);
        command.args(&self.argv[1..]).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.before_exec(its_control, its_failed_step)?.install(&mut command);
        let spawned = command.spawn();
        // The write ends in it have to go before the read ends can come to an end.
        drop(command);
        let child = spawned.map_err(|error| self.failure(program.as_ref(), failed_step, &error))?;
        JobProcess::adopt(child, control).map_err(|error| StepError::new("watch the child", &error))
    }

    fn before_exec(&self, third: Option<OwnedFd>, failed_step: OwnedFd) -> Result<BeforeExec, StepError> {
        let limits = limits::read(&self.limits).map_err(|text| StepError::said("set limits", None, text))?;
        let cwd = self.cwd.as_ref().map(|cwd| CString::new(cwd.as_os_str().as_bytes())).transpose();
        let cwd = cwd.map_err(|_| StepError::said("enter", None, "a directory cannot hold a zero byte"))?;
        Ok(BeforeExec {
            limits: limits.into_iter().map(|(_, limit)| limit).collect(),
            nice: self.nice.map(|by| raw::nice().saturating_add(by)),
            umask: self.umask,
            cwd,
            third,
            parent: getpid().as_raw(),
            failed_step,
        })
    }

    /// The standard library hands over the number of the error alone; which step it was comes through a pipe of ours.
    fn failure(&self, program: &Path, failed_step: OwnedFd, error: &io::Error) -> StepError {
        let mut number = [0];
        let read = File::from(failed_step).read(&mut number).unwrap_or(0);
        let step = BeforeExec::STEPS.get(usize::from(number[0])).filter(|_| read == 1);
        match (step, &self.cwd) {
            (Some(&"enter"), Some(cwd)) => StepError::new(format!("enter `{}`", cwd.display()), error),
            (Some(step), _) => StepError::new(*step, error),
            (None, _) => match error.raw_os_error() {
                Some(number) => not_executed(program, Errno::from_raw(number)),
                None => StepError::new(format!("execute {}", program.display()), error),
            },
        }
    }
}

impl JobProcess {
    fn adopt(mut child: Child, control: Option<OwnedFd>) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        leaders().insert(pid);
        // From here on dropping it ends the child, whatever else fails.
        let mut process = Self { pid, stdin: None, stdout: None, stderr: None, control: None, pidfd: None };
        process.pidfd = Some(raw::watch(pid)?);
        process.stdin = child.stdin.take().map(|pipe| Sender::from_owned_fd(pipe.into())).transpose()?;
        process.stdout = child.stdout.take().map(|pipe| Receiver::from_owned_fd(pipe.into())).transpose()?;
        process.stderr = child.stderr.take().map(|pipe| Receiver::from_owned_fd(pipe.into())).transpose()?;
        process.control = control.map(Receiver::from_owned_fd).transpose()?;
        Ok(process)
    }

    /// Waits for the end of the child. Says nothing about its pipes, which others may keep open. Can be dropped and asked
    /// again, also after the end.
    ///
    /// # Errors
    /// Somebody else waited for it, which must not happen.
    pub async fn exited(&self) -> io::Result<Ending> {
        let Some(pidfd) = &self.pidfd else { return Err(io::Error::from_raw_os_error(libc::ECHILD)) };
        wait(pidfd, self.pid, false).await
    }

    /// Signals the child's whole group, living or not; see [`signal::send_group`].
    ///
    /// # Errors
    /// The signal does not exist, or members of the group became other users.
    pub fn signal_group(&self, number: i32) -> Result<(), SendError> {
        signal::send_group(self.pid, number)
    }

    /// Whether nobody of its group lives any more, the child included. Looks at every process there is.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn group_is_empty(&self) -> io::Result<bool> {
        usage::group_members(self.pid).map(|members| members.is_empty())
    }
}

impl Drop for JobProcess {
    fn drop(&mut self) {
        // The zombie, or the living child, still has the number, so this cannot hit anybody else.
        let _ = signal::send_group(self.pid, libc::SIGKILL);
        if matches!(raw::ended(Whom::Pid(self.pid), true), Ok(Some(_)) | Err(_)) {
            leaders().remove(&self.pid);
            return;
        }
        let pid = self.pid;
        match (self.pidfd.take(), Handle::try_current()) {
            (Some(pidfd), Ok(runtime)) => {
                runtime.spawn(async move {
                    let _ = wait(&pidfd, pid, true).await;
                    leaders().remove(&pid);
                });
            }
            _ => {
                std::thread::spawn(move || {
                    raw::wait_and_consume(pid);
                    leaders().remove(&pid);
                });
            }
        }
    }
}

async fn wait(pidfd: &AsyncFd<OwnedFd>, pid: i32, consume: bool) -> io::Result<Ending> {
    loop {
        let mut ready = pidfd.readable().await?;
        if let Some(child) = raw::ended(Whom::Pid(pid), consume)? {
            return Ok(Ending { exit: child.exit, usage: child.usage });
        }
        ready.clear_ready();
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), StepError> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| StepError::new("make a pipe", &errno.into()))
}
