//! What the library's listeners and producers see of jobs we work.

use std::time::Duration;

use qfleet_model::outcome::{Output, Verdict};
use qfleet_queue::driver::Remark;
use serde_json::json;

use crate::contract::{job_of, settle, take, take_one, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, bury, complete, retry, soon};

#[tokio::test]
async fn a_listener_sees_what_happens_to_jobs() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        node.run("await kit.listen('demo')");
        node.run("await kit.queue('demo').add('a', {who: 'ann'}, {attempts: 2}); await kit.queue('demo').add('b', {})");
        let driver = rig.worker(1);
        let job = take_one(&*driver, DEMO).await;
        assert_eq!(job_of(&job).payload, br#"{"who":"ann"}"#);
        settle(&*driver, &job, retry(Duration::from_millis(700), "not yet")).await;
        let other = take_one(&*driver, DEMO).await;
        settle(&*driver, &other, bury("never")).await;
        let again = take_soon(&*driver, DEMO, SOON).await;
        let result = Verdict::Complete { result: Some(Output::Text("say \"hi\"".into())) };
        settle(&*driver, &again, result).await;
        let seen = soon(
            &node,
            "the events",
            "const seen = kit.seen('demo'); return seen.some(([event]) => event === 'drained') && seen",
        );
        let names: Vec<(&str, &str)> = seen
            .as_array()
            .unwrap()
            .iter()
            .map(|event| (event[0].as_str().unwrap(), event[1]["jobId"].as_str().unwrap_or("")))
            .filter(|(name, _)| !name.contains(':'))
            .collect();
        let expected = [
            ("added", "1"),
            ("waiting", "1"),
            ("added", "2"),
            ("waiting", "2"),
            ("active", "1"),
            ("delayed", "1"),
            ("active", "2"),
            ("failed", "2"),
            ("retries-exhausted", "2"),
            ("waiting", "1"),
            ("active", "1"),
            ("completed", "1"),
            ("drained", ""),
        ];
        assert_eq!(names, expected, "{library}");
        let completed = seen.as_array().unwrap().iter().find(|event| event[0] == "completed").unwrap();
        assert_eq!(completed[1]["returnvalue"], json!("say \"hi\""));
    }
}

#[tokio::test]
async fn a_producer_waits_for_the_result() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run(
        "await kit.listen('demo'); const job = await kit.queue('demo').add('a', {});
         kit.memory.result = job.waitUntilFinished(kit.events('demo'), 150000)",
    );
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    settle(&*driver, &job, complete(r#"{"ok":[1,2]}"#)).await;
    assert_eq!(node.run("return await kit.memory.result"), json!({"ok": [1, 2]}));
}

#[tokio::test]
async fn progress_and_log_lines_are_kept() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.listen('demo'); await kit.queue('demo').add('a', {}, {keepLogs: 2})");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    let said = [
        Remark::Progress(Output::Json(b"{\"done\": 0.5}".to_vec())),
        Remark::Log("one".into()),
        Remark::Log("two".into()),
        Remark::Log("three".into()),
        Remark::Progress(Output::Text("nearly".into())),
    ];
    driver.remark(&said.map(|remark| (job.receipt.clone(), remark))).await.unwrap();
    settle(&*driver, &job, complete("1")).await;
    // The job is gone; nothing is made of what is said now.
    node.run("await (await kit.queue('demo').getJob('1')).remove()");
    driver.remark(&[(job.receipt.clone(), Remark::Log("late".into()))]).await.unwrap();
    assert!(rig.redis_keys("bull:demo:1*").is_empty());
    let seen = soon(
        &node,
        "the events",
        "const seen = kit.seen('demo').filter(([name]) => name === 'progress' || name === 'completed'); return seen.length === 3 && seen",
    );
    assert_eq!((&seen[0][1]["data"], &seen[1][1]["data"]), (&json!({"done": 0.5}), &json!("nearly")));
}

#[tokio::test]
async fn log_lines_are_cut_as_the_job_wants() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').add('a', {}, {keepLogs: 2})");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    let lines = ["one", "two", "three"].map(|line| (job.receipt.clone(), Remark::Log(line.into())));
    driver.remark(&lines).await.unwrap();
    let logs = node.run("return (await kit.queue('demo').getJobLogs('1')).logs");
    assert_eq!(logs, json!(["two", "three"]));
}

#[tokio::test]
async fn a_worker_of_one_queue_is_seen() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let driver = rig.worker(1);
    let begun = std::time::Instant::now();
    while node.run("return (await kit.queue('demo').getWorkers()).length") != json!(1) {
        assert!(begun.elapsed() < SOON, "nobody is seen");
        driver.wait(&[DEMO], Duration::from_millis(50)).await.unwrap();
    }
}

#[tokio::test]
async fn versions_nobody_tested_are_left_alone() {
    let rig = NodeRig::bullmq();
    rig.worker(0).push(DEMO, "demo", br#"{"name":"a","data":1}"#, None).await.unwrap();
    let set = |version: &str| {
        redis::cmd("HSET").arg("bull:demo:meta").arg("version").arg(version).exec(&mut rig.redis()).unwrap();
    };
    for version in ["bullmq:7.0.1", "bullmq:4.18.3", "bullmq-pro:8.0.0"] {
        set(version);
        let turn = take(&*rig.worker(1), DEMO, 1).await;
        assert!(turn.jobs.is_empty(), "{version}");
        assert!(
            turn.broken[0].1.contains(version) && turn.broken[0].1.contains("accept-version"),
            "{:?}",
            turn.broken
        );
    }
    set("bullmq:7.0.1");
    let accepting = qfleet_manifest::queue::NodeRules { accept_version: Some(7), ..Default::default() };
    assert_eq!(take(&*rig.worker_with(1, &accepting), DEMO, 1).await.jobs.len(), 1);
}
