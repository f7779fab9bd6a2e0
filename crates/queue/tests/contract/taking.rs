//! Promises about taking jobs, and about sleeping until there are some.

use std::time::{Duration, Instant};

use qfleet_manifest::queue::{NodeRules, RateLimit};
use qfleet_model::outcome::Verdict;
use qfleet_queue::LaneQueues;
use qfleet_queue::driver::{Ask, JobState, QueueDriver};

use super::{BOTH, OTHER, Rig, job_of, names, push, settle, take, take_one, take_soon};

pub(crate) async fn jobs_come_in_order_and_by_importance(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, BOTH, "low", &["l1", "l2"]).await;
    push(rig, &*driver, BOTH, "high", &["h1", "h2"]).await;
    push(rig, &*driver, OTHER, "other", &["o1"]).await;
    let asks = [Ask { lane: OTHER, at_most: 5 }, Ask { lane: BOTH, at_most: 3 }];
    let turn = driver.turn(&[], &asks, driver.mark()).await.unwrap();
    assert_eq!(names(&turn.jobs), ["o1", "h1", "h2", "l1"]);
    assert_eq!(turn.jobs.iter().map(|job| job.lane).collect::<Vec<_>>(), [OTHER, BOTH, BOTH, BOTH]);
    assert_eq!(turn.jobs.iter().map(|job| job.receipt.queue()).collect::<Vec<_>>(), [0, 0, 0, 1]);
    assert_eq!(job_of(&turn.jobs[3]).queue, "low");
    assert_eq!(turn.more, [BOTH]);
}

