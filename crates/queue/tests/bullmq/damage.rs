//! What somebody else has spoilt: it blocks nothing but itself, loses no byte of a job, and is told.

use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::{NodeRules, RateLimit};
use qfleet_model::outcome::{Output, Verdict};
use qfleet_queue::driver::{LaneId, QueueDriver, Remark, Settled, Turn};
use redis::Commands as _;
use serde_json::json;

use crate::contract::{job_of, names, settle, take, take_one};
use crate::rig::{DEMO, NodeRig, Settings, bury, complete, open, retry};

const NEXT: LaneId = LaneId(1);

/// A worker of `demo` and of `next`, both with a limit that is never reached, and with metrics.
fn worker(rig: &NodeRig, tag: u32) -> Arc<dyn QueueDriver> {
    let rate_limit = Some(RateLimit { max: 1000, per: Duration::from_secs(60) });
    let settings = Settings { rate_limit, rules: NodeRules { metrics: 5, ..NodeRules::default() } };
    open(rig.connection(), &[("demo", &["demo"]), ("next", &["next"])], tag, &settings)
}

fn call(rig: &NodeRig, words: &[&str]) -> redis::Value {
    redis::cmd(words[0]).arg(&words[1..]).query(&mut rig.redis()).unwrap()
}

/// A text where something else belongs.
fn spoil(rig: &NodeRig, key: &str) {
    call(rig, &["DEL", key]);
    call(rig, &["SET", key, "text"]);
}

fn is_told(turn: &Turn, what: &str) -> bool {
    turn.broken.iter().any(|(lane, text)| *lane == DEMO && text.contains(what))
}

/// One job held, one waiting, one of each other kind due; and one in the next queue.
async fn stage(rig: &NodeRig, driver: &dyn QueueDriver) -> qfleet_queue::driver::Reserved {
    let node = rig.node("bullmq");
    node.run(
        "const queue = kit.queue('demo'); await queue.add('held', {n: 1}); await queue.add('waits', {n: 2});
         await queue.add('first', {n: 3}, {priority: 1}); await queue.add('later', {n: 4}, {delay: 1});
         await kit.queue('next').add('next', {})",
    );
    take_one(driver, DEMO).await
}

/// The queue cannot be worked, and says because of which key; nothing of its jobs changes, and others go on.
#[tokio::test]
async fn keys_that_every_take_needs_stop_their_queue_and_are_named() {
    for key in ["wait", "active", "delayed", "prioritized", "meta", "limiter", "pc"] {
        let rig = NodeRig::bullmq();
        let driver = worker(&rig, 1);
        stage(&rig, &*driver).await;
        let key = format!("bull:demo:{key}");
        if key.ends_with("pc") {
            // Only a job that comes among the prioritized ones needs it.
            call(&rig, &["HSET", "bull:demo:odd", "name", "odd", "data", "{}", "priority", "7"]);
            call(&rig, &["ZADD", "bull:demo:delayed", "1", "odd"]);
        }
        spoil(&rig, &key);
        let before: Vec<_> = ["2", "3", "4"].map(|id| rig.hash(id)).into();
        let asks = [DEMO, NEXT].map(|lane| qfleet_queue::driver::Ask { lane, at_most: 9 });
        let turn = driver.turn(&[], &asks, driver.mark()).await.unwrap();
        assert!(is_told(&turn, &key) && is_told(&turn, "`demo`"), "{key}: {:?}", turn.broken);
        assert_eq!(names(&turn.jobs).last(), Some(&"next"), "{key}");
        let after: Vec<_> = ["2", "3", "4"].map(|id| rig.hash(id)).into();
        for (before, after) in before.iter().zip(&after) {
            for field in ["name", "data", "opts"] {
                assert_eq!(before[field], after[field], "{key}");
            }
        }
        assert_eq!(rig.redis().get::<_, String>(&key).unwrap(), "text");
    }
}

