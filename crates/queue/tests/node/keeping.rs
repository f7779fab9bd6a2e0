//! What stays of ended jobs.

use qfleet_manifest::queue::{Keep, NodeRules};
use redis::Commands as _;

use crate::contract::{settle, take_one};
use crate::rig::{DEMO, NodeRig, complete};

/// A queue that kept everything for years is not cleared in one call, for which Redis would stand still.
#[tokio::test]
async fn a_large_backlog_of_ended_jobs_goes_bit_by_bit() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let node = rig.node(library);
        let rules =
            NodeRules { keep_completed: Some(Keep { count: Some(2), age: None }), ..NodeRules::default() };
        let driver = rig.worker_with(1, &rules);
        let mut redis = rig.redis();
        let mut old = redis::pipe();
        for n in 0..2500 {
            old.hset(format!("bull:demo:old{n}"), "name", "old").ignore();
            old.zadd("bull:demo:completed", format!("old{n}"), 1_000 + n).ignore();
        }
        old.exec(&mut redis).unwrap();
        node.run("await kit.queue('demo').addBulk(['a', 'b', 'c', 'd'].map((name) => ({name, data: {}, opts: {jobId: name}})))");
        let mut left = Vec::new();
        for _ in 0..4 {
            let job = take_one(&*driver, DEMO).await;
            settle(&*driver, &job, complete("1")).await;
            left.push(redis.zcard::<_, usize>("bull:demo:completed").unwrap());
        }
        assert_eq!(left, [1501, 502, 2, 2], "{library}");
        let kept: Vec<String> = redis.zrange("bull:demo:completed", 0, -1).unwrap();
        assert_eq!(kept, ["c", "d"], "{library}");
        assert!(rig.redis_keys("bull:demo:old*").is_empty());
    }
}
