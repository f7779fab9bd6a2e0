//! The corridor behind every door: a request of any wire format becomes a call here, and its answer goes back the same way.
//!
//! Questions about processes go to the supervisor's handle, questions about queues to the desk. Changing requests are
//! written down with who asked before they are carried out. No rule of the fleet is here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use qfleet_manifest::settings::Manifest;
use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_model::name::Selector;
use qfleet_model::snapshot::{FleetSnapshot, ProcessView};
use qfleet_queue::driver::JobState;
use qfleet_supervisor::{Changes, Handle, LogReader, OwnLog, Stream};

use crate::access::Peer;
use crate::desk::{Desk, DeskError};
use crate::protocol::{
    ErrorBody, FailedDetail, FailedList, Flush, Flushed, JobList, PROTOCOL, Push, Pushed, QueueList, Results,
    Version, Which,
};

/// Why a request was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// The fleet said no.
    Refused(Refusal),
    /// A queue or its store said no.
    Desk(DeskError),
    /// The request cannot be understood.
    BadRequest(String),
    /// This daemon has no such request.
    Unknown(String),
    /// The request is larger than it may be.
    TooLarge(String),
}

impl Failure {
    /// What the asker gets to read.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (code, error, hint) = match self {
            Self::Refused(refusal) => refused(refusal),
            Self::Desk(error) => return error.body(),
            Self::BadRequest(what) => ("bad-request", what.clone(), None),
            Self::Unknown(what) => (
                "unknown-request",
                format!("this daemon does not know {what}"),
                Some(format!(
                    "it is version {}; after an update of the binary it must be restarted",
                    version()
                )),
            ),
            Self::TooLarge(what) => ("too-large", what.clone(), None),
        };
        ErrorBody { code: code.to_owned(), error, hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.body().error)
    }
}

impl std::error::Error for Failure {}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<DeskError> for Failure {
    fn from(error: DeskError) -> Self {
        Self::Desk(error)
    }
}

/// A refusal as code, error and hint.
fn refused(refusal: &Refusal) -> (&'static str, String, Option<String>) {
    match refusal {
        Refusal::NoMatch { name, hint } => (
            "no-match",
            format!("no process named `{name}`"),
            Some(match hint {
                Some(hint) => format!("did you mean `{hint}`?"),
                None => "`qfleet status` lists them".to_owned(),
            }),
        ),
        Refusal::RolloutUnderWay { group } => (
            "rollout-under-way",
            format!("a rolling restart of `{group}` is under way"),
            Some("try again when it is done; `qfleet status` shows it".to_owned()),
        ),
        Refusal::ShuttingDown => ("shutting-down", refusal.to_string(), None),
        Refusal::BadManifest { .. } => ("bad-manifest", refusal.to_string(), None),
        Refusal::AlreadyActive { .. } => ("already-active", refusal.to_string(), None),
        Refusal::StillRunning { .. } => ("still-running", refusal.to_string(), None),
        Refusal::NotRunning { .. } => ("not-running", refusal.to_string(), None),
        Refusal::NoInput { .. } => ("no-input", refusal.to_string(), None),
        Refusal::NotUpgraded { .. } => ("not-upgraded", refusal.to_string(), None),
        Refusal::Replaced => {
            ("replaced", refusal.to_string(), Some("`qfleet status` shows how far it is".to_owned()))
        }
        Refusal::BadRequest { what } => ("bad-request", what.clone(), None),
    }
}

/// Version of this binary.
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Everything one can ask of a daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dispatch {
    handle: Handle,
    desk: Arc<Desk>,
    own_log: Option<OwnLog>,
}