pub(crate) async fn no_more_than_asked_for(rig: &impl Rig) {
    let driver = rig.open(1);
    push(rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
    let turn = take(&*driver, OTHER, 0).await;
    assert!(turn.jobs.is_empty());
    assert_eq!(turn.more, [OTHER]);
    let turn = take(&*driver, OTHER, 2).await;
    assert_eq!(names(&turn.jobs), ["a", "b"]);
    assert_eq!(turn.more, [OTHER]);
    let turn = take(&*driver, OTHER, 2).await;
    assert_eq!(names(&turn.jobs), ["c"]);
    assert!(turn.more.is_empty());
}

pub(crate) async fn an_empty_queue_gives_nothing(rig: &impl Rig) {
    let driver = rig.open(1);
    let turn = take(&*driver, BOTH, 10).await;
    assert!(turn.jobs.is_empty() && turn.more.is_empty() && turn.paused.is_empty() && turn.broken.is_empty());
    assert_eq!(turn.next_due, None);
}

pub(crate) async fn the_payload_is_what_was_pushed(rig: &impl Rig) {
    let driver = rig.open(1);
    let payload = rig.payload("first");
    driver.push(OTHER, "other", &payload, None).await.unwrap();
    let taken = take_one(&*driver, OTHER).await;
    let job = job_of(&taken);
    assert_eq!(job.payload, payload);
    assert_eq!((job.name.as_str(), job.attempt, job.queue.as_str()), ("first", 1, "other"));
    assert_eq!(job.history.deliveries, 0);
}

pub(crate) async fn a_limit_changes_at_once_and_what_has_started_counts(rig: &impl Rig) {
    let (driver, other) = (rig.open(1), rig.open(2));
    let per = Duration::from_secs(600);
    let limit = |driver: &dyn QueueDriver, max: Option<u32>| {
        let settings = LaneQueues {
            name: "other".to_owned(),
            queues: vec!["other".to_owned()],
            delay_as_backoff: true,
            rate_limit: max.map(|max| RateLimit { max, per }),
            node: NodeRules::default(),
        };
        driver.tune(OTHER, &settings);
    };
    push(rig, &*driver, OTHER, "other", &["1", "2", "3", "4", "5", "6", "7", "8"]).await;
    limit(&*driver, Some(2));
    limit(&*other, Some(2));
    assert_eq!(take(&*driver, OTHER, 10).await.jobs.len(), 2);
    assert!(take(&*other, OTHER, 10).await.jobs.is_empty(), "the limit is that of all workers");
    limit(&*driver, Some(5));
    assert!(take(&*other, OTHER, 10).await.jobs.is_empty(), "nobody told this one yet");
    assert_eq!(take(&*driver, OTHER, 10).await.jobs.len(), 3, "two of the window had started before");
    limit(&*driver, Some(1));
    let turn = take(&*driver, OTHER, 10).await;
    assert!(turn.jobs.is_empty() && turn.more.is_empty(), "a stricter limit holds in the window under way");
    limit(&*driver, None);
    assert_eq!(take(&*driver, OTHER, 10).await.jobs.len(), 3);
}

pub(crate) async fn a_taken_job_is_taken_by_nobody_else(rig: &impl Rig) {
    let (first, second) = (rig.open(1), rig.open(2));
    push(rig, &*first, OTHER, "other", &["a", "b"]).await;
    assert_eq!(names(&take(&*first, OTHER, 1).await.jobs), ["a"]);
    assert_eq!(names(&take(&*second, OTHER, 5).await.jobs), ["b"]);
    assert!(take(&*first, OTHER, 5).await.jobs.is_empty());
}

pub(crate) async fn a_delayed_job_comes_when_it_is_due(rig: &impl Rig) {
    let driver = rig.open(1);
    let pushed = Instant::now();
    driver.push(OTHER, "other", &rig.payload("later"), Some(Duration::from_secs(2))).await.unwrap();
    assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    take_soon(&*driver, OTHER, Duration::from_secs(60)).await;
    let waited = pushed.elapsed();
    assert!(waited >= Duration::from_millis(1999), "came after {waited:?}");
}

pub(crate) async fn the_next_due_date_is_told(rig: &impl Rig) {
    let driver = rig.open(1);
    driver.push(BOTH, "low", &rig.payload("l"), Some(Duration::from_secs(50))).await.unwrap();
    driver.push(BOTH, "high", &rig.payload("h"), Some(Duration::from_secs(20))).await.unwrap();
    let asks = [Ask { lane: BOTH, at_most: 1 }, Ask { lane: OTHER, at_most: 1 }];
    let due = driver.turn(&[], &asks, driver.mark()).await.unwrap().next_due.unwrap();
    let in_seconds = due.as_seconds() - since_epoch().as_secs() as i64;
    assert!((1..=21).contains(&in_seconds), "{in_seconds}");
}

pub(crate) async fn a_paused_queue_is_left_alone(rig: &impl Rig) {
    let (driver, command) = (rig.open(1), rig.open(0));
    push(rig, &*driver, BOTH, "high", &["a"]).await;
    push(rig, &*driver, OTHER, "other", &["b"]).await;
    command.set_paused(BOTH, true).await.unwrap();
    let asks = [Ask { lane: BOTH, at_most: 5 }, Ask { lane: OTHER, at_most: 5 }];
    let turn = driver.turn(&[], &asks, driver.mark()).await.unwrap();
    assert_eq!(names(&turn.jobs), ["b"]);
    assert_eq!(turn.paused, [BOTH]);
    let paused: Vec<bool> =
        command.depth(&[BOTH, OTHER]).await.unwrap().iter().map(|depth| depth.paused).collect();
    assert_eq!(paused, [true, false]);
    command.set_paused(BOTH, false).await.unwrap();
    assert_eq!(names(&take(&*driver, BOTH, 5).await.jobs), ["a"]);
}

pub(crate) async fn a_push_wakes_a_sleeper(rig: &impl Rig) {
    let (driver, producer) = (rig.open(1), rig.open(0));
    // Again and again on the same connection, alternating between the lanes.
    for (lane, queue) in [(BOTH, "low"), (OTHER, "other"), (BOTH, "high"), (BOTH, "high")] {
        let sleeping = tokio::spawn({
            let driver = driver.clone();
            async move { driver.wait(&[BOTH, OTHER], Duration::from_secs(20)).await }
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        let pushed = Instant::now();
        push(rig, &*producer, lane, queue, &["job"]).await;
        sleeping.await.unwrap().unwrap();
        assert!(pushed.elapsed() < Duration::from_secs(15), "slept on for {:?}", pushed.elapsed());
        let job = take_one(&*driver, lane).await;
        settle(&*driver, &job, Verdict::Complete { result: None }).await;
    }
}

pub(crate) async fn a_sleeper_gives_up_in_time(rig: &impl Rig) {
    let driver = rig.open(1);
    // Whoever has not looked yet is to, and so is who has a new connection.
    for _ in 0..2 {
        for lane in [BOTH, OTHER] {
            take(&*driver, lane, 1).await;
        }
        driver.wait(&[BOTH, OTHER], Duration::from_millis(50)).await.unwrap();
    }
    let started = Instant::now();
    driver.wait(&[BOTH, OTHER], Duration::from_millis(150)).await.unwrap();
    let slept = started.elapsed();
    assert!(slept >= Duration::from_millis(100) && slept < Duration::from_secs(15), "{slept:?}");
}

pub(crate) async fn a_cancelled_wait_loses_no_wakeup(rig: &impl Rig) {
    let (driver, producer) = (rig.open(1), rig.open(0));
    for round in 0..30 {
        // Cancelled at moments all around the push.
        let cancel = Duration::from_millis(round % 6);
        let _ = tokio::time::timeout(cancel, driver.wait(&[OTHER], Duration::from_secs(20))).await;
        push(rig, &*producer, OTHER, "other", &["job"]).await;
        let _ = tokio::time::timeout(cancel / 2, driver.wait(&[OTHER], Duration::from_secs(20))).await;
        let started = Instant::now();
        loop {
            let turn = take(&*driver, OTHER, 1).await;
            if let [job] = &turn.jobs[..] {
                settle(&*driver, job, Verdict::Complete { result: None }).await;
                break;
            }
            driver.wait(&[OTHER], Duration::from_secs(20)).await.unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(15), "round {round}: {:?}", started.elapsed());
    }
}

pub(crate) async fn an_ended_lease_lets_others_take_the_job(rig: &impl Rig) {
    let (first, second) = (rig.open(1), rig.open(2));
    push(rig, &*first, OTHER, "other", &["job"]).await;
    let held = take_one(&*first, OTHER).await;
    assert!(take(&*second, OTHER, 1).await.jobs.is_empty());
    let again = take_soon(&*second, OTHER, first.lease() * 2 + Duration::from_secs(60)).await;
    assert_eq!(job_of(&again).attempt, 2);
    assert_eq!(job_of(&again).id, job_of(&held).id);
}

pub(crate) async fn sizes_and_listings_are_right(rig: &impl Rig) {
    let (driver, command) = (rig.open(1), rig.open(0));
    push(rig, &*driver, BOTH, "high", &["h1", "h2"]).await;
    push(rig, &*driver, BOTH, "low", &["l1", "l2", "l3"]).await;
    driver.push(BOTH, "low", &rig.payload("later"), Some(Duration::from_secs(60))).await.unwrap();
    take_one(&*driver, BOTH).await;
    let depth = command.depth(&[OTHER, BOTH]).await.unwrap().remove(1);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved, depth.failed), (4, 1, 1, 0));
    assert!(!depth.paused);
    let listed = async |state, from, count| {
        let jobs = command.look(BOTH, state, from, count).await.unwrap();
        jobs.into_iter().map(|job| (job.queue, job.name, job.attempts)).collect::<Vec<_>>()
    };
    let job = |queue: &str, name: &str, attempts| (queue.to_owned(), name.to_owned(), attempts);
    let waiting = [job("high", "h2", 0), job("low", "l1", 0), job("low", "l2", 0), job("low", "l3", 0)];
    assert_eq!(listed(JobState::Waiting, 0, 10).await, waiting);
    assert_eq!(listed(JobState::Waiting, 1, 2).await, waiting[1..3]);
    assert_eq!(listed(JobState::Waiting, 3, 2).await, waiting[3..]);
    assert_eq!(listed(JobState::Delayed, 0, 10).await, [job("low", "later", 0)]);
    assert_eq!(listed(JobState::Reserved, 0, 10).await, [job("high", "h1", 1)]);
    let delayed = command.look(BOTH, JobState::Delayed, 0, 1).await.unwrap().remove(0);
    let due = delayed.at.unwrap().as_seconds() - since_epoch().as_secs() as i64;
    assert!((58..=61).contains(&due), "due in {due} s");
}

fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}
