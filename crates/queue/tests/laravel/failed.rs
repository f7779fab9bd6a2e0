//! Failed jobs in Redis: kept, shown, put back, removed.

use std::sync::Arc;
use std::time::Duration;

use qfleet_model::outcome::{Reason, Verdict};
use qfleet_model::time::WallTime;
use qfleet_queue::failed::{FailedJob, FailedJobs};
use redis::Commands as _;

use crate::contract::{OTHER, Rig as _, job_of, settle, take_one};
use crate::rig::{LaravelRig, PREFIX, notify, ready};

fn store(rig: &LaravelRig) -> Arc<dyn FailedJobs> {
    qfleet_queue::open_failed(&rig.connection()).unwrap()
}

fn failed(id: &str, queue: &str, second: i64) -> FailedJob {
    FailedJob {
        id: id.into(),
        connection: "redis".into(),
        queue: queue.into(),
        name: "App\\Jobs\\Send".into(),
        payload: format!(r#"{{"uuid":"{id}","job":"x","data":{{"e":[]}},"attempts":2}}"#).into_bytes(),
        class: Some("timeout".into()),
        reason: "took too long\nsecond line".into(),
        failed_at: WallTime::from_seconds(second),
        unreadable: false,
    }
}

fn ids(jobs: &[FailedJob]) -> Vec<&str> {
    jobs.iter().map(|job| job.id.as_str()).collect()
}

#[tokio::test]
async fn records_are_shown_newest_first_and_page_by_page() {
    let rig = LaravelRig::new();
    let store = store(&rig);
    for (id, queue, second) in [("b", "high", 20), ("a", "low", 10), ("d", "low", 40), ("c", "high", 30)] {
        store.record(&failed(id, queue, second)).await.unwrap();
    }
    assert_eq!(ids(&store.list(None, 0, 9).await.unwrap()), ["d", "c", "b", "a"]);
    assert_eq!(ids(&store.list(None, 1, 2).await.unwrap()), ["c", "b"]);
    assert_eq!(ids(&store.list(Some("low"), 0, 9).await.unwrap()), ["d", "a"]);
    assert_eq!(ids(&store.list(Some("none"), 0, 9).await.unwrap()), Vec::<&str>::new());
    assert_eq!(store.show("c").await.unwrap(), Some(failed("c", "high", 30)));
    assert_eq!(store.show("x").await.unwrap(), None);
    let index: Vec<String> = rig.redis().zrange(format!("{PREFIX}qfleet:failed"), 0, -1).unwrap();
    assert_eq!(index, ["a", "b", "c", "d"]);
    let forever: i64 =
        redis::cmd("TTL").arg(format!("{PREFIX}qfleet:failed:c")).query(&mut rig.redis()).unwrap();
    assert_eq!(forever, -1);
}

#[tokio::test]
async fn the_same_job_twice_is_one_record_and_another_job_a_second() {
    let rig = LaravelRig::new();
    let store = store(&rig);
    store.record(&failed("a", "low", 10)).await.unwrap();
    let mut again = failed("a", "low", 20);
    again.payload =
        String::from_utf8(again.payload).unwrap().replace("\"attempts\":2", "\"attempts\":3").into_bytes();
    again.reason = "another reason".into();
    store.record(&again).await.unwrap();
    let kept = store.list(None, 0, 9).await.unwrap();
    assert_eq!(kept, [FailedJob { reason: "another reason".into(), ..failed("a", "low", 10) }]);
    // The same id on something else must not cost either of them.
    let mut stranger = failed("a", "low", 30);
    stranger.payload = br#"{"uuid":"a","job":"y","attempts":0}"#.to_vec();
    store.record(&stranger).await.unwrap();
    store.record(&stranger).await.unwrap();
    let kept = store.list(None, 0, 9).await.unwrap();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].payload, stranger.payload);
}

