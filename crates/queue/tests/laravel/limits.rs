//! Rate limits: so many starts in a window, over every worker with the same limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_manifest::queue::RateLimit;
use qfleet_model::outcome::{Note, Verdict};
use qfleet_queue::driver::{Ask, DeadHold, DeadState, DeadWorker, QueueDriver, Recovered};
use qfleet_testkit::{JobKind, Php, Push};
use redis::Commands as _;

use crate::contract::{BOTH, OTHER, Rig as _, names, push, settle, take, take_one};
use crate::rig::{LaravelRig, PREFIX, delayed, notify, open_limited, ready};

/// A window that does not end while a test looks at it.
const LONG: u64 = 60_000;

fn limited(rig: &LaravelRig, tag: u32, max: u32, per: u64) -> Arc<dyn QueueDriver> {
    let limit = RateLimit { max, per: Duration::from_millis(per) };
    open_limited(rig.connection(), tag, Some(limit))
}

fn limiter(queue: &str) -> String {
    format!("{PREFIX}qfleet:limiter:{queue}")
}

/// Starts counted in the present window.
fn counted(rig: &LaravelRig, queue: &str) -> Option<u32> {
    rig.redis().get(limiter(queue)).unwrap()
}

/// Time to the end of the present window in ms, as Redis tells it.
fn time_left(rig: &LaravelRig, queue: &str) -> i64 {
    rig.redis().pttl(limiter(queue)).unwrap()
}

fn produce(rig: &LaravelRig, queue: &str, jobs: usize) {
    for number in 0..jobs {
        rig.produce(queue, rig.payload(&format!("{queue}{number}")));
    }
}

/// One element for the one job that waits: what was taken and not used comes back for others.
async fn one_wakeup_lies_there(rig: &LaravelRig) {
    let begun = Instant::now();
    while rig.list(&notify("other")).len() != 1 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", rig.list(&notify("other")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Works as a worker does, asking for many and waiting when told to, until `until` jobs were started by all. Answers
/// when each of its own was asked for, and when it came.
async fn work(
    driver: Arc<dyn QueueDriver>,
    started: Arc<std::sync::atomic::AtomicUsize>,
    until: usize,
) -> Vec<(Instant, Instant)> {
    use std::sync::atomic::Ordering::SeqCst;
    let (mut mine, begun) = (Vec::new(), Instant::now());
    while started.load(SeqCst) < until {
        assert!(begun.elapsed() < Duration::from_secs(120), "{} started", started.load(SeqCst));
        let asked = Instant::now();
        let turn = take(&*driver, OTHER, 50).await;
        let came = Instant::now();
        for job in &turn.jobs {
            mine.push((asked, came));
            started.fetch_add(1, SeqCst);
            settle(&*driver, job, Verdict::Complete { result: None }).await;
        }
        if turn.jobs.is_empty() && started.load(SeqCst) < until {
            assert!(turn.more.is_empty(), "nothing more may start: {turn:?}");
            driver.wait(&[OTHER], Duration::from_secs(20)).await.unwrap();
        }
    }
    mine
}

#[tokio::test]
async fn windows_are_exact_over_workers_and_time() {
    let rig = LaravelRig::new();
    produce(&rig, "other", 23);
    let started = Arc::default();
    let first = tokio::spawn(work(limited(&rig, 1, 5, 300), Arc::clone(&started), 23));
    let second = tokio::spawn(work(limited(&rig, 2, 5, 300), Arc::clone(&started), 23));
    let mut starts = first.await.unwrap();
    starts.extend(second.await.unwrap());
    starts.sort_by_key(|(_, came)| *came);
    assert_eq!(starts.len(), 23);
    // The sixth job is at least one window after the first one, the eleventh two, and so on.
    for window in 1..5_u32 {
        let apart = starts[5 * window as usize].1 - starts[0].0;
        assert!(apart >= Duration::from_millis(300) * window, "window {window} begins after {apart:?}");
    }
    assert!(rig.list(&ready("other")).is_empty());
}

#[tokio::test]
async fn what_is_taken_is_cut_to_what_may_start() {
    let rig = LaravelRig::new();
    let (first, second) = (limited(&rig, 1, 5, LONG), limited(&rig, 2, 5, LONG));
    produce(&rig, "other", 9);
    let turn = take(&*first, OTHER, 3).await;
    assert_eq!((turn.jobs.len(), &turn.more[..]), (3, &[OTHER][..]));
    assert!(time_left(&rig, "other") > 0, "a window ends");
    let turn = take(&*second, OTHER, 9).await;
    assert_eq!(names(&turn.jobs), ["other3", "other4"]);
    assert!(turn.more.is_empty() && turn.broken.is_empty() && turn.paused.is_empty(), "{turn:?}");
    let left = time_left(&rig, "other");
    let due = turn.next_due.unwrap().as_millis() - now_in_millis();
    assert!((due - left).abs() < 30_000, "due in {due} ms, the window ends in {left} ms");
    assert!(take(&*first, OTHER, 9).await.jobs.is_empty());
    assert_eq!((counted(&rig, "other"), rig.list(&ready("other")).len()), (Some(5), 4));
}

#[tokio::test]
async fn only_what_starts_is_counted() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 9, LONG);
    assert!(take(&*driver, OTHER, 5).await.jobs.is_empty());
    assert_eq!(counted(&rig, "other"), None, "no window begins without a start");
    produce(&rig, "other", 3);
    assert_eq!(take(&*driver, OTHER, 50).await.jobs.len(), 3);
    assert_eq!(counted(&rig, "other"), Some(3));
    // The very bytes that somebody works on cannot be held twice, and so do not start.
    let twin = rig.payload("twin");
    rig.produce("high", &twin);
    take_one(&*driver, BOTH).await;
    redis::cmd("DEL").arg(limiter("high")).exec(&mut rig.redis()).unwrap();
    rig.produce("high", &twin);
    assert!(take(&*driver, BOTH, 5).await.jobs.is_empty());
    assert_eq!(counted(&rig, "high"), None);
}

