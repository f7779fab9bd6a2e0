//! One hand-over to a handler: what it is given, and what is made of one that does not keep its contract.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use qfleet_model::job::Job;
use qfleet_model::outcome::{Outcome, Reason};
use qfleet_model::time::{Moment, WallTime};
use qfleet_os::{clock, usage};
use tokio::sync::watch;

use crate::handler::identity::{delivery_id, webhook_id};
use crate::handler::{Cancel, Delivery, Ended, GroupNote, Handler, Health, Remarks};
use crate::hold::ledger::Ledger;
use crate::lanes::Server;
use crate::run::Broken;

/// A handler keeps its deadline itself; this long after it (and after `kill-after`) it is let go.
pub(crate) const OVERDUE: Duration = Duration::from_secs(5);
/// A receiver elsewhere may still work on a delivery for this long after its deadline.
const RECEIVER_MARGIN: Duration = Duration::from_secs(5);
/// The same for a delivery without a deadline, from now.
const RECEIVER_LONGEST: Duration = Duration::from_secs(300);
/// Where a delivery notes its process group.
#[derive(Debug)]
pub(crate) struct GroupInLedger {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) record: usize,
}

impl GroupNote for GroupInLedger {
    fn set(&self, group: i32) {
        let started_at = if group > 1 { usage::of(group).map_or(0, |usage| usage.started_at) } else { 0 };
        self.ledger.group(self.record, group.max(0), started_at);
    }
}

/// A job on its way to a handler.
pub(crate) fn delivery(
    job: &Job,
    server: &Server,
    cancel: watch::Receiver<Option<Cancel>>,
    group: Arc<dyn GroupNote>,
    remarks: Arc<dyn Remarks>,
    now: Moment,
) -> Delivery {
    let started_at = clock::wall();
    let timeout = server.policy.timeout(job);
    Delivery {
        identity: webhook_id(job),
        id: delivery_id(started_at, random()),
        number: job.history.deliveries.saturating_add(1),
        // With a last date the tries do not count.
        tries: server.policy.tries(job).filter(|_| job.limits.retry_until.is_none()),
        timeout,
        deadline: timeout.map(|timeout| now + timeout),
        deadline_at: timeout.map(|timeout| started_at + timeout),
        started_at,
        cancel,
        group,
        remarks,
        job: job.clone(),
    }
}

/// Waits for the end of a delivery, but not for a handler that forgets its deadline.
pub(crate) async fn handle(
    handler: &dyn Handler,
    delivery: Delivery,
    let_go: Option<Duration>,
) -> Result<Ended, Broken> {
    let handling = AssertUnwindSafe(handler.handle(delivery)).catch_unwind();
    let ended = match let_go {
        Some(limit) => tokio::time::timeout(limit, handling).await.map_err(|_| Broken::Overdue)?,
        None => handling.await,
    };
    ended.map_err(|_| Broken::Panicked)
}

/// What is made of a handler that did not keep its contract.
pub(crate) fn without_end(broken: Broken, local: bool) -> Ended {
    let outcome = match broken {
        Broken::Panicked => Outcome::Crashed {
            reason: Reason::classed("handler_panic", "the handler panicked; this is a defect of ours"),
        },
        Broken::Overdue => {
            Outcome::TimedOut { at_least: if local { Duration::ZERO } else { RECEIVER_MARGIN } }
        }
    };
    Ended { outcome, health: Health::Neutral, status: None, notes: Vec::new() }
}

/// When a receiver elsewhere does not work on a delivery any more.
pub(crate) fn receiver_is_done(deadline: Option<WallTime>, now: WallTime) -> WallTime {
    deadline.map_or(now + RECEIVER_LONGEST, |deadline| deadline + RECEIVER_MARGIN)
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    fastrand::fill(&mut bytes);
    bytes
}