impl Dispatch {
    /// The corridor of one daemon; must be made inside the runtime that serves it.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        let desk = Arc::new(Desk::new(handle.clone()));
        Self { handle, desk, own_log: None }
    }

    /// The same, which also shows the daemon's own log.
    #[must_use]
    pub fn with_own_log(self, log: OwnLog) -> Self {
        Self { own_log: Some(log), ..self }
    }

    /// The manifest in force.
    #[must_use]
    pub fn manifest(&self) -> Arc<Manifest> {
        self.handle.manifest()
    }

    /// The manifest as it was read last.
    #[must_use]
    pub fn last_read(&self) -> Arc<Manifest> {
        self.handle.last_read()
    }

    /// The fleet as it is now.
    #[must_use]
    pub fn status(&self) -> FleetSnapshot {
        self.handle.snapshot()
    }

    /// Tells when the fleet has changed.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.handle.changes()
    }

    /// What this daemon is.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { version: version().to_owned(), protocol: PROTOCOL }
    }

    /// Carries out a command of the fleet; returns when it is done.
    ///
    /// # Errors
    /// The fleet refuses.
    pub async fn command(&self, peer: &Peer, command: Command) -> Result<Reply, Failure> {
        peer.note(Words(&command));
        if let Command::Upgrade { binary: Some(binary) } = &command {
            may_name_a_program(peer, binary)?;
        }
        Ok(self.handle.ask(command).await?)
    }

    /// Has a command of the fleet carried out, and does not wait for that.
    ///
    /// # Errors
    /// The daemon ends.
    pub async fn begin(&self, peer: &Peer, command: Command) -> Result<(), Failure> {
        peer.note(Words(&command));
        Ok(self.handle.tell(command).await.map(drop)?)
    }

    /// A reader of the daemon's own log, if it is kept.
    #[must_use]
    pub fn own_log(&self) -> Option<LogReader> {
        self.own_log.as_ref().map(OwnLog::reader)
    }

    /// The log file of one stream of a process, where it has one of its own.
    #[must_use]
    pub fn log_file(&self, process: &str, stream: Stream) -> Option<PathBuf> {
        self.handle.log_file(process, stream)
    }

    /// Waits until the lines that were read so far are in their files, but not for long. Blocks.
    pub fn wait_until_written(&self) {
        self.handle.wait_until_written();
    }

    /// Has the output of one process begin anew.
    ///
    /// # Errors
    /// The process has gone meanwhile.
    pub fn clear_logs(&self, peer: &Peer, process: &ProcessView) -> Result<(), Failure> {
        peer.note(format_args!("clear the logs of {}", process.name));
        let own = process.name.split_once(':').map_or(process.name.as_str(), |(_, own)| own);
        Ok(self.handle.clear_logs(&Selector::Process(process.group.clone(), own.to_owned()))?)
    }

    /// A reader of one process' output.
    ///
    /// # Errors
    /// The name does not mean exactly one process.
    pub fn logs(&self, of: &str, stream: Stream) -> Result<LogReader, Failure> {
        let of = Selector::parse(of).map_err(Failure::BadRequest)?;
        Ok(self.handle.logs(&of, stream)?)
    }

    /// How the named queues are doing; all of the manifest when `names` is empty.
    ///
    /// # Errors
    /// A name is not known. What cannot be reached is told in its row.
    pub async fn queues(&self, names: &[String]) -> Result<QueueList, Failure> {
        Ok(self.desk.queues(names).await?)
    }

    /// Jobs of one queue.
    ///
    /// # Errors
    /// The name is not known, or its Redis does not answer.
    pub async fn jobs(
        &self,
        queue: &str,
        state: Option<JobState>,
        from: u64,
        limit: u64,
    ) -> Result<JobList, Failure> {
        Ok(self.desk.jobs(queue, state, from, limit).await?)
    }

    /// Stops (or allows again) all taking from queues.
    ///
    /// # Errors
    /// A name is not known; nothing was done then. What goes wrong later is told in the results.
    pub async fn set_paused(&self, peer: &Peer, names: &[String], paused: bool) -> Result<Results, Failure> {
        peer.note(format_args!("{} {}", if paused { "pause" } else { "resume" }, names.join(" ")));
        Ok(self.desk.set_paused(names, paused).await?)
    }

    /// Puts a job in.
    ///
    /// # Errors
    /// The queue is not known, the job makes no sense, or Redis does not answer.
    pub async fn push(&self, peer: &Peer, push: &Push) -> Result<Pushed, Failure> {
        peer.note(format_args!("push {} `{}`", push.queue, push.name));
        Ok(self.desk.push(push).await?)
    }

    /// Puts a whole payload in, byte for byte.
    ///
    /// # Errors
    /// The queue is not known, or Redis does not answer.
    pub async fn push_raw(
        &self,
        peer: &Peer,
        queue: &str,
        payload: Bytes,
        delay_ms: u64,
    ) -> Result<Pushed, Failure> {
        peer.note(format_args!("push {queue} a payload of {} bytes", payload.len()));
        Ok(self.desk.push_raw(queue, &payload, delay_ms).await?)
    }

    /// Failed jobs, newest first.
    ///
    /// # Errors
    /// The queue is not known.
    pub async fn failed(&self, queue: Option<&str>, from: u64, limit: u64) -> Result<FailedList, Failure> {
        Ok(self.desk.failed_list(queue, from, limit).await?)
    }

    /// One failed job.
    ///
    /// # Errors
    /// There is none of this id, or a store does not answer.
    pub async fn failed_show(&self, id: &str) -> Result<FailedDetail, Failure> {
        Ok(self.desk.failed_show(id).await?)
    }

    /// Puts failed jobs back into their queues.
    ///
    /// # Errors
    /// The queue is not known, or a store does not answer before anything was done.
    pub async fn failed_retry(&self, peer: &Peer, which: &Which) -> Result<Results, Failure> {
        peer.note(format_args!("failed retry {}", Chosen(which)));
        Ok(self.desk.failed_retry(which).await?)
    }

    /// Removes records of failed jobs.
    ///
    /// # Errors
    /// No ids are given.
    pub async fn failed_forget(&self, peer: &Peer, which: &Which) -> Result<Results, Failure> {
        peer.note(format_args!("failed forget {}", Chosen(which)));
        if which.ids.is_empty() {
            return Err(Failure::BadRequest("forget takes ids; `flush` removes all".to_owned()));
        }
        Ok(self.desk.failed_forget(&which.ids).await?)
    }

    /// Removes all (or all old) records of failed jobs.
    ///
    /// # Errors
    /// The queue is not known.
    pub async fn failed_flush(&self, peer: &Peer, flush: &Flush) -> Result<Flushed, Failure> {
        let queue = flush.queue.as_deref().unwrap_or("all queues");
        peer.note(format_args!("failed flush {queue}, older than {} h", flush.older_than_hours.unwrap_or(0)));
        Ok(self.desk.failed_flush(flush).await?)
    }
}