#[tokio::test]
async fn every_attempt_counts_and_so_does_what_goes_back() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 3, LONG);
    produce(&rig, "other", 1);
    let job = take_one(&*driver, OTHER).await;
    let again = Verdict::Retry { after: Duration::ZERO, note: Note::default() };
    settle(&*driver, &job, again).await;
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::GiveBack).await;
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::GiveBack).await;
    assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    assert_eq!(counted(&rig, "other"), Some(3));
}

#[tokio::test]
async fn a_limited_queue_is_slept_on_until_its_window_ends() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 1, 400);
    produce(&rig, "other", 3);
    let asked = Instant::now();
    assert_eq!(take(&*driver, OTHER, 5).await.jobs.len(), 1);
    // Two elements lie in the notify list all the time.
    driver.wait(&[OTHER], Duration::from_secs(20)).await.unwrap();
    let slept = asked.elapsed();
    assert!(slept >= Duration::from_millis(400) && slept < Duration::from_secs(15), "{slept:?}");
    assert_eq!(take(&*driver, OTHER, 5).await.jobs.len(), 1);
    one_wakeup_lies_there(&rig).await;
}

#[tokio::test]
async fn a_wakeup_that_came_too_early_is_put_back() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 1, LONG);
    produce(&rig, "other", 1);
    take_one(&*driver, OTHER).await;
    assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    // The queue was empty, so its worker sleeps on it, and does not know of the limit.
    produce(&rig, "other", 1);
    driver.wait(&[OTHER], Duration::from_secs(20)).await.unwrap();
    assert!(rig.list(&notify("other")).is_empty());
    assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    driver.wait(&[OTHER], Duration::from_millis(50)).await.unwrap();
    one_wakeup_lies_there(&rig).await;
}

#[tokio::test]
async fn each_queue_of_a_lane_has_its_own_window() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 2, LONG);
    produce(&rig, "high", 3);
    produce(&rig, "low", 3);
    assert_eq!(names(&take(&*driver, BOTH, 9).await.jobs), ["high0", "high1", "low0", "low1"]);
    assert_eq!((counted(&rig, "high"), counted(&rig, "low")), (Some(2), Some(2)));
}

#[tokio::test]
async fn other_queues_of_a_pool_go_on() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 1, LONG);
    produce(&rig, "high", 5);
    let asks = [Ask { lane: BOTH, at_most: 5 }, Ask { lane: OTHER, at_most: 5 }];
    assert_eq!(driver.turn(&[], &asks, driver.mark()).await.unwrap().jobs.len(), 1);
    let sleeping = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.wait(&[BOTH, OTHER], Duration::from_secs(20)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!sleeping.is_finished(), "jobs that may not start wake nobody");
    let pushed = Instant::now();
    push(&rig, &*driver, OTHER, "other", &["job"]).await;
    sleeping.await.unwrap().unwrap();
    assert!(pushed.elapsed() < Duration::from_secs(15), "{:?}", pushed.elapsed());
    assert_eq!(names(&driver.turn(&[], &asks, driver.mark()).await.unwrap().jobs), ["job"]);
}

#[tokio::test]
async fn due_jobs_become_ready_in_a_limited_queue() {
    let rig = LaravelRig::new();
    let driver = limited(&rig, 1, 1, LONG);
    produce(&rig, "other", 2);
    take_one(&*driver, OTHER).await;
    let payload = rig.payload("later");
    let _: u32 = rig.redis().zadd(delayed("other"), &payload, 1).unwrap();
    assert!(take(&*driver, OTHER, 5).await.jobs.is_empty());
    assert_eq!(rig.list(&ready("other")).last(), Some(&payload));
    assert!(rig.set(&delayed("other")).is_empty());
}

