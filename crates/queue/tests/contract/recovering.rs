//! Promises about the jobs of dead workers.
//!
//! A worker's death is its driver being dropped; what its ledger would say is written down by hand.

use std::time::Duration;

use qfleet_model::outcome::{Note, Verdict};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::{DeadHold, DeadState, DeadVerdict, DeadWorker, QueueDriver, Recovered, Reserved};

use super::{BOTH, OTHER, Rig, job_of, names, push, settle, take, take_one, take_soon};

const DEAD: u32 = 77;

fn hold(job: &Reserved, state: DeadState) -> DeadHold {
    DeadHold { lane: job.lane, queue: job.receipt.queue(), digest: job.receipt.digest(), state }
}

fn started(alone: bool) -> DeadState {
    DeadState::Started { alone, not_before: None }
}

fn ledger(held: Vec<DeadHold>) -> DeadWorker {
    DeadWorker { tag: DEAD, marks: Vec::new(), held }
}

/// Recovers, and once more, which must find nothing left.
async fn recover(driver: &dyn QueueDriver, dead: &DeadWorker) -> Recovered {
    let recovered = driver.recover(dead).await.unwrap();
    let again = driver.recover(dead).await.unwrap();
    assert_eq!(again, Recovered { returned: 0, buried: 0, gone: dead.held.len() as u32 });
    recovered
}

pub(crate) async fn fetched_jobs_go_back_uncounted(rig: &impl Rig) {
    let (dead, living) = (rig.open(DEAD), rig.open(2));
    push(rig, &*dead, BOTH, "low", &["a", "b", "c"]).await;
    push(rig, &*dead, BOTH, "high", &["h"]).await;
    let jobs = take(&*dead, BOTH, 3).await.jobs;
    drop(dead);
    let held = jobs.iter().map(|job| hold(job, DeadState::Fetched)).collect();
    let recovered = recover(&*living, &ledger(held)).await;
    assert_eq!(recovered, Recovered { returned: 3, buried: 0, gone: 0 });
    let jobs = take(&*living, BOTH, 9).await.jobs;
    assert_eq!(names(&jobs), ["h", "a", "b", "c"]);
    assert!(jobs.iter().all(|job| job_of(job).attempt == 1 && job_of(job).history.crashes == 0));
}

pub(crate) async fn started_jobs_go_back_with_a_crash(rig: &impl Rig) {
    let (dead, living) = (rig.open(DEAD), rig.open(2));
    push(rig, &*dead, OTHER, "other", &["a", "b", "c"]).await;
    let jobs = take(&*dead, OTHER, 2).await.jobs;
    drop(dead);
    let held = jobs.iter().map(|job| hold(job, started(false))).collect();
    assert_eq!(recover(&*living, &ledger(held)).await.returned, 2);
    let jobs = take(&*living, OTHER, 9).await.jobs;
    assert_eq!(names(&jobs), ["a", "b", "c"]);
    for job in &jobs[..2] {
        let job = job_of(job);
        assert_eq!((job.attempt, job.history.crashes, job.history.deliveries), (2, 1, 1));
        assert_eq!(job.history.previous.as_deref(), Some("crash"));
    }
}

pub(crate) async fn a_job_waits_for_its_deadline(rig: &impl Rig) {
    let (dead, living) = (rig.open(DEAD), rig.open(2));
    push(rig, &*dead, OTHER, "other", &["job"]).await;
    let job = take_one(&*dead, OTHER).await;
    drop(dead);
    let not_before = Some(in_a_minute());
    let held = vec![hold(&job, DeadState::Started { alone: false, not_before })];
    assert_eq!(recover(&*living, &ledger(held)).await.returned, 1);
    let turn = take(&*living, OTHER, 1).await;
    assert!(turn.jobs.is_empty());
    assert_eq!(turn.next_due, not_before);
}