/// Whoever may ask may not therefore have the daemon run any program with its own rights.
fn may_name_a_program(peer: &Peer, binary: &Path) -> Result<(), Failure> {
    if !binary.is_absolute() {
        return Err(Failure::BadRequest(format!("`{}` is no absolute path", binary.display())));
    }
    if peer.is_root_or_ourselves() {
        return Ok(());
    }
    let why =
        "only root and the daemon's own user may name a program; without a name everybody may".to_owned();
    Err(Failure::Refused(Refusal::NotUpgraded { why }))
}

/// A command in an operator's words, for the log.
struct Words<'a>(&'a Command);

impl fmt::Display for Words<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, names, more) = match self.0 {
            Command::Start { names } => ("start", names.as_slice(), ""),
            Command::Stop { names } => ("stop", names.as_slice(), ""),
            Command::Restart { names, now, batch } => {
                out.write_str("restart")?;
                if let Some(batch) = batch {
                    write!(out, " --batch {batch}")?;
                }
                ("", names.as_slice(), if *now { " --now" } else { "" })
            }
            Command::Scale { group, to } => return write!(out, "scale {group}={to}"),
            Command::Signal { names, signal } => {
                write!(out, "signal {signal}")?;
                ("", names.as_slice(), "")
            }
            Command::Reload { dry_run, reset } => {
                let dry_run = if *dry_run { " --dry-run" } else { "" };
                return write!(out, "reload{dry_run}{}", if *reset { " --reset" } else { "" });
            }
            Command::Reread => ("reread", [].as_slice(), ""),
            Command::AddGroup { group } => return write!(out, "add {group}"),
            Command::RemoveGroup { group } => return write!(out, "remove {group}"),
            // What is written may be a secret.
            Command::Input { name, text } => return write!(out, "write {} bytes to {name}", text.len()),
            Command::Shutdown { .. } => ("shutdown", [].as_slice(), ""),
            Command::StartOver => ("begin anew", [].as_slice(), ""),
            Command::Upgrade { binary: None } => ("upgrade", [].as_slice(), ""),
            Command::Upgrade { binary: Some(binary) } => {
                return write!(out, "upgrade --binary {}", binary.display());
            }
        };
        out.write_str(word)?;
        for name in names {
            write!(out, " {name}")?;
        }
        out.write_str(more)
    }
}

/// Which failed jobs, for the log.
struct Chosen<'a>(&'a Which);

impl fmt::Display for Chosen<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.queue, self.0.all) {
            (Some(queue), _) => write!(out, "all of {queue}"),
            (None, true) => out.write_str("all"),
            (None, false) => out.write_str(&self.0.ids.join(" ")),
        }
    }
}