/// They inform or remember, and what is wrong with them holds up no job.
#[tokio::test]
async fn keys_beside_the_jobs_hold_up_nothing() {
    for key in [
        "events",
        "marker",
        "stalled",
        "id",
        "waiting-children",
        "repeat",
        "metrics:completed",
        "metrics:completed:data",
        "1:lock",
        "1:logs",
        "1:processed",
        "1:failed",
    ] {
        let rig = NodeRig::bullmq();
        let driver = worker(&rig, 1);
        let held = stage(&rig, &*driver).await;
        let key = format!("bull:demo:{key}");
        call(&rig, &["DEL", "bull:demo:stalled-check"]);
        let lock = key.ends_with(":lock");
        if lock {
            call(&rig, &["DEL", &key]);
            call(&rig, &["HSET", &key, "a", "b"]);
        } else {
            spoil(&rig, &key);
        }
        let settled = settle(&*driver, &held, complete("1")).await;
        assert_eq!(settled, if lock { Settled::Lost } else { Settled::Done }, "{key}");
        // The second worker looks for stalled jobs first.
        let turn = take(&*worker(&rig, 2), DEMO, 9).await;
        assert_eq!(names(&turn.jobs), ["waits", "later", "first"], "{key}");
        assert_eq!(is_told(&turn, &key), key.ends_with(":stalled"), "{key}: {:?}", turn.broken);
    }
}

/// The job stays where it is until its key is there again, and so does its lock.
#[tokio::test]
async fn a_job_that_has_nowhere_to_go_stays_in_hand() {
    for (key, verdict) in [("completed", complete("1")), ("failed", bury("bad"))] {
        let rig = NodeRig::bullmq();
        let driver = worker(&rig, 1);
        let held = stage(&rig, &*driver).await;
        let key = format!("bull:demo:{key}");
        spoil(&rig, &key);
        let settlement =
            qfleet_queue::driver::Settlement { receipt: held.receipt.clone(), verdict: verdict.clone() };
        let turn = driver.turn(&[settlement], &[], driver.mark()).await.unwrap();
        assert!(is_told(&turn, &key), "{:?}", turn.broken);
        assert_eq!(rig.redis_keys("bull:demo:1:lock").len(), 1);
        assert_eq!(rig.redis().lrange::<_, Vec<String>>("bull:demo:active", 0, -1).unwrap(), ["1"]);
        call(&rig, &["DEL", &key]);
        assert_eq!(settle(&*driver, &held, verdict).await, Settled::Done, "{key}");
    }
}

