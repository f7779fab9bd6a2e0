//! The promises of a queue driver as tests, written once for every family.
//!
//! A family brings a [`Rig`]: a real server of its own, drivers on it, and payloads. [`contract!`] makes one test of each
//! promise.

pub(crate) mod giving_back;
pub(crate) mod recovering;
pub(crate) mod settling;
pub(crate) mod taking;

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::job::Job;
use qfleet_model::outcome::Verdict;
use qfleet_queue::driver::{Ask, LaneId, QueueDriver, Reserved, Settled, Settlement, Turn};

/// Serves the queues `high` and `low`, in this order.
pub(crate) const BOTH: LaneId = LaneId(0);
/// Serves `other`.
pub(crate) const OTHER: LaneId = LaneId(1);

/// What a family brings along.
pub(crate) trait Rig {
    /// A driver with lanes [`BOTH`] and [`OTHER`], as a worker with this tag opens it.
    fn open(&self, tag: u32) -> Arc<dyn QueueDriver>;

    /// A payload whose job is named by `name`.
    fn payload(&self, name: &str) -> Vec<u8>;
}

/// Puts jobs in, in this order.
pub(crate) async fn push(
    rig: &impl Rig,
    driver: &dyn QueueDriver,
    lane: LaneId,
    queue: &str,
    names: &[&str],
) {
    for name in names {
        driver.push(lane, queue, &rig.payload(name), None).await.unwrap();
    }
}

/// One turn that only takes.
pub(crate) async fn take(driver: &dyn QueueDriver, lane: LaneId, at_most: u32) -> Turn {
    driver.turn(&[], &[Ask { lane, at_most }], driver.mark()).await.unwrap()
}

/// Takes exactly one job.
pub(crate) async fn take_one(driver: &dyn QueueDriver, lane: LaneId) -> Reserved {
    let mut turn = take(driver, lane, 1).await;
    assert_eq!(turn.jobs.len(), 1, "{turn:?}");
    turn.jobs.remove(0)
}

/// One turn that only settles one job.
pub(crate) async fn settle(driver: &dyn QueueDriver, job: &Reserved, verdict: Verdict) -> Settled {
    let settlement = Settlement { receipt: job.receipt.clone(), verdict };
    let turn = driver.turn(&[settlement], &[], driver.mark()).await.unwrap();
    turn.settled[0]
}

/// The names of jobs, in order.
pub(crate) fn names(jobs: &[Reserved]) -> Vec<&str> {
    jobs.iter().map(|job| job_of(job).name.as_str()).collect()
}

/// The job, which must be readable.
pub(crate) fn job_of(reserved: &Reserved) -> &Job {
    reserved.job.as_ref().expect("a payload that can be read")
}

/// Asks again and again, with a limit, until a turn brings a job.
pub(crate) async fn take_soon(driver: &dyn QueueDriver, lane: LaneId, limit: Duration) -> Reserved {
    let started = std::time::Instant::now();
    loop {
        let mut turn = take(driver, lane, 1).await;
        if let Some(job) = turn.jobs.pop() {
            return job;
        }
        assert!(started.elapsed() < limit, "no job came within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One test for each promise, on a rig made by `$rig`.
#[macro_export]
macro_rules! contract {
    ($rig:expr; $($module:ident: $($promise:ident)*;)*) => {
        $($(
            #[tokio::test]
            async fn $promise() {
                $crate::contract::$module::$promise(&$rig).await;
            }
        )*)*
    };
    ($rig:expr) => {
        $crate::contract! { $rig;
            taking: jobs_come_in_order_and_by_importance no_more_than_asked_for an_empty_queue_gives_nothing
                the_payload_is_what_was_pushed a_taken_job_is_taken_by_nobody_else a_delayed_job_comes_when_it_is_due
                the_next_due_date_is_told a_paused_queue_is_left_alone a_push_wakes_a_sleeper a_sleeper_gives_up_in_time
                a_cancelled_wait_loses_no_wakeup
                a_limit_changes_at_once_and_what_has_started_counts an_ended_lease_lets_others_take_the_job sizes_and_listings_are_right;
            settling: a_finished_job_is_gone a_verdict_counts_once a_retried_job_comes_back_counted
                a_snoozed_job_comes_back_uncounted a_retry_can_be_had_at_once a_renewed_job_stays_ours
                a_lost_job_cannot_be_settled settling_and_taking_share_a_call counters_are_remembered_and_forgotten
                a_discarded_job_is_gone nothing_changes_nothing;
            giving_back: a_job_goes_back_uncounted_and_first several_go_back_in_their_order
                a_job_goes_back_for_a_date a_job_given_back_is_not_ours_any_more;
            recovering: fetched_jobs_go_back_uncounted started_jobs_go_back_with_a_crash
                a_job_waits_for_its_deadline what_was_settling_is_settled a_third_crash_alone_buries
                jobs_of_a_lost_reply_go_back others_jobs_are_left_alone;
        }
    };
}
