//! Promises about verdicts and leases.

use std::time::{Duration, Instant};

use qfleet_model::outcome::{Note, Reason, Verdict};
use qfleet_queue::driver::{Ask, Renewal, Settled, Settlement};

use super::{OTHER, Rig, job_of, names, push, settle, take, take_one, take_soon};

const SOON: Duration = Duration::from_secs(60);

fn retry(after: Duration) -> Verdict {
    Verdict::Retry { after, note: Note { exception: true, status: Some("500".into()), ..Note::default() } }
}

fn snooze(after: Duration) -> Verdict {
    Verdict::Snooze { after, note: Note { snooze: true, status: Some("409".into()), ..Note::default() } }
}

fn complete() -> Verdict {
    Verdict::Complete { result: None }
}

pub(crate) async fn a_finished_job_is_gone(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(settle(&*driver, &job, complete()).await, Settled::Done);
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0));
}

pub(crate) async fn a_verdict_counts_once(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(settle(&*driver, &job, retry(Duration::from_secs(60))).await, Settled::Done);
    // Answered, and sent once more: that is another verdict, and too late.
    assert_eq!(settle(&*driver, &job, retry(Duration::ZERO)).await, Settled::Lost);
    assert_eq!(settle(&*driver, &job, Verdict::GiveBack).await, Settled::Lost);
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 1, 0));
}

pub(crate) async fn a_retried_job_comes_back_counted(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    let settled = Instant::now();
    assert_eq!(settle(&*driver, &job, retry(Duration::from_secs(2))).await, Settled::Done);
    assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    let again = take_soon(&*driver, OTHER, SOON).await;
    assert!(settled.elapsed() >= Duration::from_millis(1999));
    assert_eq!(job_of(&again).attempt, 2);
    assert_eq!(job_of(&again).id, job_of(&job).id);
}

pub(crate) async fn a_snoozed_job_comes_back_uncounted(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(settle(&*driver, &job, snooze(Duration::from_secs(2))).await, Settled::Done);
    assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    let again = take_soon(&*driver, OTHER, SOON).await;
    assert_eq!(job_of(&again).attempt, 1);
    assert_eq!(job_of(&again).payload, job_of(&job).payload);
    assert_eq!((job_of(&again).history.deliveries, job_of(&again).history.snoozes), (1, 1));
}

pub(crate) async fn a_retry_can_be_had_at_once(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    let settlement = Settlement { receipt: job.receipt.clone(), verdict: retry(Duration::ZERO) };
    let turn = driver.turn(&[settlement], &[Ask { lane: OTHER, at_most: 1 }], driver.mark()).await.unwrap();
    assert_eq!(turn.settled, [Settled::Done]);
    let again = match turn.jobs.into_iter().next() {
        Some(again) => again,
        None => take_soon(&*driver, OTHER, SOON).await,
    };
    assert_eq!(job_of(&again).attempt, 2);
}

pub(crate) async fn a_renewed_job_stays_ours(rig: &impl Rig) {
    let (first, second) = (rig.open(1), rig.open(2));
    push(rig, &*first, OTHER, "other", &["job", "next"]).await;
    let jobs = take(&*first, OTHER, 2).await.jobs;
    let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
    let started = Instant::now();
    while started.elapsed() < first.lease() * 2 + Duration::from_millis(500) {
        assert_eq!(first.renew(&receipts).await.unwrap(), [Renewal::Held, Renewal::Held]);
        assert!(take(&*second, OTHER, 5).await.jobs.is_empty());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for job in &jobs {
        assert_eq!(settle(&*first, job, complete()).await, Settled::Done);
    }
}

pub(crate) async fn a_lost_job_cannot_be_settled(rig: &impl Rig) {
    let (first, second) = (rig.open(1), rig.open(2));
    push(rig, &*first, OTHER, "other", &["job"]).await;
    let job = take_one(&*first, OTHER).await;
    let again = take_soon(&*second, OTHER, first.lease() * 2 + SOON).await;
    assert_eq!(first.renew(std::slice::from_ref(&job.receipt)).await.unwrap(), [Renewal::Lost]);
    for verdict in [complete(), retry(Duration::ZERO), snooze(Duration::ZERO), Verdict::GiveBack] {
        assert_eq!(settle(&*first, &job, verdict).await, Settled::Lost);
    }
    let depth = first.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 1));
    assert_eq!(settle(&*second, &again, complete()).await, Settled::Done);
}

pub(crate) async fn settling_and_taking_share_a_call(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["a", "b", "c", "d"]).await;
    let jobs = take(&*driver, OTHER, 3).await.jobs;
    let verdicts = [complete(), retry(Duration::from_secs(60)), Verdict::GiveBack];
    let settle: Vec<Settlement> = jobs
        .iter()
        .zip(verdicts)
        .map(|(job, verdict)| Settlement { receipt: job.receipt.clone(), verdict })
        .collect();
    let turn = driver.turn(&settle, &[Ask { lane: OTHER, at_most: 1 }], driver.mark()).await.unwrap();
    assert_eq!(turn.settled, [Settled::Done; 3]);
    assert_eq!(names(&turn.jobs), ["c"]);
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (1, 1, 1));
}

pub(crate) async fn counters_are_remembered_and_forgotten(rig: &impl Rig) {
    let driver = rig.open(1);
    let payload = rig.payload("job");
    driver.push(OTHER, "other", &payload, None).await.unwrap();
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(job_of(&job).history, Default::default());
    settle(&*driver, &job, snooze(Duration::ZERO)).await;
    let job = take_soon(&*driver, OTHER, SOON).await;
    settle(&*driver, &job, retry(Duration::ZERO)).await;
    let job = take_soon(&*driver, OTHER, SOON).await;
    let crashed = Note { crash: true, status: Some("crash".into()), ..Note::default() };
    settle(&*driver, &job, Verdict::Retry { after: Duration::ZERO, note: crashed }).await;
    let job = take_soon(&*driver, OTHER, SOON).await;
    let history = &job_of(&job).history;
    assert_eq!((history.deliveries, history.snoozes, history.exceptions, history.crashes), (3, 1, 1, 1));
    assert_eq!(history.previous.as_deref(), Some("crash"));
    assert!(history.first_delivery.is_some());
    assert_eq!(job_of(&job).attempt, 3);
    settle(&*driver, &job, complete()).await;
    // The same job once more is a new one.
    driver.push(OTHER, "other", &payload, None).await.unwrap();
    assert_eq!(job_of(&take_one(&*driver, OTHER).await).history, Default::default());
}

pub(crate) async fn a_discarded_job_is_gone(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    let verdict = Verdict::Discard { reason: Reason::plain("not wanted") };
    assert_eq!(settle(&*driver, &job, verdict).await, Settled::Done);
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0));
}

pub(crate) async fn nothing_changes_nothing(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::Nothing).await;
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 1));
}