pub(crate) async fn what_was_settling_is_settled(rig: &impl Rig) {
    let (dead, living) = (rig.open(DEAD), rig.open(2));
    push(rig, &*dead, OTHER, "other", &["done", "counted", "uncounted", "other"]).await;
    let jobs = take(&*dead, OTHER, 4).await.jobs;
    drop(dead);
    let now = WallTime::from_seconds(in_a_minute().as_seconds() - 61);
    let verdicts = [
        DeadVerdict::Complete,
        DeadVerdict::Again { due: now, counted: true },
        DeadVerdict::Again { due: now, counted: false },
        DeadVerdict::Other,
    ];
    let held =
        jobs.iter().zip(verdicts).map(|(job, verdict)| hold(job, DeadState::Settling(verdict))).collect();
    assert_eq!(recover(&*living, &ledger(held)).await.returned, 4);
    let mut back = Vec::new();
    for _ in 0..3 {
        let job = take_soon(&*living, OTHER, Duration::from_secs(60)).await;
        back.push((job_of(&job).name.clone(), job_of(&job).attempt));
    }
    back.sort();
    let expected = [("counted".to_owned(), 2), ("other".to_owned(), 2), ("uncounted".to_owned(), 1)];
    assert_eq!(back, expected);
    assert!(take(&*living, OTHER, 1).await.jobs.is_empty());
}

pub(crate) async fn a_third_crash_alone_buries(rig: &impl Rig) {
    let living = rig.open(2);
    push(rig, &*living, OTHER, "other", &["killer", "neighbour"]).await;
    for crash in 1..=3 {
        let dead = rig.open(DEAD);
        let jobs = take(&*dead, OTHER, if crash == 1 { 2 } else { 1 }).await.jobs;
        assert_eq!(job_of(&jobs[0]).name, "killer");
        assert_eq!(job_of(&jobs[0]).history.crashes, crash - 1);
        drop(dead);
        let held = jobs.iter().map(|job| hold(job, started(crash > 1))).collect();
        let recovered = recover(&*living, &ledger(held)).await;
        assert_eq!(recovered.buried, u32::from(crash == 3), "crash {crash}");
    }
    let depth = living.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.reserved, depth.failed), (1, 0, 1));
    assert_eq!(names(&take(&*living, OTHER, 9).await.jobs), ["neighbour"]);
}

pub(crate) async fn jobs_of_a_lost_reply_go_back(rig: &impl Rig) {
    let (dead, living) = (rig.open(DEAD), rig.open(2));
    push(rig, &*dead, BOTH, "high", &["a", "b"]).await;
    let mark = dead.mark();
    let asks = [qfleet_queue::driver::Ask { lane: BOTH, at_most: 5 }];
    let turn = dead.turn(&[], &asks, mark).await.unwrap();
    assert_eq!(turn.jobs.len(), 2);
    drop(dead);
    // Only the first was noted before the worker died.
    let noted = hold(&turn.jobs[0], DeadState::Fetched);
    let dead = DeadWorker { tag: DEAD, marks: vec![mark], held: vec![noted] };
    let recovered = living.recover(&dead).await.unwrap();
    assert_eq!(recovered, Recovered { returned: 2, buried: 0, gone: 0 });
    let jobs = take(&*living, BOTH, 9).await.jobs;
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job_of(job).attempt == 1));
}

pub(crate) async fn others_jobs_are_left_alone(rig: &impl Rig) {
    let (dead, living, third) = (rig.open(DEAD), rig.open(2), rig.open(3));
    push(rig, &*dead, OTHER, "other", &["settled", "given back", "third's"]).await;
    let jobs = take(&*dead, OTHER, 2).await.jobs;
    let held = jobs.iter().map(|job| hold(job, started(false))).collect();
    settle(&*dead, &jobs[0], Verdict::Complete { result: None }).await;
    settle(&*dead, &jobs[1], Verdict::GiveBack).await;
    drop(dead);
    // The very bytes the dead worker held, in somebody else's hands.
    let taken = take(&*third, OTHER, 2).await.jobs;
    assert_eq!(names(&taken), ["given back", "third's"]);
    assert_eq!(living.recover(&ledger(held)).await.unwrap(), Recovered { returned: 0, buried: 0, gone: 2 });
    let depth = living.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.reserved), (0, 2));
    let note = Note::default();
    for job in &taken {
        let verdict = Verdict::Retry { after: Duration::ZERO, note: note.clone() };
        assert_eq!(settle(&*third, job, verdict).await, qfleet_queue::driver::Settled::Done);
    }
}

fn in_a_minute() -> WallTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime::from_seconds(now.as_secs() as i64 + 60)
}
