//! Pause, as both majors mean it.

use std::time::Duration;

use serde_json::json;

use crate::contract::{names, settle, take, take_one};
use crate::rig::{DEMO, NodeRig, complete, retry};

#[tokio::test]
async fn their_pause_stops_us_and_ours_stops_them() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        let driver = rig.worker(1);
        node.run("await kit.queue('demo').add('a', {}, {attempts: 3}); await kit.queue('demo').add('b')");
        let job = take_one(&*driver, DEMO).await;
        node.run("await kit.queue('demo').pause(); await kit.queue('demo').add('c'); await kit.queue('demo').add('p', {}, {priority: 1})");
        let turn = take(&*driver, DEMO, 5).await;
        assert!(turn.jobs.is_empty() && turn.paused == [DEMO]);
        // A retry while paused must survive the resume.
        settle(&*driver, &job, retry(Duration::ZERO, "once")).await;
        node.run("await kit.queue('demo').resume()");
        assert_eq!(names(&take(&*driver, DEMO, 9).await.jobs), ["b", "c", "a", "p"], "{library}");

        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        let driver = rig.worker(1);
        node.run(
            "await kit.listen('demo'); await kit.queue('demo').add('a'); await kit.queue('demo').add('b')",
        );
        driver.set_paused(DEMO, true).await.unwrap();
        driver.set_paused(DEMO, true).await.unwrap();
        assert_eq!(node.run("return await kit.queue('demo').isPaused()"), json!(true));
        node.run("await kit.queue('demo').add('c'); await kit.worker('demo', async (job) => { (kit.memory.ran ??= []).push(job.name) }); await kit.sleep(300)");
        assert_eq!(node.run("return kit.memory.ran ?? null"), json!(null));
        assert_eq!(driver.depth(&[DEMO]).await.unwrap()[0].waiting, 3);
        driver.set_paused(DEMO, false).await.unwrap();
        let ran = crate::rig::soon(
            &node,
            "the library's worker",
            "return kit.memory.ran?.length === 3 && kit.memory.ran",
        );
        assert_eq!(ran, json!(["a", "b", "c"]), "{library}");
        let events = rig.event_names();
        assert_eq!(events.iter().filter(|name| *name == "paused" || *name == "resumed").count(), 2);
    }
}

#[tokio::test]
async fn our_resume_writes_over_nothing() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let driver = rig.worker(1);
    node.run("await kit.queue('demo').add('old 1'); await kit.queue('demo').add('old 2'); await kit.queue('demo').pause()");
    // A producer of version 6 puts its job there while the others wait aside.
    driver.push(DEMO, "demo", br#"{"name":"new","data":1}"#, None).await.unwrap();
    redis::cmd("LMOVE")
        .arg(&["bull:demo:paused", "bull:demo:wait", "LEFT", "LEFT"])
        .exec(&mut rig.redis())
        .unwrap();
    driver.set_paused(DEMO, false).await.unwrap();
    let turn = take(&*driver, DEMO, 9).await;
    assert_eq!(names(&turn.jobs), ["old 1", "old 2", "new"]);
    for job in &turn.jobs {
        settle(&*driver, job, complete("1")).await;
    }
}
