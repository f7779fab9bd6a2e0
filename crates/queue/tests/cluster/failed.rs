//! Failed jobs of queues that lie on different nodes are listed, retried and removed as one.

use qfleet_manifest::queue::Connection;
use qfleet_model::job::Format;
use qfleet_model::outcome::{Reason, Verdict};
use qfleet_model::time::WallTime;
use qfleet_queue::failed::FailedJob;
use qfleet_testkit::RedisCluster;

use crate::contract::{job_of, settle, take, take_one};
use crate::rig::{DEMO, connection, payload, worker};

const QUEUES: [&str; 4] = ["mail", "sms", "push", "fax"];

fn record(queue: &str, at: i64) -> FailedJob {
    FailedJob {
        id: format!("{queue}-1"),
        connection: "redis".into(),
        queue: queue.into(),
        name: queue.into(),
        payload: payload(Format::Laravel, queue),
        class: None,
        reason: "no".into(),
        failed_at: WallTime::from_millis(at),
        unreadable: false,
    }
}

fn laravel(cluster: &RedisCluster) -> Connection {
    Connection { cluster_keys: true, ..connection(cluster, Format::Laravel, "app_") }
}

#[tokio::test]
async fn records_of_all_queues_are_found() {
    let cluster = RedisCluster::start(3, 0);
    let connection = laravel(&cluster);
    let store = qfleet_queue::open_failed(&connection).unwrap();
    assert!(store.list(None, 0, 10).await.unwrap().is_empty());
    for (at, queue) in (1..).zip(QUEUES) {
        store.record(&record(queue, at)).await.unwrap();
    }
    // Another process finds them, too.
    let store = qfleet_queue::open_failed(&connection).unwrap();
    let ids = |jobs: Vec<FailedJob>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    let all = ids(store.list(None, 0, 10).await.unwrap());
    assert_eq!(all, ["fax-1", "push-1", "sms-1", "mail-1"]);
    assert_eq!(ids(store.list(None, 1, 2).await.unwrap()), ["push-1", "sms-1"]);
    assert_eq!(ids(store.list(Some("sms"), 0, 10).await.unwrap()), ["sms-1"]);
    assert_eq!(store.show("push-1").await.unwrap().unwrap().queue, "push");

    assert!(store.retry("mail-1").await.unwrap());
    assert!(!store.retry("mail-1").await.unwrap());
    let driver = worker(&connection, "mail", 1);
    assert_eq!(job_of(&take_one(&*driver, DEMO).await).name, "mail");
    assert!(store.forget("fax-1").await.unwrap());
    assert_eq!(store.flush(None, None).await.unwrap(), 2);
    assert!(store.list(None, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside_beside_its_queue() {
    let cluster = RedisCluster::start(3, 0);
    let connection = laravel(&cluster);
    for queue in QUEUES {
        let driver = worker(&connection, queue, 1);
        driver.push(DEMO, queue, b"{no job", None).await.unwrap();
        let job = take(&*driver, DEMO, 1).await.jobs.remove(0);
        assert!(job.job.is_err());
        settle(&*driver, &job, Verdict::Bury { reason: Reason::plain("cannot be read") }).await;
        let depth = driver.depth(&[DEMO]).await.unwrap();
        assert_eq!((depth[0].reserved, depth[0].failed), (0, 1), "{queue}");
    }
    let store = qfleet_queue::open_failed(&connection).unwrap();
    let mut found: Vec<String> =
        store.list(None, 0, 10).await.unwrap().into_iter().map(|job| job.queue).collect();
    found.sort();
    assert_eq!(found, ["fax", "mail", "push", "sms"]);
}

#[tokio::test]
async fn failed_sets_of_bullmq_are_found_on_every_node() {
    let cluster = RedisCluster::start(3, 0);
    let connection = connection(&cluster, Format::Bullmq, "bull");
    for queue in ["{mail}", "{sms}", "{push}", "{fax}"] {
        let driver = worker(&connection, queue, 1);
        driver.push(DEMO, queue, &payload(Format::Bullmq, "job"), None).await.unwrap();
        let job = take_one(&*driver, DEMO).await;
        settle(&*driver, &job, Verdict::Bury { reason: Reason::plain("no") }).await;
    }
    let store = qfleet_queue::open_failed(&connection).unwrap();
    let jobs = store.list(None, 0, 10).await.unwrap();
    assert_eq!(jobs.len(), 4);
    assert!(store.retry(&jobs[0].id).await.unwrap());
    assert_eq!(store.flush(None, None).await.unwrap(), 3);
}
