//! Queues of versions nobody has tested are left as they are until the manifest says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use qfleet_testkit::{Answer, eventually};
use redis::Commands as _;

use crate::stage::{Library, Stage};
use crate::support::{Fleet, SOON};

conforms!(bullmq: refused_and_untouched);
conforms!(every: of_the_other_library);

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

#[track_caller]
fn untouched(stage: &Stage, queue: &str, before: &BTreeMap<String, Vec<u8>>) {
    let after = dump(stage, queue);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        assert!(before.get(key) == after.get(key), "`{key}` was touched");
    }
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
    for ((queue, _), before) in versions.iter().zip(&before) {
        untouched(&stage, queue, before);
    }

    let mut fleet = stage.fleet(&[("newer", "accept-version: 7"), ("older", "accept-version: 7")]);
    stage.ended("newer", 3, 0);
    assert_eq!(stage.got("older").len(), 0, "another version than the accepted one");
    assert_eq!(fleet.stop(), 0);
}

fn of_the_other_library(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    stage.run(
        "const theirs = kit.queue('theirs')
         for (const opts of [{}, {priority: 2}, {delay: 50}]) await theirs.add('kept', {}, opts)",
    );
    let before = dump(&stage, "theirs");
    let manifest = stage.manifest(&[("theirs", "")]);
    let other = if library.is_bull() { "driver: bullmq," } else { "driver: bull," };
    let mut fleet = Fleet::start_and_wait(&manifest.replace(&format!("driver: {},", library.driver), other));
    eventually(SOON, "a word about it", || {
        let log = fleet.log();
        (log.contains("`theirs` belongs to") && log.contains("left alone")).then_some(())
    });
    assert_eq!(fleet.stop(), 0);
    untouched(&stage, "theirs", &before);
    let mut fleet = stage.fleet(&[("theirs", "")]);
    stage.ended("theirs", 3, 0);
    assert_eq!(fleet.stop(), 0);
}
