//! Job schedulers: the next iteration is there when the last one was taken, once.

use serde_json::{Value, json};

use crate::contract::{job_of, settle, take_soon};
use crate::node::schedules;
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
    assert!((told - due).abs() < 1_000, "{told} and {due}");
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

/// Repeatable jobs of still older producers: their key is all there is.
#[tokio::test]
async fn repeatable_jobs_without_a_definition_go_on_beside_version_5() {
    let hour = 3_600_000;
    for (key, rule, data) in [
        ("old::::3600000", json!({"every": hour, "count": 1}), json!({"a": 1})),
        ("old::::3600000", json!({"every": hour, "count": 1}), json!({"id": "x"})),
        (
            "old:::Europe/Paris:0 0 3 * * *",
            json!({"pattern": "0 0 3 * * *", "tz": "Europe/Paris", "count": 1}),
            json!({"id": 7}),
        ),
    ] {
        let mut iterations = Vec::new();
        for ours in [false, true] {
            let rig = NodeRig::bullmq();
            let node = rig.node("bullmq");
            let before = crate::rig::now().as_millis() / hour * hour;
            let id = format!("repeat:abc:{before}");
            let opts = json!({"jobId": id, "prevMillis": before, "attempts": 2, "repeatJobKey": key, "repeat": rule});
            node.run(&format!(
                "await kit.queue('demo').waitUntilReady(); const redis = kit.redis();
                 await redis.zadd('bull:demo:repeat', {before}, {key:?});
                 await redis.hset('bull:demo:{id}', {{name: 'old', data: JSON.stringify({data}), opts: JSON.stringify({opts}), timestamp: {before}, delay: 0, priority: 0, rjk: {key:?}}});
                 await redis.lpush('bull:demo:wait', {id:?})"
            ));
            if ours {
                let job = take_soon(&*rig.worker(1), DEMO, SOON).await;
                assert_eq!(job_of(&job).name, "old");
            } else {
                node.run("kit.memory.ended = 0; const w = await kit.worker('demo'); w.on('completed', () => kit.memory.ended++)");
                soon(&node, "the library's worker", "return kit.memory.ended === 1");
            }
            let (id, next) = pending(&rig);
            iterations.push((id, next, crate::rig::dump(&mut rig.redis())["bull:demo:repeat"].clone()));
        }
        assert_eq!(iterations[0], iterations[1], "{key}: theirs (left), ours (right)");
    }
}

/// Version 6 knows them no more; the job that is there runs all the same.
#[tokio::test]
async fn repeatable_jobs_without_a_definition_end_beside_version_6() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq6");
    node.run(
        "await kit.queue('demo').waitUntilReady(); const redis = kit.redis();
         await redis.zadd('bull:demo:repeat', 5, 'old::::3600000');
         await redis.hset('bull:demo:repeat:abc:5', {name: 'old', data: '{}', opts: '{\"repeat\":{\"every\":3600000}}', timestamp: 5, rjk: 'old::::3600000'});
         await redis.lpush('bull:demo:wait', 'repeat:abc:5')",
    );
    let driver = rig.worker(1);
    let job = take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &job, complete("1")).await;
    let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0));
}

/// The library draws the minute anew each time; here it is the scheduler's own.
#[tokio::test]
async fn a_value_that_is_left_to_the_worker_is_the_same_each_time() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq6");
    node.run(
        "await kit.queue('demo').upsertJobScheduler('s', {pattern: 'H H 1 1 *', tz: 'UTC'}, {name: 'tick'})",
    );
    let driver = rig.worker(1);
    let mut dates = Vec::new();
    for _ in 0..3 {
        node.run("const [job] = await kit.queue('demo').getDelayed(); await job.promote()");
        let job = take_soon(&*driver, DEMO, SOON).await;
        settle(&*driver, &job, complete("1")).await;
        let (id, _) = pending(&rig);
        dates.push(id.rsplit(':').next().unwrap().parse::<i64>().unwrap());
    }
    // Each is a year after the last one, in the same minute.
    let days: Vec<i64> = dates.windows(2).map(|pair| (pair[1] - pair[0]) / 86_400_000).collect();
    assert!(days.iter().all(|days| (365..=366).contains(days)), "{days:?}");
    assert!(dates.windows(2).all(|pair| (pair[1] - pair[0]) % 86_400_000 == 0), "{dates:?}");
}

#[tokio::test]
async fn a_schedule_goes_on_between_us_and_node() {
    let schedule = "await kit.queue('demo').upsertJobScheduler('s', {every: 150}, {name: 'tick'})";
    schedules::a_schedule_goes_on_between_us_and_node("bullmq", schedule).await;
}

#[tokio::test]
async fn a_retried_iteration_makes_no_second_one_and_a_limit_ends_it() {
    let schedule = "await kit.queue('demo').upsertJobScheduler('s', {every: 100, limit: 2}, {name: 'tick', opts: {attempts: 2}})";
    schedules::a_retried_iteration_makes_no_second_one_and_a_limit_ends_it("bullmq", schedule).await;
}
