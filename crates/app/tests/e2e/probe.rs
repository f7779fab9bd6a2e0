//! `check --probe`: what it says of the queues of Node's libraries before a worker touches them.

use std::process::Command;

use qfleet_testkit::{Node, RedisServer, Scratch};
use serde_json::Value;

use crate::support::{QFLEET, text};

/// Every probe of a manifest with these queues, and the exit code.
fn probe(redis: &RedisServer, queues: &str) -> (Vec<Value>, Option<i32>) {
    let dir = Scratch::new();
    let url = redis.url();
    let connection =
        |name: &str, driver: &str| format!("  {name}: {{driver: {driver}, redis: {{url: '{url}'}}}}\n");
    let used = ["new", "old"].into_iter().filter(|name| queues.contains(&format!("connection: {name}")));
    let used = used.map(|name| connection(name, if name == "new" { "bullmq" } else { "bull" }));
    let manifest = format!(
        "connections:\n{}defaults: {{handler: {{shell: 'true'}}}}\nqueues:\n{queues}",
        used.collect::<String>()
    );
    let file = dir.write("config.yaml", manifest);
    let args = ["check", "--probe", "--json", "--config"];
    let output = Command::new(QFLEET).args(args).arg(&file).current_dir(dir.path()).output().unwrap();
    let found: Value = serde_json::from_str(&text(&output.stdout)).unwrap_or_else(|_| panic!("{output:?}"));
    (found["probes"].as_array().unwrap().clone(), output.status.code())
}

fn of<'p>(probes: &'p [Value], queue: &str) -> Vec<&'p Value> {
    let what = format!("queue `{queue}`");
    probes.iter().filter(|probe| probe["what"].as_str().unwrap().starts_with(&what)).collect()
}

#[test]
fn queues_that_are_well_pass_without_a_word() {
    let redis = RedisServer::start();
    Node::start("bullmq", &redis).run("await kit.queue('five').add('a', {}); await kit.queue('held').add('a', {}); await kit.queue('held').pause()");
    Node::start("bullmq6", &redis).run("await kit.queue('six').add('a', {})");
    Node::start("bull", &redis).run("await kit.queue('four').add({}); await kit.queue('four').pause()");
    let (probes, code) = probe(
        &redis,
        "  five: {connection: new}\n  held: {connection: new}\n  six: {connection: new}\n  none: {connection: new}\n  four: {connection: old}\n  nil: {connection: old}\n",
    );
    assert_eq!(code, Some(0), "{probes:?}");
    assert!(probes.iter().all(|probe| probe["ok"] == true && probe["warning"] == false), "{probes:?}");
}

#[test]
fn queues_of_the_other_library_and_of_untested_versions_are_told() {
    let redis = RedisServer::start();
    Node::start("bullmq", &redis).run("for (const name of ['a', 'c']) await kit.queue(name).add('a', {})");
    Node::start("bull", &redis).run("await kit.queue('b').add({})");
    let mut connection = redis.connection();
    redis::cmd("HSET").arg("bull:c:meta").arg("version").arg("bullmq:7.0.1").exec(&mut connection).unwrap();
    let (probes, code) =
        probe(&redis, "  a: {connection: old}\n  b: {connection: new}\n  c: {connection: new}\n");
    assert_eq!(code, Some(1));
    for (queue, hint) in [("a", "driver: bullmq"), ("b", "driver: bull`"), ("c", "accept-version: 7")] {
        let [only] = of(&probes, queue)[..] else { panic!("{queue}: {probes:?}") };
        assert!(only["ok"] == false && only["text"].as_str().unwrap().contains(hint), "{only}");
    }
    let (probes, code) = probe(&redis, "  c: {connection: new, accept-version: 7}\n");
    assert_eq!((code, of(&probes, "c").len()), (Some(0), 0), "{probes:?}");
}

#[test]
fn jobs_that_a_resume_would_destroy_are_told() {
    let redis = RedisServer::start();
    let five = Node::start("bullmq", &redis);
    five.run("await kit.queue('mail').pause()");
    Node::start("bullmq6", &redis).run("await kit.queue('mail').add('a', {})");
    five.run("await kit.queue('mail').waitUntilReady()");
    let (probes, code) = probe(&redis, "  mail: {connection: new}\n");
    let [only] = of(&probes, "mail")[..] else { panic!("{probes:?}") };
    assert_eq!((code, &only["ok"], &only["warning"]), (Some(0), &Value::from(true), &Value::from(true)));
    let text = only["text"].as_str().unwrap();
    assert!(text.contains("1 jobs in `bull:mail:wait`") && text.contains("qfleet resume"), "{text}");
}
