//! Everything about queues one may ask of the daemon: how full they are, what is in them, pause, push, failed jobs.
//!
//! It goes past the supervisor straight to the stores. Drivers are opened when somebody asks and closed after ten
//! seconds without a question, so an idle daemon holds no connection. Queues go by the manifest's name, or as
//! `connection/queue` for one queue in Redis. Every question has a limit of time; a store that does not answer spoils
//! its own rows only.

mod backlogs;
mod failed;
mod names;
mod open;
mod queues;
mod rate;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::Connection;
use qfleet_queue::error::QueueError;
use qfleet_supervisor::Handle;

pub use crate::desk::backlogs::Backlogs;
use crate::desk::open::Cabinet;
use crate::desk::rate::Rates;
use crate::protocol::ErrorBody;

/// Longest wait for one answer of a store.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a question about queues has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskError {
    /// There is no such queue or failed job.
    Unknown {
        /// What was asked for.
        what: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The question makes no sense.
    BadRequest(String),
    /// The store does not answer; ask again later.
    Unreachable {
        /// The connection's name.
        connection: String,
        /// What happened, with its address.
        why: String,
    },
    /// The store says that this cannot work.
    Refused {
        /// The connection's name.
        connection: String,
        /// What it said.
        why: String,
    },
}

impl DeskError {
    /// There is no such thing.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// The asker made a mistake.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::BadRequest(_))
    }

    /// What the asker gets to read.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let (code, hint) = match self {
            Self::Unknown { hint, .. } => ("unknown", hint.clone()),
            Self::BadRequest(_) => ("bad-request", None),
            Self::Unreachable { .. } => {
                ("unreachable", Some("workers wait for it and go on by themselves; try again".to_owned()))
            }
            Self::Refused { .. } => ("queue-refused", None),
        };
        ErrorBody { code: code.to_owned(), error: self.to_string(), hint }
    }

    /// What a driver said, with the connection it said it of.
    fn of(connection: &Connection, error: QueueError) -> Self {
        let name = connection.name.clone();
        match error {
            QueueError::Unreachable(why) => Self::Unreachable { connection: name, why },
            QueueError::Refused(why) => Self::Refused { connection: name, why },
        }
    }
}

impl fmt::Display for DeskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { what, .. } => write!(out, "there is no {what}"),
            Self::BadRequest(what) => out.write_str(what),
            Self::Unreachable { connection, why } | Self::Refused { connection, why } => {
                write!(out, "connection `{connection}`: {why}")
            }
        }
    }
}

impl std::error::Error for DeskError {}

/// The place where questions about queues are answered.
#[derive(Debug)]
pub struct Desk {
    handle: Handle,
    cabinet: Arc<Cabinet>,
    rates: Arc<Rates>,
}

impl Desk {
    /// A desk that always goes by the manifest in force. It must be made inside a runtime, where it leaves two tasks:
    /// one closes idle drivers, one watches the workers' counters.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        let cabinet = Arc::new(Cabinet::default());
        tokio::spawn(open::close_idle(Arc::clone(&cabinet)));
        let rates = Arc::new(Rates::default());
        tokio::spawn(rate::watch(Arc::clone(&rates), handle.clone()));
        Self { handle, cabinet, rates }
    }
}

/// Waits for a store's answer, and not longer than anybody wants to wait for a listing.
async fn in_time<T>(
    connection: &Connection,
    answer: impl Future<Output = Result<T, QueueError>>,
) -> Result<T, DeskError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|error| DeskError::of(connection, error)),
        Err(_) => {
            let why = format!(
                "redis at `{}` gave no answer within {} s",
                connection.redis.shown(),
                PATIENCE.as_secs()
            );
            Err(DeskError::of(connection, QueueError::Unreachable(why)))
        }
    }
}
