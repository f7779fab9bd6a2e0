//! Promises about jobs that were not run, or no longer run.

use std::time::Duration;

use qfleet_model::outcome::Verdict;
use qfleet_model::time::WallTime;
use qfleet_queue::driver::{Settled, Settlement};

use super::{OTHER, Rig, job_of, names, push, settle, take, take_one};

pub(crate) async fn a_job_goes_back_uncounted_and_first(rig: &impl Rig) {
    let (driver, other) = (rig.open(1), rig.open(2));
    push(rig, &*driver, OTHER, "other", &["a", "b"]).await;
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(settle(&*driver, &job, Verdict::GiveBack).await, Settled::Done);
    let again = take_one(&*other, OTHER).await;
    assert_eq!(job_of(&again).name, "a");
    assert_eq!(job_of(&again).attempt, 1);
    assert_eq!(job_of(&again).payload, job_of(&job).payload);
}

pub(crate) async fn several_go_back_in_their_order(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["a", "b", "c", "d"]).await;
    let jobs = take(&*driver, OTHER, 3).await.jobs;
    let settle: Vec<Settlement> = jobs
        .iter()
        .map(|job| Settlement { receipt: job.receipt.clone(), verdict: Verdict::GiveBack })
        .collect();
    let turn = driver.turn(&settle, &[], driver.mark()).await.unwrap();
    assert_eq!(turn.settled, [Settled::Done; 3]);
    assert_eq!(names(&take(&*driver, OTHER, 5).await.jobs), ["a", "b", "c", "d"]);
}

pub(crate) async fn a_job_goes_back_for_a_date(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let due = WallTime::from_seconds(now.as_secs() as i64) + Duration::from_secs(60);
    assert_eq!(settle(&*driver, &job, Verdict::GiveBackAt { due }).await, Settled::Done);
    let turn = take(&*driver, OTHER, 1).await;
    assert!(turn.jobs.is_empty());
    assert_eq!(turn.next_due, Some(due));
}

/// The next holder's reservation may look the very same; it must not be ended by the last one's.
pub(crate) async fn a_job_given_back_is_not_ours_any_more(rig: &impl Rig) {
    let (first, second) = (rig.open(1), rig.open(2));
    push(rig, &*first, OTHER, "other", &["job"]).await;
    let job = take_one(&*first, OTHER).await;
    settle(&*first, &job, Verdict::GiveBack).await;
    let again = take_one(&*second, OTHER).await;
    for verdict in [Verdict::GiveBack, Verdict::Complete { result: None }] {
        assert_eq!(settle(&*first, &job, verdict).await, Settled::Lost);
    }
    assert_eq!(settle(&*second, &again, Verdict::Complete { result: None }).await, Settled::Done);
}
