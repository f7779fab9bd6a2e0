//! Lost requests and lost replies: no job is lost, none runs twice, every verdict counts once.

use std::time::Duration;

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::{Ask, Settled};
use qfleet_queue::error::QueueError;
use qfleet_testkit::{RedisServer, Scratch};
use serde_json::json;

use crate::contract::{names, settle, take, take_one};
use crate::node::outages;
use crate::proxy::{Cut, Proxy};
use crate::rig::{DEMO, NodeRig, complete, retry};

#[tokio::test]
async fn cut_calls_lose_and_double_nothing() {
    outages::cut_calls_lose_and_double_nothing(NodeRig::bull).await;
}

#[tokio::test]
async fn jobs_of_a_lost_reply_go_back_when_the_worker_dies() {
    outages::jobs_of_a_lost_reply_go_back_when_the_worker_dies(NodeRig::bull()).await;
}

#[tokio::test]
async fn a_server_that_restarts_loses_nothing() {
    let server = RedisServer::builder().append_only().start();
    let rig = NodeRig { server, ..NodeRig::bull() };
    outages::a_server_that_restarts_loses_nothing(rig).await;
}

/// A repeated job whose next one could not be made is repeated when the job is found again.
#[tokio::test]
async fn a_repeated_job_survives_a_cut_between_two_calls() {
    let (rig, scratch) = (NodeRig::bull(), Scratch::new());
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let node = rig.node("bull");
    node.run(
        "await kit.queue('demo').add('tick', {}, {repeat: {every: 3600000}});
         const [job] = await kit.queue('demo').getDelayed(); await job.promote()",
    );
    let driver = outages::through(&proxy, &rig, &NodeRules::default());
    proxy.cut(Cut::Reply);
    driver.turn(&[], &[Ask { lane: DEMO, at_most: 1 }], driver.mark()).await.unwrap_err();
    let turn = take(&*driver, DEMO, 1).await;
    assert_eq!(names(&turn.jobs), ["tick"]);
    assert_eq!(node.run("return (await kit.queue('demo').getJobCounts()).delayed"), json!(1));
}

#[tokio::test]
async fn jobs_stay_ours_while_the_server_takes_no_writes() {
    outages::jobs_stay_ours_while_the_server_takes_no_writes(NodeRig::bull()).await;
}

#[tokio::test]
async fn three_hundred_jobs_pass_a_line_that_breaks_all_the_time() {
    outages::three_hundred_jobs_pass_a_line_that_breaks_all_the_time(&NodeRig::bull(), "bull").await;
}

/// A server without memory lets nobody take, and what is done can be settled all the same.
#[tokio::test]
async fn a_server_without_memory_loses_nothing() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("for (const name of ['a', 'b', 'c']) await kit.queue('demo').add(name, {}, {attempts: 3})");
    let driver = rig.worker(1);
    let jobs = take(&*driver, DEMO, 2).await.jobs;
    let limit = |bytes: &str| {
        redis::cmd("CONFIG").arg(&["SET", "maxmemory", bytes]).exec(&mut rig.redis()).unwrap();
    };
    limit("1");
    let refused = driver.turn(&[], &[Ask { lane: DEMO, at_most: 1 }], driver.mark()).await;
    assert!(matches!(refused, Err(QueueError::Unreachable(_))), "no memory, and yet {refused:?}");
    assert_eq!(settle(&*driver, &jobs[0], complete("1")).await, Settled::Done);
    assert_eq!(settle(&*driver, &jobs[1], retry(Duration::from_secs(60), "once")).await, Settled::Done);
    limit("0");
    let rest = take_one(&*driver, DEMO).await;
    assert_eq!(names(std::slice::from_ref(&rest)), ["c"]);
    assert_eq!(settle(&*driver, &rest, complete("1")).await, Settled::Done);
    let counts = node.run(
        "const counts = await kit.queue('demo').getJobCounts();
         return [counts.completed, counts.delayed, counts.active, counts.waiting]",
    );
    assert_eq!(counts, json!([2, 1, 0, 0]));
}