#[tokio::test]
async fn a_spoilt_counter_stops_its_queue_alone_and_says_why() {
    for value in ["text", "-1", "1.5", "99999999999999999999", "", "hash"] {
        let rig = LaravelRig::new();
        let driver = limited(&rig, 1, 5, LONG);
        produce(&rig, "high", 1);
        produce(&rig, "low", 1);
        let mut spoil = redis::cmd(if value == "hash" { "HSET" } else { "SET" });
        spoil.arg(limiter("high")).arg(value);
        if value == "hash" {
            spoil.arg(1);
        }
        spoil.exec(&mut rig.redis()).unwrap();
        let turn = take(&*driver, BOTH, 9).await;
        assert_eq!(names(&turn.jobs), ["low0"], "{value}");
        let [(BOTH, text)] = &turn.broken[..] else { panic!("{value}: {:?}", turn.broken) };
        assert!(text.contains(&limiter("high")) && text.contains("delete it"), "{text}");
        assert_eq!(rig.list(&ready("high")).len(), 1);
        redis::cmd("DEL").arg(limiter("high")).exec(&mut rig.redis()).unwrap();
        assert_eq!(names(&take(&*driver, BOTH, 9).await.jobs), ["high0"], "{value}");
    }
}

#[tokio::test]
async fn a_window_without_an_end_or_with_a_late_one_lasts_no_longer_than_one() {
    for ends in ["never", "late"] {
        let rig = LaravelRig::new();
        let driver = limited(&rig, 1, 2, 300);
        produce(&rig, "other", 4);
        let mut set = redis::cmd("SET");
        set.arg(limiter("other")).arg(7);
        if ends == "late" {
            set.arg("EX").arg(3600);
        }
        set.exec(&mut rig.redis()).unwrap();
        assert!(take(&*driver, OTHER, 5).await.jobs.is_empty());
        assert!((1..=300).contains(&time_left(&rig, "other")), "{ends}: {}", time_left(&rig, "other"));
        driver.wait(&[OTHER], Duration::from_secs(20)).await.unwrap();
        assert_eq!(take(&*driver, OTHER, 5).await.jobs.len(), 2, "{ends}");
    }
}

/// What a dead worker had started stays counted; its jobs are all there, and start in windows to come.
#[tokio::test]
async fn a_death_neither_loses_jobs_nor_opens_the_window() {
    let rig = LaravelRig::new();
    let (dead, living) = (limited(&rig, 77, 3, 400), limited(&rig, 2, 3, 400));
    produce(&rig, "other", 4);
    let mark = dead.mark();
    let turn = dead.turn(&[], &[Ask { lane: OTHER, at_most: 3 }], mark).await.unwrap();
    assert_eq!(turn.jobs.len(), 3);
    drop(dead);
    // The first was started, the second fetched; of the third nobody knows.
    let states = [DeadState::Started { alone: false, not_before: None }, DeadState::Fetched];
    let held = turn.jobs.iter().zip(states).map(|(job, state)| DeadHold {
        lane: OTHER,
        queue: job.receipt.queue(),
        digest: job.receipt.digest(),
        state,
    });
    let ledger = DeadWorker { tag: 77, marks: vec![mark], held: held.collect() };
    assert_eq!(living.recover(&ledger).await.unwrap(), Recovered { returned: 3, buried: 0, gone: 0 });
    // Unless its window has ended meanwhile.
    assert!(counted(&rig, "other").is_none_or(|starts| starts == 3));
    let (mut seen, begun) = (Vec::new(), Instant::now());
    while seen.len() < 4 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{seen:?}");
        let turn = take(&*living, OTHER, 9).await;
        assert!(turn.jobs.len() <= 3);
        seen.extend(names(&turn.jobs).into_iter().map(str::to_owned));
        living.wait(&[OTHER], Duration::from_millis(100)).await.unwrap();
    }
    seen.sort();
    assert_eq!(seen, ["other0", "other1", "other2", "other3"]);
}

#[tokio::test]
async fn laravels_own_workers_are_not_limited() {
    let rig = LaravelRig::new();
    let php = Php::on(&rig.server).prefix(PREFIX);
    let driver = limited(&rig, 1, 1, LONG);
    for _ in 0..4 {
        php.push("other", &Push::new(JobKind::Plain));
    }
    let job = take_one(&*driver, OTHER).await;
    assert!(take(&*driver, OTHER, 5).await.jobs.is_empty());
    let events = php.worker("other").run_until_empty();
    assert_eq!(events.iter().filter(|event| event.event == "ran").count(), 3);
    settle(&*driver, &job, Verdict::Complete { result: None }).await;
    assert_eq!(rig.keys(), [limiter("other")]);
}

fn now_in_millis() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}
