//! Runs a process for each job: payload on standard input, facts in the environment, the outcome from its exit.
//!
//! The process leads a group of its own. A delivery is over when nobody of that group lives any more, and nobody who left
//! it, so that the next delivery of the job never meets the last one. Dropping a delivery kills the group.

mod argv;
mod environment;
mod exit;
mod lines;
mod rest;

use std::convert::Infallible;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::libc;
use qfleet_manifest::handler::ShellHandler;
use qfleet_model::outcome::{Outcome, Reason, Scope, When};
use qfleet_os::clock;
use qfleet_os::job_child::{JobChild, JobProcess};
use qfleet_os::prepare::StepError;
use qfleet_os::{cgroup, exit::Exit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::{sleep, timeout};

use self::exit::End;
use self::lines::Lines;
use self::rest::{GONE, Rest};
use super::facts::{self, Trace};
use super::output::{Complaints, Printed};
use super::{Cancel, Delivery, Ended, Handler, HandlerContext, Health, Remarks, body, cancelled};

/// How long the pipes are read after the process has ended; somebody else may hold them open.
const DRAIN: Duration = Duration::from_secs(1);
const CHUNK: usize = 16 * 1024;
const RESULT_KEPT: u64 = 64 * 1024;

/// A handler that runs processes.
#[derive(Debug)]
pub(super) struct Shell {
    settings: ShellHandler,
    kill_after: Duration,
    base: Vec<(OsString, OsString)>,
}

/// Why a process had to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Deadline,
    Cancelled(Cancel),
}

/// What the pipes of a process brought.
#[derive(Debug)]
struct Heard {
    printed: Printed,
    complaints: Complaints,
    lines: Lines,
    stdout: u64,
}

impl Shell {
    pub(super) fn open(settings: &ShellHandler, context: &HandlerContext) -> Self {
        Self {
            settings: settings.clone(),
            kill_after: settings.kill_after.unwrap_or(context.kill_after),
            base: environment::base(settings, std::env::vars_os(), &context.secret_variables),
        }
    }

    fn child(&self, delivery: &Delivery) -> Result<JobChild, String> {
        let trace = Trace::of(delivery, std::array::from_fn(|_| fastrand::u8(..)));
        Ok(JobChild {
            argv: argv::argv(&self.settings.command, delivery)?,
            env: environment::with_facts(&self.base, facts::variables(delivery, &trace)),
            cwd: self.settings.cwd.clone(),
            umask: self.settings.umask,
            nice: self.settings.nice,
            limits: self.settings.limits.clone(),
            control: true,
        })
    }

    /// Sees a process to its end.
    async fn watch(&self, mut process: JobProcess, mut delivery: Delivery) -> Ended {
        let mut heard = Heard {
            printed: Printed::default(),
            complaints: Complaints::new(self.settings.max_output),
            lines: Lines::default(),
            stdout: 0,
        };
        let memory_kills = memory_kills();
        let input = body::render(self.settings.body, &delivery);
        let streams = Streams::of(&mut process);
        let (stop, exit) = {
            let remarks = Arc::clone(&delivery.remarks);
            let mut pumps = Pumps { running: Some(pin!(streams.pump(&input, &mut heard, &*remarks))) };
            let end = self.until_exit(&process, &mut delivery, &mut pumps).await;
            // A grandchild that keeps a pipe open does not hold the job.
            pumps.drain(DRAIN).await;
            end
        };
        let rest = Rest::of(&process, &delivery.id);
        drop(process);
        let left = rest.end().await;
        if left.is_ok() {
            delivery.group.set(0);
        }
        let mut ended = self.judged(stop, exit, heard, memory_kills, &*delivery.remarks);
        ended.notes.extend(left.err());
        ended
    }

