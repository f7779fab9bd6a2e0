//! Queues of versions nobody has tested are left as they are until the manifest says otherwise.

use std::collections::BTreeMap;

use qfleet_testkit::{Answer, eventually};
use redis::Commands as _;

use crate::stage::{Library, Stage};
use crate::support::SOON;

conforms!(bullmq: refused_and_untouched);

/// Every key of a queue as Redis would write it to disk; a stream's reader or a time to live changes nothing in it.
fn dump(stage: &Stage, queue: &str) -> BTreeMap<String, Vec<u8>> {
    let mut redis = stage.redis.connection();
    let keys: Vec<String> = redis.keys(format!("bull:{queue}:*")).unwrap();
    keys.into_iter()
        .map(|key| {
            let value: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut redis).unwrap();
            (key, value)
        })
        .collect()
}

fn refused_and_untouched(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let versions = [("newer", "bullmq:7.1.0"), ("older", "bullmq:4.18.3"), ("foreign", "bullmq-pro:7.43.0")];
    for (queue, version) in versions {
        stage.run(&format!(
            "const queue = kit.queue('{queue}')
             await queue.waitUntilReady()
             await queue.getJobCounts()
             for (const opts of [{{}}, {{priority: 2}}, {{delay: 50}}]) await queue.add('kept', {{}}, opts)
             await kit.redis().hset('bull:{queue}:meta', 'version', '{version}')"
        ));
    }
    let before = versions.map(|(queue, _)| dump(&stage, queue));
    let queues = [("newer", ""), ("older", ""), ("foreign", ""), ("known", "")];
    let mut fleet = stage.fleet(&queues);
    stage.run("await kit.queue('known').add('taken', {}, {delay: 100})");
    stage.ended("known", 1, 0);
    eventually(SOON, "a word about each", || {
        let log = fleet.log();
        versions
            .iter()
            .all(|(_, version)| log.contains(version) && log.contains("accept-version"))
            .then_some(())
    });
    assert_eq!(fleet.stop(), 0);
    for ((queue, _), before) in versions.iter().zip(before) {
        let after = dump(&stage, queue);
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            assert!(before.get(key) == after.get(key), "`{key}` was touched");
        }
    }

    let mut fleet = stage.fleet(&[("newer", "accept-version: 7"), ("older", "accept-version: 7")]);
    stage.ended("newer", 3, 0);
    assert_eq!(stage.got("older").len(), 0, "another version than the accepted one");
    assert_eq!(fleet.stop(), 0);
}
