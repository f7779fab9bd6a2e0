//! Repeatable jobs: whoever takes one creates the next, once.

use redis::Commands as _;
use serde_json::{Value, json};

use crate::contract::{job_of, settle, take_soon};
use crate::node::schedules;
use crate::rig::{DEMO, NodeRig, SOON, complete, soon};

/// The pending iteration: its hash and options, without dates, and its low digits in `delayed`.
fn pending(rig: &NodeRig) -> (String, Value) {
    let rows: Vec<(String, f64)> = rig.redis().zrange_withscores("bull:demo:delayed", 0, -1).unwrap();
    assert_eq!(rows.len(), 1, "one iteration waits: {rows:?}");
    let (id, score) = &rows[0];
    let mut fields = json!(rig.hash(id));
    let mut opts: Value = serde_json::from_str(fields["opts"].as_str().unwrap()).unwrap();
    let due: i64 = id.rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(opts["timestamp"].as_i64().unwrap() + opts["delay"].as_i64().unwrap(), due);
    assert_eq!(opts["prevMillis"].as_i64(), Some(due));
    assert_eq!((score / 4096.0).floor() as i64, due);
    for (one, same) in [("timestamp", "timestamp"), ("delay", "delay")] {
        assert_eq!(fields[one], opts[same].to_string(), "{one}");
    }
    for field in ["timestamp", "delay", "jobId", "prevMillis"] {
        opts[field] = json!("some");
    }
    for field in ["timestamp", "delay", "opts"] {
        fields[field] = json!("some");
    }
    let repeats: Vec<(String, f64)> = rig.redis().zrange_withscores("bull:demo:repeat", 0, -1).unwrap();
    assert_eq!(repeats[0].1 as i64, due);
    let series = id.rsplit_once(':').unwrap().0.to_owned();
    (series, json!([fields, opts, repeats[0].0, score % 4096.0]))
}

#[tokio::test]
async fn the_next_iteration_is_the_librarys() {
    for (rule, more) in [
        ("{every: 3600000}", "attempts: 2, removeOnComplete: true"),
        ("{every: 3600000, limit: 5}", "priority: 2, lifo: true"),
        (
            "{cron: '0 0 3 * * *', tz: 'Europe/Paris', limit: 5, jobId: 'mine'}",
            "backoff: {type: 'exponential', delay: 5}",
        ),
        (
            "{cron: '0 3 * * *', tz: 'UTC', startDate: '2030-01-01', endDate: '2031-01-01T00:00:00Z'}",
            "jobId: 'mine'",
        ),
    ] {
        let mut iterations = Vec::new();
        for ours in [false, true] {
            let rig = NodeRig::bull();
            let node = rig.node("bull");
            node.run(&format!(
                "await kit.queue('demo').add('tick', {{a: [1.5, {{}}]}}, {{repeat: {rule}, {more}}});
                 const [job] = await kit.queue('demo').getDelayed(); await job.promote()"
            ));
            if ours {
                let driver = rig.worker(1);
                let job = take_soon(&*driver, DEMO, SOON).await;
                assert_eq!(job_of(&job).name, "tick");
                settle(&*driver, &job, complete("1")).await;
            } else {
                node.run("kit.memory.ended = 0; const w = await kit.worker('demo'); w.on('completed', () => kit.memory.ended++)");
                soon(&node, "the library's worker", "return kit.memory.ended === 1");
            }
            iterations.push(pending(&rig));
        }
        assert_eq!(iterations[0], iterations[1], "{rule}: theirs (left), ours (right)");
    }
}

#[tokio::test]
async fn a_rule_that_was_removed_makes_no_more_jobs() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').add('tick', {}, {repeat: {every: 3600000}}); const [job] = await kit.queue('demo').getDelayed(); await job.promote()");
    let _: () = rig.redis().del("bull:demo:repeat").unwrap();
    let driver = rig.worker(1);
    let job = take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &job, complete("1")).await;
    assert_eq!(driver.depth(&[DEMO]).await.unwrap()[0].delayed, 0);
    assert!(rig.redis_keys("bull:demo:repeat").is_empty());
}

#[tokio::test]
async fn a_repeated_job_goes_on_between_us_and_node() {
    let schedule = "await kit.queue('demo').add('tick', {}, {repeat: {every: 150}})";
    schedules::a_schedule_goes_on_between_us_and_node("bull", schedule).await;
}

#[tokio::test]
async fn a_retried_iteration_makes_no_second_one_and_a_limit_ends_it() {
    let schedule = "await kit.queue('demo').add('tick', {}, {repeat: {every: 100, limit: 2}, attempts: 2})";
    schedules::a_retried_iteration_makes_no_second_one_and_a_limit_ends_it("bull", schedule).await;
}
