//! Writing a job to the failed store. It stays reserved until that is done, so a death in between leaves a record too many,
//! never a job too few.

use std::sync::Arc;

use qfleet_model::job::Job;
use qfleet_model::outcome::Reason;
use qfleet_model::time::WallTime;
use qfleet_queue::error::QueueError;
use qfleet_queue::failed::{FailedJob, FailedJobs, record_id};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tracing::warn;

use crate::outage::pause;
use crate::run::Event;
use crate::slots::HoldId;

/// What is kept of a job that failed for good; `status` is how its last delivery ended, if it was delivered.
pub(crate) fn record(
    job: &Job,
    reason: &Reason,
    status: Option<&str>,
    connection: &str,
    now: WallTime,
) -> FailedJob {
    let status = status.map(|status| format!(", status {status}")).unwrap_or_default();
    FailedJob {
        id: if job.id.is_empty() { record_id(&job.payload) } else { job.id.clone() },
        connection: connection.to_owned(),
        queue: job.queue.clone(),
        name: job.name.clone(),
        payload: job.payload.clone(),
        class: reason.class.clone(),
        reason: format!(
            "{}\nattempt {}, delivery {}{status}",
            reason.text,
            job.attempt,
            job.history.deliveries + 1
        ),
        failed_at: now,
        unreadable: false,
    }
}

/// Writes the record, however long that takes, and says so.
pub(crate) fn write(
    id: HoldId,
    store: Arc<dyn FailedJobs>,
    record: FailedJob,
    events: UnboundedSender<Event>,
) -> AbortHandle {
    let task = tokio::spawn(async move {
        let mut failures = 0_u32;
        while let Err(error) = store.record(&record).await {
            // Of an outage the turns tell.
            if let (QueueError::Refused(why), 0) = (&error, failures) {
                warn!(queue = record.queue, job = record.id, "cannot write a failed job, trying on: {why}");
            }
            tokio::time::sleep(pause(failures, fastrand::f64())).await;
            failures = failures.saturating_add(1);
        }
        let _ended = events.send(Event::Buried(id));
    });
    task.abort_handle()
}
