//! Beside a real Laravel on the same queues: either side takes over from the other at any moment.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_model::outcome::{Note, Verdict};
use qfleet_queue::driver::{QueueDriver, Reserved, Settled, Settlement};
use qfleet_testkit::{JobKind, Php, Push};

use crate::contract::{OTHER, Rig as _, job_of, settle, take, take_soon};
use crate::rig::{LaravelRig, PREFIX, notify, reserved};

const SOON: Duration = Duration::from_secs(120);

fn laravel(rig: &LaravelRig) -> Php {
    Php::on(&rig.server).prefix(PREFIX)
}

fn retry() -> Verdict {
    Verdict::Retry { after: Duration::ZERO, note: Note { exception: true, ..Note::default() } }
}

async fn settle_all(driver: &dyn QueueDriver, jobs: &[Reserved], verdict: &Verdict) {
    let settle: Vec<Settlement> = jobs
        .iter()
        .map(|job| Settlement { receipt: job.receipt.clone(), verdict: verdict.clone() })
        .collect();
    let turn = driver.turn(&settle, &[], driver.mark()).await.unwrap();
    assert!(turn.settled.iter().all(|settled| *settled == Settled::Done));
}

#[tokio::test]
async fn what_laravel_pushes_we_take_and_what_we_retry_laravel_runs() {
    let rig = LaravelRig::new();
    let (driver, php) = (rig.open(1), laravel(&rig));
    let mut pushed = Vec::new();
    for kind in
        JobKind::ALL.into_iter().filter(|kind| !matches!(kind, JobKind::Throwing | JobKind::Releasing))
    {
        pushed.extend(php.push("other", &Push::new(kind)));
    }
    pushed.extend(php.push("other", &Push::new(JobKind::Plain).delay(1)));
    let mut jobs = Vec::new();
    while jobs.len() < pushed.len() {
        jobs.push(take_soon(&*driver, OTHER, SOON).await);
    }
    let raw: Vec<_> = pushed.iter().map(|one| one.raw.clone()).collect();
    assert_eq!(jobs.iter().map(|job| job_of(job).payload.clone()).collect::<Vec<_>>(), raw);
    assert!(rig.list(&notify("other")).is_empty());
    let raised: BTreeSet<Vec<u8>> =
        rig.set(&reserved("other")).into_iter().map(|(member, _)| member).collect();
    settle_all(&*driver, &jobs, &retry()).await;
    let events = php.worker("other").tries(9).run_until_empty();
    let ran: Vec<_> = events.iter().filter(|event| event.event == "ran").collect();
    assert_eq!(ran.len(), pushed.len());
    assert!(ran.iter().all(|event| event.attempts == 2));
    assert_eq!(ran.iter().map(|event| event.raw.clone()).collect::<BTreeSet<_>>(), raised);
    let given: String = ran.iter().filter_map(|event| event.value.clone()).collect();
    for value in ["9223372036854775807", "\"empty_list\":[]", "日本"] {
        assert!(given.contains(value), "{value} is not in {given}");
    }
    assert!(!rig.keys().iter().any(|key| key.contains("queues:")), "{:?}", rig.keys());
}

