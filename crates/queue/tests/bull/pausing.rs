//! Queues that are paused by the library.

use std::time::Duration;

use qfleet_model::outcome::Verdict;
use serde_json::json;

use crate::contract::{names, settle, take};
use crate::rig::{DEMO, NodeRig, complete, retry};

#[tokio::test]
async fn what_goes_back_while_the_queue_is_paused_waits_beside_it() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("for (const name of ['again', 'back', 'late', 'done', 'rest']) await kit.queue('demo').add(name, {}, {attempts: 2})");
    let driver = rig.worker(1);
    let jobs = take(&*driver, DEMO, 4).await.jobs;
    node.run("await kit.queue('demo').pause()");
    settle(&*driver, &jobs[0], retry(Duration::ZERO, "once")).await;
    settle(&*driver, &jobs[1], Verdict::GiveBack).await;
    settle(&*driver, &jobs[2], retry(Duration::from_millis(20), "once")).await;
    settle(&*driver, &jobs[3], complete("1")).await;
    tokio::time::sleep(Duration::from_millis(25)).await;
    let turn = take(&*driver, DEMO, 5).await;
    assert!(turn.jobs.is_empty());
    assert_eq!(turn.paused, [DEMO]);
    assert_eq!(node.run("return (await kit.queue('demo').getJobCounts()).paused"), json!(4));
    node.run("await kit.queue('demo').resume()");
    assert_eq!(names(&take(&*driver, DEMO, 9).await.jobs), ["back", "rest", "again", "late"]);
}

/// Older releases put retried jobs where the resume of any release writes over them.
#[tokio::test]
async fn a_job_beside_the_paused_list_survives_the_librarys_resume() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').add('a', {}); await kit.queue('demo').add('b', {}); await kit.queue('demo').pause()");
    redis::cmd("RPOPLPUSH").arg(&["bull:demo:paused", "bull:demo:wait"]).exec(&mut rig.redis()).unwrap();
    let driver = rig.worker(1);
    assert!(take(&*driver, DEMO, 5).await.jobs.is_empty());
    node.run("await kit.queue('demo').resume()");
    assert_eq!(names(&take(&*driver, DEMO, 5).await.jobs), ["a", "b"]);
}
