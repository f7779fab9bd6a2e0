//! What we leave in Redis for a job, compared field by field with what the library's own worker leaves for the same job.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use qfleet_testkit::eventually;
use redis::Commands as _;
use serde_json::{Value, json};

use crate::life;
use crate::stage::{Library, Stage};
use crate::support::SOON;

conforms!(every: of_ended_jobs, of_jobs_to_come, of_jobs_under_way);

/// Hash fields that are moments.
const DATES: [&str; 4] = ["timestamp", "processedOn", "finishedOn", "prevTS"];

/// Every key of a queue but its events and wake-ups, with moments and tokens taken out.
fn dump(stage: &Stage, queue: &str) -> BTreeMap<String, Value> {
    let mut redis = stage.redis.connection();
    let base = format!("bull:{queue}:");
    let keys: Vec<String> = redis.keys(format!("{base}*")).unwrap();
    let mut dump = BTreeMap::new();
    for key in keys {
        let suffix = &key[base.len()..];
        if suffix == "marker" {
            // It is there for a moment, or one too many: it says where to look, not what is there.
            continue;
        }
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut redis).unwrap();
        let lasts = redis.pttl::<_, i64>(&key).unwrap() > 0;
        let value = match kind.as_str() {
            "hash" => json!(fields(redis.hgetall(&key).unwrap(), queue)),
            "list" => json!(redis.lrange::<_, Vec<String>>(&key, 0, -1).unwrap()),
            "set" => json!(redis.smembers::<_, std::collections::BTreeSet<String>>(&key).unwrap()),
            // Members in order; their dates are not the same twice.
            "zset" => json!(redis.zrange::<_, Vec<String>>(&key, 0, -1).unwrap()),
            "string" if suffix.ends_with(":lock") || suffix == "stalled-check" => json!("(token)"),
            "string" => json!(redis.get::<_, String>(&key).unwrap()),
            _ => continue,
        };
        dump.insert(suffix.to_owned(), json!({"value": value, "lasts": lasts}));
    }
    dump
}

fn fields(mut hash: BTreeMap<String, String>, queue: &str) -> BTreeMap<String, String> {
    for (name, value) in &mut hash {
        if DATES.contains(&name.as_str()) {
            assert_eq!(value.len(), 13, "`{name}` is a moment in ms: {value}");
            "(date)".clone_into(value);
        }
        *value = value.replace(&format!("bull:{queue}:"), "bull:(queue):");
        if name == "opts" {
            let mut opts: BTreeMap<String, Value> = serde_json::from_str(value).unwrap();
            opts.entry("timestamp".into()).and_modify(|date| *date = json!("(date)"));
            *value = json!(opts).to_string();
        }
    }
    hash
}

/// Compared when both are the same, or stay different: a worker may have something to write yet.
#[track_caller]
fn alike(stage: &Stage, at_least: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let (theirs, ours) = eventually(SOON, "the keys of both", || {
        let (theirs, ours) = (dump(stage, "theirs"), dump(stage, "ours"));
        (theirs == ours || Instant::now() > deadline).then_some((theirs, ours))
    });
    let keys: std::collections::BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    assert!(keys.len() >= at_least, "{keys:?}");
    for key in keys {
        assert_eq!(ours.get(key), theirs.get(key), "`{key}`: ours (left), theirs (right)");
    }
}

fn of_ended_jobs(library: Library) {
    let options = "{metrics: {maxDataPoints: 60}}";
    let (stage, mut fleet) = life::stage(library, options, "metrics: 1h");
    life::one_by_one(
        &stage,
        "[['value', {a: 1, none: []}], ['nothing', {}], ['value again', {}, {jobId: 'mine'}],
          ['second', {}, {attempts: 2}], ['second later', {}, {attempts: 3, backoff: 60}],
          ['bad', {}, {attempts: 2}], ['bad once', {}], ['bad cut', {}, {attempts: 3, stackTraceLimit: 1}],
          ['never', {}, {attempts: 3}], ['delayed', {}, {delay: 60}], ['urgent', {}, {priority: 2}],
          ['gone', {}, {removeOnComplete: true}], ['bad and gone', {}, {removeOnFail: true}],
          ['bad untraced', {}, {attempts: 2, stackTraceLimit: 0}], ['bad by text', {}, {attempts: '3'}],
          ['bad by halves', {}, {attempts: 2.5}], ['few', {}, {removeOnComplete: 3}]]",
    );
    alike(&stage, 12);
    assert_eq!(fleet.stop(), 0);
}

fn of_jobs_to_come(library: Library) {
    let (stage, mut fleet) = life::stage(library, "{}", "");
    stage.run(
        "for (const name of ['theirs', 'ours']) {
           const queue = kit.queue(name)
           await queue.add('bad, tried later', {}, {attempts: 3, backoff: {type: 'fixed', delay: 60000}})
           await queue.add('bad, tried later too', {}, {attempts: 3, priority: 2, backoff: {type: 'exponential', delay: 70000}})
           await queue.add('far', {}, {delay: 3600000})
           await kit.until(async () => await queue.getDelayedCount() === 3)
         }",
    );
    alike(&stage, 5);
    assert_eq!(fleet.stop(), 0);
}

fn of_jobs_under_way(library: Library) {
    let (stage, mut fleet, released) = life::holding_stage(library, "{}", "");
    // One is held under way while another waits, one is paused beside them, and one was tried again.
    stage.run(
        "const both = ['theirs', 'ours'].map((name) => kit.queue(name))
         const add = (...job) => Promise.all(both.map((queue) => queue.add(...job)))
         await add('second, at once', {}, {attempts: 2})
         await Promise.all(both.map((queue) => kit.until(async () => await queue.getCompletedCount() === 1)))
         await add('held', {}, {priority: 5})
         await Promise.all(both.map((queue) => kit.until(async () => await queue.getActiveCount() === 1)))
         await add('waits', {}); await add('urgent', {}, {priority: 3})
         await Promise.all(both.map((queue) => queue.pause()))",
    );
    alike(&stage, 5);
    life::release(&stage, &released);
    assert_eq!(fleet.stop(), 0);
}
