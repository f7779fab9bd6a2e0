//! Finding out where a queue's keys are.

use qfleet_queue::{FoundPrefix, PrefixSearch, find_prefix};
use redis::Commands as _;

use crate::contract::Rig as _;
use crate::rig::LaravelRig;

#[tokio::test]
async fn other_prefixes_are_found() {
    let rig = LaravelRig::new();
    let mut redis = rig.redis();
    assert_eq!(find_prefix(&rig.connection(), "default").await.unwrap(), PrefixSearch::Elsewhere(vec![]));
    for (key, jobs) in [("laravel_database_queues:default", 1), ("laravel-database-queues:default", 3)] {
        for job in 0..jobs {
            let _: () = redis.rpush(key, format!("job {job}")).unwrap();
        }
    }
    let _: () = redis.zadd("only_delayed_queues:default:delayed", "x", 1).unwrap();
    for other in
        ["laravel_database_queues:defaults", "laravel_database_queues:default:more", "queues:de[f]ault"]
    {
        let _: () = redis.rpush(other, "x").unwrap();
    }
    for number in 0..3_000 {
        let _: () = redis.set(format!("cache:{number}"), 1).unwrap();
    }
    let found = |prefix: &str, jobs| FoundPrefix {
        prefix: prefix.into(),
        key: format!("{prefix}queues:default"),
        jobs,
    };
    let expected =
        vec![found("laravel-database-", 3), found("laravel_database_", 1), found("only_delayed_", 0)];
    assert_eq!(find_prefix(&rig.connection(), "default").await.unwrap(), PrefixSearch::Elsewhere(expected));
    // A name is text, no pattern.
    assert_eq!(find_prefix(&rig.connection(), "de*ult").await.unwrap(), PrefixSearch::Elsewhere(vec![]));
}

#[tokio::test]
async fn the_prefix_of_the_manifest_is_right_when_any_key_is_there() {
    let rig = LaravelRig::new();
    rig.produce("default", rig.payload("job"));
    assert_eq!(find_prefix(&rig.connection(), "default").await.unwrap(), PrefixSearch::AsWritten);
}
