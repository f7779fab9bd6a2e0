//! Probes that are commands: children of the loop that the fleet knows nothing of. Who wants one is outside the loop and
//! is told what was found; a command that nobody waits for any more is killed with all it has started.

use std::os::fd::OwnedFd;

use qfleet_manifest::per_process::OneProcess;
use qfleet_model::link::FromChild;
use qfleet_model::process::{Pid, SIGKILL, said};
use qfleet_model::snapshot::Exit;
use qfleet_model::words::remark;
use tokio::sync::{mpsc, oneshot};

use super::Supervisor;
use super::words::{Words, listen};
use super::worker_link::Heard;

/// What a command has found: nothing, if it ended with 0; or else how it ended and what it said.
pub(crate) type Found = Result<(), String>;

/// What the loop is told about commands.
#[derive(Debug)]
pub(crate) enum Probing {
    /// To be started.
    Wanted(Wanted),
    /// Nobody waits for this child any more.
    Unwanted(Pid),
}

/// A command to be tried, and where what it finds goes.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Full name of the process it is about.
    pub(crate) process: String,
    /// Its child.
    pub(crate) pid: Pid,
    /// The command.
    pub(crate) argv: Vec<String>,
    /// Closed by who does not want to know it any more.
    pub(crate) found: oneshot::Sender<Found>,
}

/// A command under way.
#[derive(Debug)]
pub(super) struct Probe {
    /// The child it is about.
    of: Pid,
    /// Who waits for its end; nobody, once it was an earlier program that did.
    ended: Option<oneshot::Sender<Result<Exit, String>>>,
    /// What kept it from being executed, if that is what it says.
    heard: Option<mpsc::UnboundedReceiver<Heard>>,
}

impl Probe {
    /// One that an earlier program has begun.
    pub(super) const fn unwanted() -> Self {
        Self { of: 0, ended: None, heard: None }
    }

    /// Its end, after its last words.
    pub(super) fn has_ended(self, exit: Exit) {
        let mut failed = None;
        let mut heard = self.heard;
        while let Some(Heard { message, .. }) = heard.as_mut().and_then(|heard| heard.try_recv().ok()) {
            if let Some(FromChild::Failed { step, error, .. }) = message {
                failed = Some(format!("cannot {step}: {error}"));
            }
        }
        if let Some(ended) = self.ended {
            // Whoever does not wait any more has given it up.
            let _ = ended.send(failed.map_or(Ok(exit), Err));
        }
    }
}

impl Supervisor {
    pub(super) fn probing(&mut self, probing: Probing) {
        match probing {
            Probing::Wanted(wanted) => self.try_command(wanted),
            Probing::Unwanted(pid) => {
                if self.world.children.get(&pid).is_some_and(|child| child.probe.is_some()) {
                    self.world.signal(pid, SIGKILL, true);
                }
            }
        }
    }

    fn try_command(&mut self, Wanted { process, pid: of, argv, found }: Wanted) {
        // Who asks is about to see that the process is another one.
        let Some((group, number)) = self.fleet.settings_of(&process, of) else { return };
        if self.world.children.values().any(|child| child.probe.as_ref().is_some_and(|probe| probe.of == of))
        {
            let _ = found.send(Err("the last one was killed and has not ended yet".to_owned()));
            return;
        }
        let one = OneProcess { group: &group.name, name: &process, number };
        let (ended, end) = oneshot::channel();
        let (words, heard) = mpsc::unbounded_channel();
        let probing = self.world.probing.clone();
        // Who does not wait for an answer does not need one.
        let mut found = Some(found);
        let started = self.world.plan_probe(one, &group, of, argv).and_then(|plan| {
            self.world.launch(plan, words, |world, pid, printed, _| {
                if let Some(found) = found.take() {
                    world.tasks.spawn_local(follow(pid, printed, end, found, probing));
                }
                Ok(())
            })
        });
        match started {
            Ok(pid) => {
                if let Some(child) = self.world.children.get_mut(&pid) {
                    child.probe = Some(Probe { of, ended: Some(ended), heard: Some(heard) });
                }
            }
            Err(why) => {
                let _ = found.map(|found| found.send(Err(why)));
            }
        }
    }

    /// Kills all commands that are under way.
    pub(super) fn end_probes(&mut self) {
        let children = self.world.children.iter();
        let probes: Vec<Pid> =
            children.filter(|(_, child)| child.probe.is_some()).map(|(pid, _)| *pid).collect();
        for pid in probes {
            self.world.signal(pid, SIGKILL, true);
        }
    }
}

/// Waits for what a command finds, for as long as somebody wants to know.
async fn follow(
    pid: Pid,
    printed: [OwnedFd; 2],
    mut end: oneshot::Receiver<Result<Exit, String>>,
    mut found: oneshot::Sender<Found>,
    probing: mpsc::UnboundedSender<Probing>,
) {
    let heard = tokio::select! {
        heard = listen(printed, &mut end) => heard,
        () = found.closed() => None,
    };
    match heard {
        Some((ended, words)) => drop(found.send(judged(ended, &words))),
        // The receiver lives as long as the loop.
        None => drop(probing.send(Probing::Unwanted(pid))),
    }
}

fn judged(ended: Result<Exit, String>, words: &Words) -> Found {
    let exit = ended?;
    if exit == Exit::Code(0) {
        return Ok(());
    }
    match last_remark(&words.stderr).or_else(|| last_remark(&words.stdout)) {
        Some(line) => Err(format!("ended {}: {line}", said(&exit))),
        None => Err(format!("ended {}", said(&exit))),
    }
}

/// The last line that says something.
fn last_remark(printed: &[u8]) -> Option<String> {
    String::from_utf8_lossy(printed).lines().rev().map(str::trim).find_map(remark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: i32, stdout: &[u8], stderr: &[u8]) -> Found {
        judged(Ok(Exit::Code(code)), &Words { stdout: stdout.to_owned(), stderr: stderr.to_owned() })
    }

    #[test]
    fn the_last_thing_it_complained_of_is_the_reason() {
        assert_eq!(found(0, b"PONG", b"warning"), Ok(()));
        assert_eq!(found(2, b"", b" \n"), Err("ended with exit code 2".to_owned()));
        assert_eq!(found(1, b"NOAUTH\n\n", b""), Err("ended with exit code 1: NOAUTH".to_owned()));
        assert_eq!(
            found(1, b"x", b"a\n \x1b[1mb\xff\n"),
            Err("ended with exit code 1: [1mb\u{fffd}".to_owned())
        );
        let long = found(1, &[b'x'; 1000], b"").unwrap_err();
        assert_eq!(long.len(), "ended with exit code 1: ".len() + 200);
        let never = judged(Err("cannot execute `/x`: no".to_owned()), &Words::default());
        assert_eq!(never, Err("cannot execute `/x`: no".to_owned()));
    }
}
