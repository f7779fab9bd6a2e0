//! Lost requests and lost replies: no job is lost, none runs twice, every verdict counts once.

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::Ask;
use qfleet_testkit::{RedisServer, Scratch};

use crate::contract::{names, take};
use crate::node::outages;
use crate::proxy::{Cut, Proxy};
use crate::rig::{DEMO, NodeRig};

#[tokio::test]
async fn cut_calls_lose_and_double_nothing() {
    outages::cut_calls_lose_and_double_nothing(NodeRig::bullmq).await;
}

#[tokio::test]
async fn jobs_of_a_lost_reply_go_back_when_the_worker_dies() {
    outages::jobs_of_a_lost_reply_go_back_when_the_worker_dies(NodeRig::bullmq()).await;
}

#[tokio::test]
async fn a_server_that_restarts_loses_nothing() {
    let server = RedisServer::builder().append_only().start();
    let rig = NodeRig { server, ..NodeRig::bullmq() };
    outages::a_server_that_restarts_loses_nothing(rig).await;
}

/// A schedule whose next iteration could not be made goes on when the job is found again.
#[tokio::test]
async fn a_schedule_survives_a_cut_between_two_calls() {
    let (rig, scratch) = (NodeRig::bullmq(), Scratch::new());
    let proxy = Proxy::to(rig.server.socket(), scratch.join("proxy.sock"));
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').upsertJobScheduler('s', {every: 3600000}, {name: 'tick'}); const [job] = await kit.queue('demo').getDelayed(); if (job) await job.promote()");
    let driver = outages::through(&proxy, &rig, &NodeRules::default());
    proxy.cut(Cut::Reply);
    driver.turn(&[], &[Ask { lane: DEMO, at_most: 1 }], driver.mark()).await.unwrap_err();
    let turn = take(&*driver, DEMO, 1).await;
    assert_eq!(names(&turn.jobs), ["tick"]);
    assert_eq!(driver.depth(&[DEMO]).await.unwrap()[0].delayed, 1);
}

#[tokio::test]
async fn jobs_stay_ours_while_the_server_takes_no_writes() {
    outages::jobs_stay_ours_while_the_server_takes_no_writes(NodeRig::bullmq()).await;
}

#[tokio::test]
async fn three_hundred_jobs_pass_a_line_that_breaks_all_the_time() {
    let rig = NodeRig::bullmq();
    outages::three_hundred_jobs_pass_a_line_that_breaks_all_the_time(&rig, "bullmq").await;
    for id in 1..=300 {
        let hash = rig.hash(&id.to_string());
        // Every start ended in one verdict: nothing ran that nobody knew of.
        assert_eq!(hash["ats"], hash["atm"], "job {id}: {hash:?}");
    }
}