#[tokio::test]
async fn what_laravel_releases_we_take() {
    let rig = LaravelRig::new();
    let (driver, php) = (rig.open(1), laravel(&rig));
    php.push("other", &Push::new(JobKind::Releasing).value(0));
    let _ = php.worker("other").tries(9).max_jobs(1).run_until_empty();
    let job = take_soon(&*driver, OTHER, SOON).await;
    // Laravel's decoder has been over it by now; that is how it stays.
    assert_eq!(job_of(&job).attempt, 2);
    let payload = job_of(&job).payload.clone();
    let counters = Note { snooze: true, ..Note::default() };
    settle(&*driver, &job, Verdict::Snooze { after: Duration::ZERO, note: counters }).await;
    let job = take_soon(&*driver, OTHER, SOON).await;
    assert_eq!((job_of(&job).attempt, &job_of(&job).payload), (2, &payload));
    assert_eq!((job_of(&job).history.deliveries, job_of(&job).history.snoozes), (2, 1));
    settle(&*driver, &job, Verdict::Complete { result: None }).await;
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn jobs_of_a_dead_worker_are_taken_over_both_ways() {
    let rig = LaravelRig::new();
    let php = laravel(&rig).retry_after(1);
    // Ours dies.
    let dead = rig.open(5);
    php.push("other", &Push::new(JobKind::Unicode));
    let job = take_soon(&*dead, OTHER, SOON).await;
    let identity = job_of(&job).id.clone();
    drop(dead);
    let mut worker = php.worker("other").tries(9).start();
    let ran = worker.wait_for("ran", 1, SOON);
    let ran = ran.iter().find(|event| event.event == "ran").unwrap();
    assert_eq!(ran.attempts, 2);
    assert!(String::from_utf8_lossy(&ran.raw).contains(&identity));
    worker.stop(SOON);
    // Theirs dies.
    php.push("other", &Push::new(JobKind::Slow).value(60));
    let mut worker = php.worker("other").start();
    worker.wait_for("started", 1, SOON);
    worker.kill9();
    let driver = rig.open(6);
    let job = take_soon(&*driver, OTHER, SOON).await;
    assert_eq!(job_of(&job).attempt, 2);
    settle(&*driver, &job, Verdict::Complete { result: None }).await;
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_sleeping_laravel_worker_wakes_for_our_jobs() {
    let rig = LaravelRig::new();
    let php = laravel(&rig).block_for(100);
    let driver = rig.open(1);
    let worker = php.worker("other").tries(9).start();
    let started = Instant::now();
    loop {
        let info: String = redis::cmd("INFO").arg("clients").query(&mut rig.redis()).unwrap();
        if info.contains("blocked_clients:1\r") {
            break;
        }
        assert!(started.elapsed() < SOON, "the worker does not block");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pushed = Instant::now();
    let payload = driver.compose("App\\Jobs\\ByName", r#"{"e":[]}"#).unwrap();
    driver.push(OTHER, "other", &payload, None).await.unwrap();
    let ran = worker.wait_for("ran", 1, SOON);
    assert!(pushed.elapsed() < Duration::from_secs(60), "{:?}", pushed.elapsed());
    let ran = ran.iter().find(|event| event.event == "ran").unwrap();
    assert_eq!((ran.attempts, ran.raw.as_slice()), (1, &payload[..]));
}

#[tokio::test]
async fn side_by_side_every_job_runs_once() {
    let rig = LaravelRig::new();
    let php = laravel(&rig);
    let drivers: Vec<Arc<dyn QueueDriver>> = vec![rig.open(1), rig.open(2)];
    let mut workers = [php.worker("other").tries(9).start(), php.worker("other").tries(9).start()];
    let pushed = php.push("other", &Push::new(JobKind::Plain).count(400));
    let mut ours = Vec::new();
    let started = Instant::now();
    loop {
        let mut idle = true;
        for driver in &drivers {
            let jobs = take(&**driver, OTHER, 3).await.jobs;
            idle &= jobs.is_empty();
            settle_all(&**driver, &jobs, &Verdict::Complete { result: None }).await;
            ours.extend(jobs.iter().map(|job| job_of(job).payload.clone()));
        }
        if idle && php_done(&workers) + ours.len() >= pushed.len() {
            break;
        }
        assert!(started.elapsed() < SOON, "{} of ours", ours.len());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let theirs: Vec<Vec<u8>> = workers
        .iter_mut()
        .flat_map(|worker| worker.stop(SOON))
        .filter(|event| event.event == "ran")
        .map(|event| event.raw)
        .collect();
    assert_eq!(ours.len() + theirs.len(), pushed.len());
    let ran: BTreeSet<Vec<u8>> = ours.into_iter().chain(theirs).collect();
    assert_eq!(ran, pushed.into_iter().map(|one| one.raw).collect());
    assert!(!rig.keys().iter().any(|key| key.contains("queues:")), "{:?}", rig.keys());
}

fn php_done(workers: &[qfleet_testkit::PhpWorker]) -> usize {
    workers
        .iter()
        .flat_map(qfleet_testkit::PhpWorker::events)
        .filter(|event| event.event == "processed")
        .count()
}
