//! What cannot be worked, and does not keep the rest from being.

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::Settled;

use crate::contract::{names, settle, take, take_one};
use crate::rig::{DEMO, NodeRig, Settings, bury, complete, open};

fn call(rig: &NodeRig, line: &str) {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command.query::<redis::Value>(&mut rig.redis()).unwrap();
}

#[tokio::test]
async fn what_is_no_job_is_dropped_and_what_cannot_be_read_is_set_aside() {
    let rig = NodeRig::bull();
    // No hash, a stub of a hash, a key of another type, opts and data that are no JSON, no name.
    for id in ["gone", "stub", "text", "odd", "nameless", "fine"] {
        call(&rig, &format!("LPUSH bull:demo:wait {id}"));
    }
    call(&rig, "HSET bull:demo:stub processedOn 1");
    call(&rig, "SET bull:demo:text hello");
    call(&rig, "HSET bull:demo:odd name odd data {no opts {no timestamp 5 attemptsMade x stalledCounter y");
    call(&rig, "HSET bull:demo:nameless data {} opts {} timestamp 5");
    call(&rig, "HSET bull:demo:fine name fine data {} opts {} timestamp 5");
    let driver = rig.worker(1);
    let jobs = take(&*driver, DEMO, 10).await.jobs;
    assert_eq!(names(&jobs[1..]), ["__default__", "fine"]);
    assert!(jobs[0].job.as_ref().unwrap_err().to_string().contains("`data`"));
    assert_eq!(settle(&*driver, &jobs[0], bury("no JSON")).await, Settled::Done);
    for job in &jobs[1..] {
        assert_eq!(settle(&*driver, job, complete("1")).await, Settled::Done);
    }
    for key in ["wait", "active"] {
        assert!(rig.redis_keys(&format!("bull:demo:{key}")).is_empty(), "{key}");
    }
    assert_eq!(rig.redis_keys("bull:demo:text"), ["bull:demo:text"]);
    let odd = rig.hash("odd");
    assert_eq!((odd["data"].as_str(), odd["attemptsMade"].as_str()), ("{no", "1"));
}

#[tokio::test]
async fn keys_of_a_wrong_type_break_their_queue_alone() {
    for wrong in ["wait", "active", "delayed", "priority", "meta", "completed", "failed", "limiter"] {
        let rig = NodeRig::bull();
        let limit = qfleet_manifest::queue::RateLimit { max: 9, per: std::time::Duration::from_secs(1) };
        let settings = Settings { rate_limit: Some(limit), ..Settings::default() };
        let driver = open(rig.connection(), &[("demo", &["demo", "next"])], 1, &settings);
        let node = rig.node("bull");
        node.run("await kit.queue('demo').add('a'); await kit.queue('next').add('b')");
        call(&rig, &format!("DEL bull:demo:{wrong}"));
        call(&rig, &format!("SET bull:demo:{wrong} text"));
        let turn = take(&*driver, DEMO, 5).await;
        assert_eq!(names(&turn.jobs), ["b"], "{wrong}");
        assert!(
            !turn.broken.is_empty() && turn.broken.iter().all(|(_, text)| text.contains("`demo`")),
            "{wrong}: {:?}",
            turn.broken
        );
        call(&rig, &format!("DEL bull:demo:{wrong}"));
        if wrong != "wait" {
            assert_eq!(names(&take(&*driver, DEMO, 5).await.jobs), ["a"], "{wrong}: no job is lost");
        }
    }
}

/// A key that was spoilt while the job ran: its verdict waits until the key is mended.
#[tokio::test]
async fn a_job_stays_where_it_is_while_it_cannot_be_moved() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').add('a')");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    call(&rig, "SET bull:demo:completed text");
    assert_eq!(settle(&*driver, &job, complete("1")).await, Settled::Lost);
    let active: Vec<String> =
        redis::cmd("LRANGE").arg(&["bull:demo:active", "0", "-1"]).query(&mut rig.redis()).unwrap();
    assert_eq!(active, ["1"]);
}

#[tokio::test]
async fn each_library_leaves_the_others_queues_alone() {
    let rig = NodeRig::bull();
    rig.node("bullmq").run("await kit.queue('demo').add('a', {})");
    let turn = take(&*rig.worker(1), DEMO, 1).await;
    assert!(turn.jobs.is_empty() && turn.broken[0].1.contains("BullMQ"), "{:?}", turn.broken);
    let accepting = NodeRules { accept_version: Some(4), ..NodeRules::default() };
    assert_eq!(take(&*rig.worker_with(1, &accepting), DEMO, 1).await.jobs.len(), 1);

    let rig = NodeRig::bullmq();
    rig.node("bull").run("await kit.queue('demo').add('a', {}, {priority: 1})");
    let turn = take(&*rig.worker(1), DEMO, 1).await;
    assert!(turn.jobs.is_empty() && turn.broken[0].1.contains("Bull"), "{:?}", turn.broken);
    assert_eq!(rig.redis_keys("bull:demo:events"), Vec::<String>::new());
}