#[tokio::test]
async fn a_retried_job_is_in_its_queue_with_no_attempts_and_in_no_record() {
    let rig = LaravelRig::new();
    let store = store(&rig);
    store.record(&failed("a", "other", 10)).await.unwrap();
    let mut foreign = failed("b", "other", 20);
    foreign.payload = br#"{"job":"x"}"#.to_vec();
    store.record(&foreign).await.unwrap();
    assert!(store.retry("a").await.unwrap());
    assert!(!store.retry("a").await.unwrap());
    assert!(store.retry("b").await.unwrap());
    let payload = br#"{"uuid":"a","job":"x","data":{"e":[]},"attempts":0}"#.to_vec();
    assert_eq!(rig.list(&ready("other")), [payload, br#"{"job":"x"}"#.to_vec()]);
    assert_eq!(rig.list(&notify("other")).len(), 2);
    assert_eq!(rig.keys(), [ready("other"), notify("other")]);
}

#[tokio::test]
async fn records_can_be_forgotten_one_by_one_by_queue_and_by_age() {
    let rig = LaravelRig::new();
    let store = store(&rig);
    for number in 0..1_200_i64 {
        let queue = if number % 2 == 0 { "even" } else { "odd" };
        store.record(&failed(&format!("f{number}"), queue, number)).await.unwrap();
    }
    assert!(store.forget("f7").await.unwrap());
    assert!(!store.forget("f7").await.unwrap());
    let before = Some(WallTime::from_seconds(1_000));
    assert_eq!(store.flush(Some("odd"), before).await.unwrap(), 499);
    assert_eq!(store.flush(None, before).await.unwrap(), 500);
    assert_eq!(ids(&store.list(None, 198, 9).await.unwrap()), ["f1001", "f1000"]);
    assert_eq!(store.flush(Some("even"), None).await.unwrap(), 100);
    assert_eq!(store.flush(None, None).await.unwrap(), 100);
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn unreadable_payloads_stand_beside_failed_jobs() {
    let rig = LaravelRig::new();
    let (driver, store) = (rig.open(1), store(&rig));
    store.record(&failed("a", "other", 10)).await.unwrap();
    rig.produce("other", b"\xff garbage");
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::Bury { reason: Reason::classed("unreadable", "no JSON") }).await;
    let all = store.list(None, 0, 9).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[0].unreadable && !all[1].unreadable);
    assert_eq!((all[0].payload.as_slice(), all[0].queue.as_str()), (&b"\xff garbage"[..], "other"));
    assert_eq!((all[0].class.as_deref(), all[0].reason.as_str()), (Some("unreadable"), "no JSON"));
    assert_eq!(store.list(None, 1, 9).await.unwrap(), all[1..]);
    assert!(store.retry(&all[0].id).await.unwrap());
    assert_eq!(rig.list(&ready("other")), [b"\xff garbage"]);
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::Bury { reason: Reason::plain("no JSON") }).await;
    assert!(store.forget(&all[0].id).await.unwrap());
    assert_eq!(store.list(None, 0, 9).await.unwrap(), all[1..]);
    for payload in ["x", "y"] {
        rig.produce("other", payload);
        let job = take_one(&*driver, OTHER).await;
        settle(&*driver, &job, Verdict::Bury { reason: Reason::plain("no JSON") }).await;
    }
    assert_eq!(driver.depth(&[OTHER]).await.unwrap()[0].failed, 3);
    assert_eq!(store.flush(Some("other"), None).await.unwrap(), 3);
    assert_eq!(store.list(None, 0, 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_composed_job_is_a_job() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let payload = driver.compose("App\\Jobs\\Ping@handle", r#"{"n":9007199254740993,"e":[]}"#).unwrap();
    driver.push(OTHER, "other", &payload, None).await.unwrap();
    let job = take_one(&*driver, OTHER).await;
    let job = job_of(&job);
    assert_eq!((job.name.as_str(), job.attempt, job.id.len()), ("App\\Jobs\\Ping", 1, 36));
    assert_eq!(job.payload, payload);
    let later = driver.push(OTHER, "other", &payload, Some(Duration::from_secs(60)));
    later.await.unwrap();
    let twice = driver.push(OTHER, "other", &payload, Some(Duration::from_secs(60))).await;
    assert!(twice.unwrap_err().to_string().contains("the very same payload"));
}