/// It could never be completed, and would run again and again.
#[tokio::test]
async fn a_job_whose_children_cannot_be_counted_has_failed() {
    for key in ["1:dependencies", "1:unsuccessful"] {
        let rig = NodeRig::bullmq();
        let driver = worker(&rig, 1);
        let held = stage(&rig, &*driver).await;
        let key = format!("bull:demo:{key}");
        spoil(&rig, &key);
        assert_eq!(settle(&*driver, &held, complete("1")).await, Settled::Done);
        let hash = rig.hash("1");
        assert!(hash["failedReason"].contains(&key), "{}", hash["failedReason"]);
        assert_eq!(hash["data"], r#"{"n":1}"#);
        assert!(rig.redis().zscore::<_, _, Option<f64>>("bull:demo:failed", "1").unwrap().is_some());
    }
}

#[tokio::test]
async fn options_and_counters_that_make_no_sense_hold_up_nothing() {
    let rules =
        r#"{"removeOnComplete":{"count":2.5,"age":-1,"limit":0.5},"removeOnFail":{"count":1e300,"age":"x"}}"#;
    let others = r#"{"kl":1.5,"stackTraceLimit":0.5,"attempts":{},"backoff":[],"lifo":"no","priority":[],"de":7,"repeat":3,"tm":{}}"#;
    for opts in ["5", "[1,2]", r#"{"att"#, "null", r#""text""#, "", "\u{0}", rules, others] {
        for counter in ["abc", "1.5", "1e400", "-3"] {
            let rig = NodeRig::bullmq();
            let driver = worker(&rig, 1);
            for id in ["done", "bad", "again"] {
                let mut hash = redis::cmd("HSET");
                hash.arg(format!("bull:demo:{id}")).arg(&["name", id, "data", "{\"a\": 1.0}", "opts", opts]);
                for field in ["ats", "atm", "stc", "timestamp", "delay", "priority"] {
                    hash.arg(field).arg(counter);
                }
                hash.exec(&mut rig.redis()).unwrap();
                call(&rig, &["LPUSH", "bull:demo:wait", id]);
            }
            let turn = take(&*driver, DEMO, 9).await;
            let what = format!("opts {opts:?}, counters {counter:?}");
            assert_eq!(names(&turn.jobs), ["done", "bad", "again"], "{what}");
            assert!(turn.broken.is_empty(), "{what}: {:?}", turn.broken);
            let line = (turn.jobs[0].receipt.clone(), Remark::Log("line".into()));
            driver.remark(&[line]).await.unwrap();
            let verdicts = [complete("1"), bury("no"), retry(Duration::from_millis(1), "not yet")];
            for (job, verdict) in turn.jobs.iter().zip(verdicts) {
                assert_eq!(settle(&*driver, job, verdict).await, Settled::Done, "{what}");
            }
            assert_eq!(
                names(&[crate::contract::take_soon(&*driver, DEMO, crate::rig::SOON).await]),
                ["again"]
            );
            for id in ["bad", "again"] {
                let hash = rig.hash(id);
                assert_eq!((hash["data"].as_str(), hash["opts"].as_str()), ("{\"a\": 1.0}", opts), "{what}");
            }
        }
    }
}

/// Handlers are given JSON or nothing: such jobs are failed with the reason, and may be looked at, mended and retried.
#[tokio::test]
async fn data_that_is_no_json_ends_in_the_failed_set_with_every_byte() {
    for data in ["{no", "{\"a\":1} x", "nul", "\u{1}"] {
        let rig = NodeRig::bullmq();
        let driver = worker(&rig, 1);
        call(&rig, &["HSET", "bull:demo:odd", "name", "odd", "data", data, "opts", "{}", "timestamp", "5"]);
        call(&rig, &["LPUSH", "bull:demo:wait", "odd"]);
        let turn = take(&*driver, DEMO, 9).await;
        let problem = turn.jobs[0].job.as_ref().unwrap_err().0.clone();
        assert!(problem.contains("`data` is not valid JSON"), "{problem}");
        assert_eq!(settle(&*driver, &turn.jobs[0], bury(&problem)).await, Settled::Done);
        let hash = rig.hash("odd");
        assert_eq!((hash["data"].as_str(), hash["failedReason"].as_str()), (data, problem.as_str()));
        let failed: Vec<String> = rig.redis().zrange("bull:demo:failed", 0, -1).unwrap();
        assert_eq!(failed, ["odd"]);
    }
    let rig = NodeRig::bullmq();
    call(&rig, &["HSET", "bull:demo:odd", "data", "{}", "opts", "{}"]);
    call(&rig, &["LPUSH", "bull:demo:wait", "odd"]);
    let turn = take(&*worker(&rig, 1), DEMO, 9).await;
    assert_eq!(turn.jobs[0].job.as_ref().unwrap_err().0, "it has no `name`");
}

#[tokio::test]
async fn what_is_no_job_is_dropped_and_told_where_something_is_left() {
    let rig = NodeRig::bullmq();
    // No hash, a stub of a hash, keys of another type, an old wake-up mark, nothing given.
    for id in ["gone", "stub", "text", "0:0", "bare", "fine"] {
        call(&rig, &["LPUSH", "bull:demo:wait", id]);
    }
    call(&rig, &["ZADD", "bull:demo:delayed", "1", "late"]);
    call(&rig, &["HSET", "bull:demo:stub", "processedOn", "1"]);
    call(&rig, &["SET", "bull:demo:text", "hello"]);
    call(&rig, &["RPUSH", "bull:demo:late", "hello"]);
    call(&rig, &["HSET", "bull:demo:bare", "name", "bare"]);
    call(&rig, &["HSET", "bull:demo:fine", "name", "fine", "data", "{}", "opts", "{}", "timestamp", "5"]);
    let driver = worker(&rig, 1);
    let turn = take(&*driver, DEMO, 10).await;
    assert_eq!(names(&turn.jobs), ["bare", "fine"]);
    assert_eq!(job_of(&turn.jobs[0]).payload, b"{}");
    assert!(is_told(&turn, "`bull:demo:text` is no job") && is_told(&turn, "`bull:demo:late` is no job"));
    assert_eq!(turn.broken.len(), 2, "{:?}", turn.broken);
    for job in &turn.jobs {
        settle(&*driver, job, complete("1")).await;
    }
    let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0));
    assert_eq!(rig.redis_keys("bull:demo:stub"), Vec::<String>::new());
    assert_eq!(rig.redis().get::<_, String>("bull:demo:text").unwrap(), "hello");
    assert_eq!(rig.redis().lrange::<_, Vec<String>>("bull:demo:late", 0, -1).unwrap(), ["hello"]);
}

/// A result that is no JSON would end every listener's loop.
#[tokio::test]
async fn results_of_any_bytes_are_json_for_readers() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    let driver = worker(&rig, 1);
    let held = stage(&rig, &*driver).await;
    let result = Verdict::Complete { result: Some(Output::Json(b"{\"a\":\xff".to_vec())) };
    assert_eq!(settle(&*driver, &held, result).await, Settled::Done);
    let value = node.run("return (await kit.queue('demo').getJob('1')).returnvalue");
    assert_eq!(value, json!("{\"a\":\u{fffd}"));
}
