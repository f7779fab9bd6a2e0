//! Keys of ours that somebody else has written to: what they told is lost, never a job.

use std::time::Duration;

use qfleet_model::job::Job;
use qfleet_model::outcome::{Note, Verdict};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::{DeadHold, DeadState, DeadWorker, Reserved, Settled, Settlement};
use qfleet_queue::failed::FailedJob;
use qfleet_testkit::RedisServer;

use crate::contract::{OTHER, Rig as _, job_of, names, push, take, take_one};
use crate::rig::{LaravelRig, ready};

/// Spoils what is kept beside a job: a key of another type, or a value that is no number.
fn spoil(rig: &LaravelRig, job: &str, wrong: &str) {
    let key = format!("{}qfleet:job:other:{job}", rig.connection().prefix);
    match wrong {
        "type" => redis::cmd("SET").arg(&key).arg("x").exec(&mut rig.redis()).unwrap(),
        _ => redis::cmd("HSET")
            .arg(&key)
            .arg(&["exceptions", "x", "crashes", "x"])
            .exec(&mut rig.redis())
            .unwrap(),
    }
}

fn record(job: &Job) -> FailedJob {
    FailedJob {
        id: job.id.clone(),
        connection: "redis".into(),
        queue: job.queue.clone(),
        name: job.name.clone(),
        payload: job.payload.clone(),
        class: None,
        reason: "no".into(),
        failed_at: WallTime::from_millis(1_800_000_000_000),
        unreadable: false,
    }
}

#[tokio::test]
async fn jobs_are_taken_once_and_go_back_beside_spoilt_counters() {
    for wrong in ["type", "value"] {
        let rig = LaravelRig::new();
        let driver = rig.open(1);
        for job in ["u-a", "u-b", "u-c"] {
            rig.produce("other", format!(r#"{{"uuid":"{job}","displayName":"{job}","attempts":0}}"#));
        }
        spoil(&rig, "u-a", wrong);
        spoil(&rig, "u-c", wrong);
        let jobs = take(&*driver, OTHER, 9).await.jobs;
        assert_eq!(names(&jobs), ["u-a", "u-b", "u-c"], "wrong {wrong}");
        assert!(rig.list(&ready("other")).is_empty(), "what is in hand waits nowhere else");
        let retry =
            || Verdict::Retry { after: Duration::ZERO, note: Note { exception: true, ..Note::default() } };
        let settle: Vec<Settlement> = jobs
            .iter()
            .zip([retry(), Verdict::GiveBack, retry()])
            .map(|(job, verdict)| Settlement { receipt: job.receipt.clone(), verdict })
            .collect();
        let turn = driver.turn(&settle, &[], driver.mark()).await.unwrap();
        assert_eq!(turn.settled, [Settled::Done; 3], "wrong {wrong}");
        let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
        assert_eq!((depth.waiting, depth.delayed, depth.reserved), (1, 2, 0), "wrong {wrong}");
    }
}

#[tokio::test]
async fn a_dead_workers_jobs_come_back_beside_spoilt_counters() {
    for wrong in ["type", "value"] {
        let rig = LaravelRig::new();
        for job in ["u-a", "u-b"] {
            rig.produce("other", format!(r#"{{"uuid":"{job}","displayName":"{job}","attempts":0}}"#));
        }
        let jobs = take(&*rig.open(1), OTHER, 9).await.jobs;
        spoil(&rig, "u-a", wrong);
        let held = |job: &Reserved| DeadHold {
            lane: OTHER,
            queue: job.receipt.queue(),
            digest: job.receipt.digest(),
            state: DeadState::Started { alone: true, not_before: None },
        };
        let dead = DeadWorker { tag: 1, marks: Vec::new(), held: jobs.iter().map(held).collect() };
        let recovered = rig.open(2).recover(&dead).await.unwrap();
        assert_eq!((recovered.returned, recovered.gone), (2, 0), "wrong {wrong}");
        assert_eq!(rig.list(&ready("other")).len(), 2);
    }
}

#[tokio::test]
async fn a_failed_job_is_listed_although_its_record_could_not_be_written_at_first() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    push(&rig, &*driver, OTHER, "other", &["a"]).await;
    let record = record(job_of(&take_one(&*driver, OTHER).await));
    let store = qfleet_queue::open_failed(&rig.connection()).unwrap();
    let prefix = rig.connection().prefix;
    for spoilt in ["qfleet:failed", "qfleet:failed-in:other"] {
        let key = format!("{prefix}{spoilt}");
        redis::cmd("SET").arg(&key).arg("x").exec(&mut rig.redis()).unwrap();
        store.record(&record).await.unwrap_err();
        redis::cmd("DEL").arg(&key).exec(&mut rig.redis()).unwrap();
        store.record(&record).await.unwrap();
        for queue in [None, Some("other")] {
            assert_eq!(store.list(queue, 0, 9).await.unwrap(), std::slice::from_ref(&record), "`{spoilt}`");
        }
        assert!(store.forget(&record.id).await.unwrap());
    }
    let taken = format!("{prefix}qfleet:failed:{}", record.id);
    redis::cmd("SET").arg(taken).arg("x").exec(&mut rig.redis()).unwrap();
    store.record(&record).await.unwrap();
    assert_eq!(store.list(None, 0, 9).await.unwrap()[0].payload, record.payload);
}

#[tokio::test]
async fn without_memory_failed_jobs_are_still_written() {
    let rig = LaravelRig::on(RedisServer::builder().config("maxmemory-policy noeviction").start());
    let driver = rig.open(1);
    push(&rig, &*driver, OTHER, "other", &["a"]).await;
    let record = record(job_of(&take_one(&*driver, OTHER).await));
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut rig.redis()).unwrap();
    let store = qfleet_queue::open_failed(&rig.connection()).unwrap();
    store.record(&record).await.unwrap();
    assert_eq!(store.show(&record.id).await.unwrap(), Some(record));
}
