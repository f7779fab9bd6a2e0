//! The failed set as a store of failed jobs, and deduplicated jobs that follow one another.

use serde_json::json;

use crate::contract::{job_of, names, settle, take, take_one};
use crate::rig::{DEMO, NodeRig, bury, complete};

#[tokio::test]
async fn failed_jobs_are_listed_retried_and_removed() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        node.run("for (const n of [1, 2, 3, 4]) await kit.queue('demo').add('n' + n, {n}); await kit.queue('empty').waitUntilReady()");
        let driver = rig.worker(1);
        for job in &take(&*driver, DEMO, 9).await.jobs {
            settle(&*driver, job, bury(&format!("bad {}", job_of(job).name))).await;
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let store = qfleet_queue::open_failed(&rig.connection()).unwrap();
        let listed = store.list(None, 0, 10).await.unwrap();
        let shown: Vec<_> =
            listed.iter().map(|job| (job.id.as_str(), job.name.as_str(), job.reason.as_str())).collect();
        assert_eq!(shown[0], ("demo/4", "n4", "bad n4"));
        assert_eq!(shown.len(), 4);
        assert_eq!(store.list(Some("demo"), 1, 2).await.unwrap(), listed[1..3]);
        let one = store.show("demo/2").await.unwrap().unwrap();
        assert_eq!((one.payload.as_slice(), one.reason.as_str()), (&br#"{"n":2}"#[..], "bad n2"));
        assert_eq!(one, listed[2]);
        assert_eq!(store.show("demo/9").await.unwrap(), None);
        assert_eq!(store.show("nonsense").await.unwrap(), None);

        assert!(store.retry("demo/2").await.unwrap() && !store.retry("demo/2").await.unwrap());
        let again = take_one(&*driver, DEMO).await;
        assert_eq!((job_of(&again).name.as_str(), job_of(&again).attempt), ("n2", 1));
        settle(&*driver, &again, complete("1")).await;
        let seen = node.run("const job = await kit.queue('demo').getJob('2'); return [await job.getState(), job.failedReason ?? null, job.attemptsMade]");
        assert_eq!(seen, json!(["completed", null, 1]), "{library}");

        assert!(store.forget("demo/1").await.unwrap() && !store.forget("demo/1").await.unwrap());
        assert_eq!(store.flush(None, None).await.unwrap(), 2);
        assert_eq!(
            node.run("return await kit.queue('demo').getJobCounts('failed', 'completed')"),
            json!({"failed": 0, "completed": 1})
        );
        assert_eq!(driver.depth(&[DEMO]).await.unwrap()[0].failed, 0);
    }
}

#[tokio::test]
async fn their_api_retries_what_we_failed() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').add('a', {}, {attempts: 1})");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    settle(&*driver, &job, bury("bad")).await;
    node.run("await (await kit.queue('demo').getJob('1')).retry('failed')");
    assert_eq!(names(&take(&*driver, DEMO, 1).await.jobs), ["a"]);
}

#[tokio::test]
async fn the_job_that_waits_for_a_duplicate_follows_it() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let add = |n: u32| {
        node.run(&format!("await kit.queue('demo').add('a', {{n: {n}}}, {{deduplication: {{id: 'x', keepLastIfActive: true}}}})"))
    };
    add(1);
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    add(2);
    add(3);
    assert!(take(&*driver, DEMO, 1).await.jobs.is_empty());
    settle(&*driver, &job, complete("1")).await;
    let next = take_one(&*driver, DEMO).await;
    assert_eq!(job_of(&next).payload, br#"{"n":3}"#);
    settle(&*driver, &next, complete("1")).await;
    assert!(rig.redis_keys("bull:demo:d?:*").is_empty(), "{:?}", rig.redis_keys("bull:demo:d?:*"));
}
