//! A child that never outlives the test process, however that one ends.
//!
//! A panicking test drops its values; a killed one does not. So each child gets a guard: a tiny shell that waits for the end
//! of a pipe only we hold, and then kills the child. (The kernel's own "die with the parent" is bound to the thread that
//! started the child, and test threads end early.)

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::eventually;

/// A child in its own process group, killed and reaped when dropped, and killed when this process dies.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    guard: Child,
    ended: Option<ExitStatus>,
}

impl Guarded {
    /// Starts the command; what it does with its streams is the caller's choice.
    pub fn spawn(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().unwrap_or_else(|error| {
            panic!("cannot start `{program}` (`make test` installs what is needed): {error}")
        });
        let guard = Command::new("sh")
            .args(["-c", "trap '' HUP INT TERM; read -r _; kill -KILL \"-$1\" 2>/dev/null", "guard"])
            .arg(child.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("a shell");
        Self { child, guard, ended: None }
    }

    /// The child's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child's streams that were asked for as pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the child alone; no error if it has ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _gone = kill(self.nix_pid(), signal);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // The guard must not fire at a process id that belongs to somebody else by now.
            let ended = has_ended(self.nix_pid());
            if ended {
                self.dismiss_guard();
                self.ended = self.child.wait().ok();
            }
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of process {}", self.pid());
        eventually(limit, &what, || self.ended())
    }

    /// Kills it without mercy, with its process group, and reaps it.
    pub fn kill9(&mut self) {
        if self.ended.is_some() {
            return;
        }
        self.dismiss_guard();
        let _gone = killpg(self.nix_pid(), Signal::SIGKILL);
        let _gone = kill(self.nix_pid(), Signal::SIGKILL);
        self.ended = self.child.wait().ok().or(Some(ExitStatus::from_raw(0)));
    }

    fn dismiss_guard(&mut self) {
        let _gone = self.guard.kill();
        let _gone = self.guard.wait();
    }

    fn nix_pid(&self) -> Pid {
        #[allow(clippy::cast_possible_wrap)]
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn has_ended(pid: Pid) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
}
