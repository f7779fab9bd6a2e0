//! Figures of finished jobs for dashboards, as the library's `getMetrics()` reads them and its own worker writes them.

use redis::Commands as _;
use serde_json::json;

use crate::life;
use crate::stage::{Library, Stage};

conforms!(every: counted_by_the_minute, off_unless_wanted);

/// The figures of a queue: all so far, those of past minutes, and how many minutes that are.
fn figures(stage: &Stage, queue: &str) -> serde_json::Value {
    stage.run(&format!(
        "const figures = async (kind) => {{
           const {{meta, data, count}} = await kit.queue('{queue}').getMetrics(kind)
           return [meta.count, data.map(Number), count]
         }}
         return {{completed: await figures('completed'), failed: await figures('failed')}}"
    ))
}

fn counted_by_the_minute(library: Library) {
    // A minute may end meanwhile, and then nobody can say where a job was counted.
    while !within_one_minute(library) {}
}

/// False when it took longer than that, and nothing is known.
fn within_one_minute(library: Library) -> bool {
    let (stage, mut fleet) = life::stage(library, "{metrics: {maxDataPoints: 3}}", "metrics: 3m");
    let minute = || stage.run("return Math.floor(Date.now() / 60000)");
    let began = minute();
    let passed = |minutes: i64| {
        let mut redis = stage.redis.connection();
        for queue in ["theirs", "ours"] {
            let key = format!("bull:{queue}:metrics:completed");
            let before: i64 = redis.hget(&key, "prevTS").unwrap();
            redis.hset::<_, _, _, ()>(&key, "prevTS", before - minutes * 60_000).unwrap();
        }
    };
    let mut seen = Vec::new();
    let mut look = || seen.push(["theirs", "ours"].map(|queue| figures(&stage, queue)));
    life::one_by_one(
        &stage,
        "[['value'], ['bad'], ['value'], ['second', {}, {attempts: 2}], ['never'], ['value']]",
    );
    look();
    passed(2);
    life::one_by_one(&stage, "[['value']]");
    look();
    // No more is kept than asked for.
    passed(60);
    life::one_by_one(&stage, "[['value']]");
    look();
    if minute() != began {
        return false;
    }
    let wanted = [json!([4, [], 0]), json!([5, [0, 4], 2]), json!([6, [0, 0, 1], 3])];
    for (both, wanted) in seen.into_iter().zip(wanted) {
        let [theirs, ours] = both;
        let wanted = json!({"completed": wanted, "failed": [2, [], 0]});
        assert_eq!(theirs, wanted, "the library's worker");
        assert_eq!(ours, wanted, "ours");
    }
    assert_eq!(fleet.stop(), 0);
    true
}

fn off_unless_wanted(library: Library) {
    let (stage, mut fleet) = life::stage(library, "{}", "");
    life::one_by_one(&stage, "[['value'], ['bad']]");
    for queue in ["theirs", "ours"] {
        assert_eq!(figures(&stage, queue), json!({"completed": [0, [], 0], "failed": [0, [], 0]}), "{queue}");
    }
    assert_eq!(fleet.stop(), 0);
}
