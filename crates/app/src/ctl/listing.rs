//! What `--json` prints: fields that scripts depend on, in a fixed order. New fields are only ever added at the end.

use qfleet_api::protocol::{FailedDetail, FailedRow, QueueRow};
use qfleet_model::link::Report;
use qfleet_model::snapshot::{Exit, Keeping, ProcessView, RunView, ScheduleView, StateWord};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::{JobState, ListedJob};
use serde::Serialize;

/// `status --json`: one object a process.
#[derive(Debug, Serialize)]
pub(crate) struct Process<'a> {
    name: &'a str,
    group: &'a str,
    number: u32,
    state: StateWord,
    pid: Option<i32>,
    since: String,
    exit: &'a Option<Exit>,
    description: &'a str,
    error: &'a Option<String>,
    crashes: u32,
    started_at: Option<String>,
    stopped_at: Option<String>,
    report: &'a Option<Report>,
    tree: Keeping,
    schedule: Option<Schedule>,
}

/// What `status --json` says of a schedule.
#[derive(Debug, Serialize)]
pub(crate) struct Schedule {
    next: Option<String>,
    held: bool,
    last: Option<Run>,
    missed: u64,
    left_out: u64,
}

/// A run of a schedule that is over.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    date: Option<String>,
    began: Option<String>,
    ended: String,
    seconds: f64,
    failed: bool,
    text: String,
}

impl From<&ScheduleView> for Schedule {
    fn from(view: &ScheduleView) -> Self {
        let run = |last: &RunView| Run {
            date: last.date.map(WallTime::to_rfc3339),
            began: last.began.map(WallTime::to_rfc3339),
            ended: last.ended.to_rfc3339(),
            seconds: last.took.as_secs_f64(),
            failed: last.end.is_failure(),
            text: last.end.said(),
        };
        Self {
            next: view.next.map(WallTime::to_rfc3339),
            held: view.held,
            last: view.last.as_ref().map(run),
            missed: view.missed,
            left_out: view.left_out,
        }
    }
}

impl<'a> From<&'a ProcessView> for Process<'a> {
    fn from(view: &'a ProcessView) -> Self {
        Self {
            name: &view.name,
            group: &view.group,
            number: view.number,
            state: view.state,
            pid: view.pid,
            since: view.since.to_rfc3339(),
            exit: &view.exit,
            description: &view.description,
            error: &view.error,
            crashes: view.crashes,
            started_at: view.started_at.map(WallTime::to_rfc3339),
            stopped_at: view.stopped_at.map(WallTime::to_rfc3339),
            report: &view.report,
            tree: view.tree,
            schedule: view.schedule.as_ref().map(Schedule::from),
        }
    }
}

/// `queues --json`: one object a queue.
#[derive(Debug, Serialize)]
pub(crate) struct Queue<'a> {
    name: &'a str,
    connection: &'a str,
    queues: &'a [String],
    waiting: u64,
    delayed: u64,
    reserved: u64,
    failed: u64,
    oldest: Option<String>,
    rate: Option<f64>,
    drain_seconds: Option<f64>,
    paused: bool,
    error: &'a Option<String>,
}

impl<'a> From<&'a QueueRow> for Queue<'a> {
    fn from(row: &'a QueueRow) -> Self {
        Self {
            name: &row.name,
            connection: &row.connection,
            queues: &row.queues,
            waiting: row.waiting,
            delayed: row.delayed,
            reserved: row.reserved,
            failed: row.failed,
            oldest: row.oldest.map(WallTime::to_rfc3339),
            rate: row.rate,
            drain_seconds: row.drain_seconds,
            paused: row.paused,
            error: &row.error,
        }
    }
}

/// `jobs --json`: one object a job.
#[derive(Debug, Serialize)]
pub(crate) struct Job<'a> {
    id: &'a str,
    queue: &'a str,
    state: JobState,
    name: &'a str,
    attempts: u32,
    at: Option<String>,
    payload: &'a str,
}

impl<'a> From<&'a ListedJob> for Job<'a> {
    fn from(job: &'a ListedJob) -> Self {
        Self {
            id: &job.id,
            queue: &job.queue,
            state: job.state,
            name: &job.name,
            attempts: job.attempts,
            at: job.at.map(WallTime::to_rfc3339),
            payload: &job.payload,
        }
    }
}

/// `failed list --json`: one object a job.
#[derive(Debug, Serialize)]
pub(crate) struct Failed<'a> {
    id: &'a str,
    connection: &'a str,
    queue: &'a str,
    name: &'a str,
    class: &'a Option<String>,
    reason: &'a str,
    failed_at: String,
    unreadable: bool,
}

impl<'a> From<&'a FailedRow> for Failed<'a> {
    fn from(row: &'a FailedRow) -> Self {
        Self {
            id: &row.id,
            connection: &row.connection,
            queue: &row.queue,
            name: &row.name,
            class: &row.class,
            reason: &row.reason,
            failed_at: row.failed_at.to_rfc3339(),
            unreadable: row.unreadable,
        }
    }
}

/// `failed show --json`.
#[derive(Debug, Serialize)]
pub(crate) struct FailedWhole<'a> {
    #[serde(flatten)]
    row: Failed<'a>,
    laravel_name: &'a str,
    payload: &'a str,
    payload_base64: &'a Option<String>,
}

impl<'a> From<&'a FailedDetail> for FailedWhole<'a> {
    fn from(job: &'a FailedDetail) -> Self {
        let row = Failed { reason: &job.reason, ..Failed::from(&job.summary) };
        Self {
            row,
            laravel_name: &job.laravel_name,
            payload: &job.payload,
            payload_base64: &job.payload_base64,
        }
    }
}

/// A list of one of the above.
pub(crate) fn list<'a, T, Row: From<&'a T>>(items: &'a [T]) -> Vec<Row> {
    items.iter().map(Row::from).collect()
}
