//! What passes over the control socket under `/api/v1`, as JSON.
//!
//! Both sides ignore fields they do not know and fill in those that are missing where a sensible value exists, so a
//! client and a daemon one minor version apart understand each other. A request the daemon does not know is answered
//! with [`ErrorBody`] and code `unknown-request`.
//!
//! | Request | Answer |
//! | --- | --- |
//! | `GET status` | [`qfleet_model::snapshot::FleetSnapshot`] |
//! | `GET pid`, `GET version` | [`Pid`], [`Version`] |
//! | `POST command` with a [`qfleet_model::command::Command`] | [`qfleet_model::command::Reply`], when it is done |
//! | `GET logs/PROCESS/stdout?bytes=N&lines=N&from=N&follow=1` | the bytes as they are, chunked; [`LOG_POSITION`] says where they begin |
//! | `GET queues?name=Q` | [`QueueList`] |
//! | `GET jobs/QUEUE?state=S&from=N&limit=N` | [`JobList`] |
//! | `POST pause`, `POST resume` with [`QueueNames`] | [`Results`] |
//! | `POST push` with a [`Push`], or `POST push?queue=Q&delay-ms=N` with a payload as `application/octet-stream` | [`Pushed`] |
//! | `GET failed?queue=Q&from=N&limit=N`, `GET failed/ID` | [`FailedList`], [`FailedDetail`] |
//! | `POST failed/retry` with [`Which`], `POST failed/forget` with [`Which`] | [`Results`] |
//! | `POST failed/flush` with [`Flush`] | [`Flushed`] |

use qfleet_model::time::WallTime;
use qfleet_queue::driver::ListedJob;
use serde::{Deserialize, Serialize};

/// Where all of it is.
pub const BASE: &str = "/api/v1/";

/// Header of an answer with output: how many bytes there were before, ever.
pub const LOG_POSITION: &str = "log-position";

/// Number of this protocol; raised when an older reader would misunderstand.
pub const PROTOCOL: u32 = 1;

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable word for programs, e.g. `no-match`, `bad-manifest`, `unreachable`.
    pub code: String,
    /// What is wrong, for people.
    pub error: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

/// Process number of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pid {
    /// The number.
    pub pid: i32,
}

/// What the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its version, `0.1.0`.
    pub version: String,
    /// [`PROTOCOL`] it speaks.
    pub protocol: u32,
}

/// Queues by name: the manifest's, or `connection/queue`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueNames {
    /// The names.
    pub queues: Vec<String>,
}

/// One result for each thing asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// In the order asked.
    pub results: Vec<Done>,
}

/// What became of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// A queue, or the id of a failed job.
    pub name: String,
    /// Whether it is now as asked.
    pub ok: bool,
    /// `paused`, `resumed`, `retried`, `forgotten`, or what went wrong.
    pub text: String,
    /// What one should also know.
    #[serde(default)]
    pub note: Option<String>,
}

/// The queues.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueList {
    /// In the order of the manifest, or as asked.
    pub queues: Vec<QueueRow>,
}

/// How one queue is doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct QueueRow {
    /// As asked, else the manifest's name.
    pub name: String,
    /// Its connection.
    pub connection: String,
    /// Its queues in Redis.
    pub queues: Vec<String>,
    /// Ready to be taken.
    pub waiting: u64,
    /// Due later.
    pub delayed: u64,
    /// In some worker's hands.
    pub reserved: u64,
    /// Failed for good.
    pub failed: u64,
    /// Creation of the oldest ready job, where its payload says so.
    pub oldest: Option<WallTime>,
    /// Paused by an operator.
    pub paused: bool,
    /// Jobs finished a second over the last minute, where it is known: not for queues that share a pool.
    pub rate: Option<f64>,
    /// Seconds until it is empty at that rate, where it can be told.
    pub drain_seconds: Option<f64>,
    /// Why the figures are not known; they are zero then.
    pub error: Option<String>,
}

/// Jobs of one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobList {
    /// Waiting ones in the order they will be taken, then delayed, then reserved ones by date.
    pub jobs: Vec<ListedJob>,
    /// The list ends early because its payloads are large.
    #[serde(default)]
    pub cut: bool,
}

/// A job to be put in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Push {
    /// The manifest's name, or `connection/queue`.
    pub queue: String,
    /// Its name as the connection's family writes it.
    pub name: String,
    /// Its data as JSON text; byte for byte what the job gets.
    pub data: String,
    /// Due after so many milliseconds.
    pub delay_ms: u64,
}

/// Where a job was put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// Its connection.
    pub connection: String,
    /// Its queue in Redis.
    pub queue: String,
    /// Its id, where the payload has one.
    #[serde(default)]
    pub id: Option<String>,
    /// What one should also know.
    #[serde(default)]
    pub note: Option<String>,
}

/// Failed jobs, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedList {
    /// The jobs.
    pub failed: Vec<FailedRow>,
    /// Stores that could not be read, each with the reason.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// A failed job in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailedRow {
    /// Names the record.
    pub id: String,
    /// Connection of the manifest.
    pub connection: String,
    /// Its queue in Redis.
    pub queue: String,
    /// Job name, as far as readable.
    pub name: String,
    /// Short stable token for grouping.
    #[serde(default)]
    pub class: Option<String>,
    /// Why, first line.
    pub reason: String,
    /// When.
    pub failed_at: WallTime,
    /// Its payload could not be read as a job.
    #[serde(default)]
    pub unreadable: bool,
}

/// A failed job with everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailedDetail {
    /// As in the listing.
    pub summary: FailedRow,
    /// The connection's name in the application's own configuration.
    pub laravel_name: String,
    /// The whole reason.
    pub reason: String,
    /// The ready string; bytes that are not UTF-8 replaced.
    pub payload: String,
    /// The ready string in base64, when it is not UTF-8.
    #[serde(default)]
    pub payload_base64: Option<String>,
}

/// Which failed jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Which {
    /// These.
    pub ids: Vec<String>,
    /// All of this queue: the manifest's name, or `connection/queue`.
    pub queue: Option<String>,
    /// All.
    pub all: bool,
}

/// Which records to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Flush {
    /// Only of this queue.
    pub queue: Option<String>,
    /// Only what failed at least so many hours ago.
    pub older_than_hours: Option<u32>,
}

/// How many records were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// The number.
    pub removed: u64,
    /// Stores that could not be reached, each with the reason.
    #[serde(default)]
    pub problems: Vec<String>,
}