    /// Waits for the exit, and brings it about when time is up or somebody says so. Reads and writes all the while.
    async fn until_exit<P: Future<Output = ()>>(
        &self,
        process: &JobProcess,
        delivery: &mut Delivery,
        pumps: &mut Pumps<'_, P>,
    ) -> (Option<Stop>, io::Result<Exit>) {
        let limit = delivery.timeout;
        let deadline = async {
            match limit {
                Some(limit) => sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let mut exited = pin!(async { process.exited().await.map(|ending| ending.exit) });
        let stop = tokio::select! {
            biased;
            exit = exited.as_mut() => return (None, exit),
            why = cancelled(&mut delivery.cancel) => Stop::Cancelled(why),
            () = deadline => Stop::Deadline,
            never = pumps.run() => match never {},
        };
        for (number, patience) in [(self.settings.stop_signal, self.kill_after), (libc::SIGKILL, GONE)] {
            // A group that is gone already needs no signal.
            let _ = process.signal_group(number);
            tokio::select! {
                biased;
                exit = exited.as_mut() => return (Some(stop), exit),
                () = sleep(patience) => {}
                never = pumps.run() => match never {},
            }
        }
        (Some(stop), Err(io::Error::other("it does not end")))
    }

    fn judged(
        &self,
        stop: Option<Stop>,
        exit: io::Result<Exit>,
        heard: Heard,
        memory_kills: u64,
        remarks: &dyn Remarks,
    ) -> Ended {
        let now = clock::wall();
        let log = heard.complaints.finish(now);
        let (control, mut notes) = heard.lines.finish(remarks);
        notes.extend(log.lines);
        let result = heard.printed.result(self.settings.max_result);
        if heard.stdout > RESULT_KEPT {
            let more = heard.stdout - RESULT_KEPT;
            notes.push(format!("{more} bytes of stdout beyond the first {RESULT_KEPT} were thrown away"));
        }
        let mut ended = match (stop, exit) {
            (Some(Stop::Deadline), _) => {
                let outcome = Outcome::TimedOut { at_least: Duration::ZERO };
                quiet(outcome, Some("timeout"))
            }
            (Some(Stop::Cancelled(Cancel::Stop)), _) => {
                quiet(Outcome::Interrupted { not_before: None }, None)
            }
            (Some(Stop::Cancelled(Cancel::Lost)), _) => quiet(Outcome::Lost, None),
            (None, Err(error)) => {
                let text = format!("the end of the process was not seen: {error}");
                quiet(Outcome::Crashed { reason: Reason::classed("unknown_result", text) }, Some("crash"))
            }
            (None, Ok(exit)) => {
                if let (Err(bytes), true) = (&result, exit.is_success()) {
                    notes.push(format!("result_truncated: {bytes} bytes of stdout, the result is left out"));
                }
                let end = End {
                    exit,
                    out_of_memory: self::memory_kills() > memory_kills,
                    control,
                    result: result.unwrap_or_default(),
                    last_line: log.last_line,
                    overrides: &self.settings.exit_codes,
                    allow_scope: self.settings.allow_scope,
                    now,
                };
                end.judged()
            }
        };
        notes.append(&mut ended.notes);
        Ended { notes, ..ended }
    }
}

#[async_trait]
impl Handler for Shell {
    async fn handle(&self, delivery: Delivery) -> Ended {
        let child = match self.child(&delivery) {
            Ok(child) => child,
            Err(text) => {
                return quiet(Outcome::Fail { reason: Reason::classed("bad_argument", text) }, None);
            }
        };
        match child.spawn() {
            Ok(process) => {
                delivery.group.set(process.pid);
                self.watch(process, delivery).await
            }
            Err(error) => not_started(&error),
        }
    }
}

/// Nothing ran, so nothing is charged to the job, unless it is the job's own size that cannot be started.
fn not_started(error: &StepError) -> Ended {
    let minute = Duration::from_secs(60);
    let (class, after, health) = match error.errno {
        Some(libc::E2BIG) => {
            let reason = Reason::classed("too_large", error.to_string());
            return quiet(Outcome::Fail { reason }, None);
        }
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => {
            ("no_resources", Duration::from_secs(5), Health::Hold(None))
        }
        Some(libc::ENOENT | libc::ENOTDIR) => ("not_found", minute, Health::Trip { alert: "not_found" }),
        _ => ("cannot_execute", minute, Health::Trip { alert: "cannot_execute" }),
    };
    let reason = Reason::classed(class, error.to_string());
    let outcome = Outcome::Snooze { when: When::After(after), scope: Scope::Endpoint, reason };
    Ended { health, ..quiet(outcome, Some("unreachable")) }
}

fn quiet(outcome: Outcome, status: Option<&str>) -> Ended {
    Ended { outcome, health: Health::Neutral, status: status.map(str::to_owned), notes: Vec::new() }
}

/// The pipes of a process, taken out of it.
#[derive(Debug)]
struct Streams {
    stdin: Option<Sender>,
    stdout: Option<Receiver>,
    stderr: Option<Receiver>,
    control: Option<Receiver>,
}

impl Streams {
    fn of(process: &mut JobProcess) -> Self {
        Self {
            stdin: process.stdin.take(),
            stdout: process.stdout.take(),
            stderr: process.stderr.take(),
            control: process.control.take(),
        }
    }

    /// Writes the input and reads everything to the end, so that the process never waits for us.
    async fn pump(self, input: &[u8], heard: &mut Heard, remarks: &dyn Remarks) {
        let Heard { printed, complaints, lines, stdout } = heard;
        let feed = async {
            if let Some(mut stdin) = self.stdin {
                // A process that does not read its input is no error.
                let _ = stdin.write_all(input).await;
            }
        };
        let read_stdout = read(self.stdout, |bytes| {
            *stdout += bytes.len() as u64;
            printed.add(bytes);
        });
        let read_stderr = read(self.stderr, |bytes| complaints.add(bytes, clock::wall()));
        let read_control = read(self.control, |bytes| lines.add(bytes, remarks));
        tokio::join!(feed, read_stdout, read_stderr, read_control);
    }
}

async fn read(pipe: Option<Receiver>, mut hear: impl FnMut(&[u8])) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
        hear(&chunk[..length]);
    }
}

/// The pipes at work, until they have come to their end.
struct Pumps<'a, P> {
    running: Option<Pin<&'a mut P>>,
}

impl<P: Future<Output = ()>> Pumps<'_, P> {
    /// Drives the pipes; whatever else is waited for decides when that is enough.
    async fn run(&mut self) -> Infallible {
        if let Some(running) = &mut self.running {
            running.as_mut().await;
            self.running = None;
        }
        std::future::pending().await
    }

    /// Drives them to their end, but no longer than `patience`.
    async fn drain(&mut self, patience: Duration) {
        if let Some(running) = self.running.take() {
            let _ = timeout(patience, running).await;
        }
    }
}

/// How often the kernel ended a process for want of memory: of this worker and its jobs, where that is counted apart, else
/// of the whole system since it started.
fn memory_kills() -> u64 {
    let of_system = || std::fs::read_to_string("/proc/vmstat").ok().and_then(|text| kills_in(&text));
    cgroup::own_memory_kills().or_else(of_system).unwrap_or(0)
}

fn kills_in(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}
