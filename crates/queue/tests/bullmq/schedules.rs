//! Job schedulers: the next iteration is there when the last one was taken, once.

use serde_json::{Value, json};

use crate::contract::{job_of, settle, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, complete, soon};

/// The pending iteration's hash with its dates as differences.
fn pending(rig: &NodeRig) -> (String, Value) {
    let ids: Vec<String> =
        redis::cmd("ZRANGE").arg("bull:demo:delayed").arg(0).arg(-1).query(&mut rig.redis()).unwrap();
    assert_eq!(ids.len(), 1, "one iteration waits: {ids:?}");
    let hash = rig.hash(&ids[0]);
    let mut opts: Value = serde_json::from_str(&hash["opts"]).unwrap();
    let due: i64 = ids[0].rsplit(':').next().unwrap().parse().unwrap();
    let told = opts["timestamp"].as_i64().unwrap() + opts["delay"].as_i64().unwrap();
    assert!((told - due).abs() < 50, "{told} and {due}");
    for field in ["timestamp", "delay", "jobId"] {
        opts[field] = json!("some");
    }
    if let Some(last) = opts.get("prevMillis").and_then(Value::as_i64) {
        opts["prevMillis"] = json!(if last == due { "due" } else { "before" });
    }
    if opts["repeat"].get("offset").is_some() {
        opts["repeat"]["offset"] = json!("some");
    }
    let mut fields = json!(hash);
    for field in ["timestamp", "delay", "opts"] {
        fields[field] = json!("some");
    }
    (ids[0].clone(), json!({"fields": fields, "opts": opts}))
}

#[tokio::test]
async fn the_next_iteration_is_the_librarys() {
    for library in ["bullmq", "bullmq6"] {
        for rule in [
            "{every: 3600000}",
            "{every: 3600000, offset: 500}",
            "{pattern: '0 0 3 * * *', tz: 'Europe/Paris', limit: 5}",
        ] {
            let mut iterations = Vec::new();
            for ours in [false, true] {
                let rig = NodeRig::bullmq();
                let node = rig.node(library);
                node.run(&format!(
                    "await kit.queue('demo').upsertJobScheduler('s', {rule}, {{name: 'tick', data: {{a: 1}}, opts: {{attempts: 2, removeOnComplete: true}}}});
                     const [job] = await kit.queue('demo').getDelayed(); if (job) await job.promote()"
                ));
                if ours {
                    let driver = rig.worker(1);
                    let job = take_soon(&*driver, DEMO, SOON).await;
                    assert_eq!((job_of(&job).name.as_str(), job_of(&job).limits.tries), ("tick", Some(2)));
                    settle(&*driver, &job, complete("1")).await;
                } else {
                    node.run("kit.memory.ended = 0; const w = await kit.worker('demo'); w.on('completed', () => kit.memory.ended++)");
                    soon(&node, "the library's worker", "return kit.memory.ended === 1");
                }
                iterations.push(pending(&rig).1);
            }
            assert_eq!(iterations[0], iterations[1], "{library} {rule}: theirs (left), ours (right)");
        }
    }
}

/// The repeatable jobs of version 5, which have no scheduler of their own at first.
#[tokio::test]
async fn repeatable_jobs_of_old_producers_go_on() {
    let mut iterations = Vec::new();
    for ours in [false, true] {
        let rig = NodeRig::bullmq();
        let node = rig.node("bullmq");
        node.run("await kit.queue('demo').add('old', {a: 1}, {repeat: {every: 3600000, limit: 3}, attempts: 2}); const [job] = await kit.queue('demo').getDelayed(); await job.promote()");
        if ours {
            let driver = rig.worker(1);
            let job = take_soon(&*driver, DEMO, SOON).await;
            settle(&*driver, &job, complete("1")).await;
        } else {
            node.run("kit.memory.ended = 0; const w = await kit.worker('demo'); w.on('completed', () => kit.memory.ended++)");
            soon(&node, "the library's worker", "return kit.memory.ended === 1");
        }
        iterations.push(pending(&rig).1);
    }
    assert_eq!(iterations[0], iterations[1], "theirs (left), ours (right)");
}

#[tokio::test]
async fn a_schedule_goes_on_between_us_and_node() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run(
        "await kit.queue('demo').upsertJobScheduler('s', {every: 150}, {name: 'tick'});
         kit.memory.runs = []; await kit.worker('demo', async (job) => { kit.memory.runs.push(job.id) })",
    );
    let driver = rig.worker(1);
    let (mut ours, started) = (Vec::new(), std::time::Instant::now());
    while ours.len() < 4 {
        assert!(started.elapsed() < SOON * 2, "our worker got {ours:?} only");
        driver.wait(&[DEMO], std::time::Duration::from_millis(20)).await.unwrap();
        let turn = crate::contract::take(&*driver, DEMO, 1).await;
        for job in &turn.jobs {
            ours.push(job_of(job).id.clone());
            settle(&*driver, job, complete("1")).await;
        }
    }
    let theirs: Vec<String> = serde_json::from_value(node.run("return kit.memory.runs")).unwrap();
    let mut all: Vec<&String> = ours.iter().chain(&theirs).collect();
    let runs = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), runs, "no iteration runs twice");
    let dates: Vec<i64> = all.iter().map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert!(dates.windows(2).all(|pair| pair[1] - pair[0] >= 150), "{dates:?}");
}

#[tokio::test]
async fn a_retried_iteration_makes_no_second_one_and_a_limit_ends_it() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').upsertJobScheduler('s', {every: 100, limit: 2}, {name: 'tick', opts: {attempts: 2}})");
    let driver = rig.worker(1);
    let first = take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &first, crate::rig::retry(std::time::Duration::ZERO, "once")).await;
    let mut runs = Vec::new();
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_millis(700) {
        for job in &crate::contract::take(&*driver, DEMO, 5).await.jobs {
            runs.push(job_of(job).id.clone());
            settle(&*driver, job, complete("1")).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    runs.sort();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(runs[0], job_of(&first).id);
    let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0));
}
