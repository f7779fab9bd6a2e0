//! The trait every handler is behind.
//!
//! A handler cannot fail in Rust's sense: whatever happens is an outcome, and what it tells of the endpoint's health is
//! a [`Health`]. Dropping the future stops the work; the shell handler then ends its child's whole group.

pub mod identity;

mod body;
mod control;
pub(crate) mod facts;
mod http;
mod output;
mod retry_after;
#[cfg(test)]
mod sample;
mod shell;
mod signature;
mod structured;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use qfleet_manifest::handler::Handler as Settings;
use qfleet_model::job::Job;
use qfleet_model::outcome::Outcome;
use qfleet_model::time::{Moment, WallTime};
use qfleet_queue::driver::Remark;
use tokio::sync::watch;

pub use http::{Clients, Names, SystemNames};

/// What all handlers of a worker process have in common.
#[derive(Debug, Clone)]
pub struct HandlerContext {
    /// From the stop signal to SIGKILL for a job's processes, where a handler does not say.
    pub kill_after: Duration,
    /// Variables that job processes do not inherit.
    pub secret_variables: Vec<String>,
    /// Longest delay a handler may ask for; a queue's own setting.
    pub max_delay: Duration,
    /// HTTP clients, shared by all handlers that were opened with clones of this context.
    pub clients: Clients,
    /// Looks up host names; another than the system's in tests only.
    pub names: Arc<dyn Names>,
}

impl HandlerContext {
    /// With the system's name service and clients of its own.
    #[must_use]
    pub fn new(kill_after: Duration, secret_variables: Vec<String>, max_delay: Duration) -> Self {
        Self {
            kill_after,
            secret_variables,
            max_delay,
            clients: Clients::default(),
            names: Arc::new(SystemNames),
        }
    }
}

/// Settings to handler: the only list of handlers.
///
/// # Errors
/// What cannot be used (a key, a certificate file, a URL), without secrets.
pub fn open(settings: &Settings, context: &HandlerContext) -> Result<Arc<dyn Handler>, String> {
    Ok(match settings {
        Settings::Http(http) => Arc::new(http::Http::open(http, context)?),
        Settings::Shell(shell) => Arc::new(shell::Shell::open(shell, context)),
    })
}

/// One delivery: a job on its way to a handler.
#[derive(Debug)]
pub struct Delivery {
    /// The job.
    pub job: Job,
    /// Identity of the job over all deliveries: `job_` and 22 characters (handler contract, version 1).
    pub identity: String,
    /// Unique to this delivery: 26 characters, sortable by time.
    pub id: String,
    /// Number of this delivery, from 1.
    pub number: u32,
    /// Tries of the job; `None` is unlimited.
    pub tries: Option<u32>,
    /// Limit of this delivery; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// The same as a moment.
    pub deadline: Option<Moment>,
    /// The same as a date.
    pub deadline_at: Option<WallTime>,
    /// When it was handed over.
    pub started_at: WallTime,
    /// Turns to `Some` when the work must end before its deadline.
    pub cancel: watch::Receiver<Option<Cancel>>,
    /// Where a shell handler notes its process group, so that a successor can end it after our death.
    pub group: Arc<dyn GroupNote>,
    /// Where it says how far it is.
    pub remarks: Arc<dyn Remarks>,
}

/// Why a delivery must end before its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// `stop-wait` has passed: forced stop.
    Stop,
    /// The reservation is another worker's by now.
    Lost,
}

/// Keeps the process group of a delivery in the ledger; zero is none.
pub trait GroupNote: Send + Sync + fmt::Debug {
    /// Notes it.
    fn set(&self, group: i32);
}

/// Takes what a handler says of its job while it runs; never waits.
pub trait Remarks: Send + Sync + fmt::Debug {
    /// Passes it on to the store, where that keeps it.
    fn add(&self, remark: Remark);
}

/// What a delivery told of its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// Says nothing about it.
    Neutral,
    /// Counts towards tripping the gate.
    Failure,
    /// Hold the gate this long (429, 503, `scope=endpoint`); `None`: the usual growing pause.
    Hold(Option<Duration>),
    /// Trip the gate at once (TLS, cannot execute).
    Trip {
        /// `tls`, `not_found`, …, for people.
        alert: &'static str,
    },
    /// Trips the gate after `after` of the same alert in a row (auth, misrouted, gone).
    TripAfter {
        /// How many in a row.
        after: u32,
        /// `auth`, `misrouted`, …
        alert: &'static str,
    },
}

/// The end of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What becomes of the job is decided from this.
    pub outcome: Outcome,
    /// What it told of the endpoint.
    pub health: Health,
    /// For `Job-Previous-Status` of the next delivery: HTTP status, exit code, `timeout`, `crash`, `unreachable`.
    pub status: Option<String>,
    /// Lines for the log of the delivery (tail of stderr, warnings such as `bad_control`), without payload or secrets.
    pub notes: Vec<String>,
}

/// Whoever does the work.
#[async_trait]
pub trait Handler: Send + Sync + fmt::Debug {
    /// Hands one job over and waits for its end; keeps the deadline and obeys `cancel` itself.
    async fn handle(&self, delivery: Delivery) -> Ended;
}

/// Waits until the delivery must end early; for ever if nobody can say so any more.
async fn cancelled(cancel: &mut watch::Receiver<Option<Cancel>>) -> Cancel {
    match cancel.wait_for(Option::is_some).await.map(|why| *why) {
        Ok(Some(why)) => why,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}
