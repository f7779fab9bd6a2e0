//! Which job is next.

use std::time::Duration;

use qfleet_model::outcome::Verdict;

use crate::contract::{names, settle, take};
use crate::rig::{DEMO, NodeRig, complete, retry};

/// `wait` and `priority` side by side.
fn lists(rig: &NodeRig) -> (Vec<String>, Vec<String>) {
    let mut redis = rig.redis();
    let wait = redis::cmd("LRANGE").arg(&["bull:demo:wait", "0", "-1"]).query(&mut redis).unwrap();
    let priority = redis::cmd("ZRANGE").arg(&["bull:demo:priority", "0", "-1"]).query(&mut redis).unwrap();
    (wait, priority)
}

#[tokio::test]
async fn urgent_jobs_come_first_and_lifo_jobs_before_them() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "const queue = kit.queue('demo'); let n = 0;
         for (const priority of [0, 3, 1, 0, 2, 1, 3, 10]) await queue.add(`${priority}.${++n}`, {}, {priority});
         await queue.add('lifo', {}, {lifo: true})",
    );
    let driver = rig.worker(1);
    let jobs = take(&*driver, DEMO, 20).await.jobs;
    assert_eq!(names(&jobs), ["lifo", "1.3", "1.6", "2.5", "3.2", "3.7", "10.8", "0.1", "0.4"]);
    assert_eq!(lists(&rig), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn retried_and_promoted_jobs_keep_their_priority() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "const queue = kit.queue('demo');
         await queue.add('first', {}, {priority: 2, attempts: 3}); await queue.add('second', {}, {priority: 2});
         await queue.add('third', {}, {priority: 5}); await queue.add('plain', {})",
    );
    let driver = rig.worker(1);
    let first = take(&*driver, DEMO, 1).await.jobs;
    assert_eq!(names(&first), ["first"]);
    settle(&*driver, &first[0], retry(Duration::ZERO, "once")).await;
    node.run("await kit.queue('demo').add('late', {}, {priority: 1, delay: 20})");
    tokio::time::sleep(Duration::from_millis(25)).await;
    let jobs = take(&*driver, DEMO, 9).await.jobs;
    assert_eq!(names(&jobs), ["late", "second", "first", "third", "plain"]);
}

#[tokio::test]
async fn jobs_given_back_are_first_among_their_equals() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "const queue = kit.queue('demo');
         for (const name of ['a', 'b', 'c', 'd']) await queue.add(name, {}, {priority: name < 'c' ? 2 : 0});
         await queue.add('lifo', {}, {lifo: true})",
    );
    let driver = rig.worker(1);
    let jobs = take(&*driver, DEMO, 4).await.jobs;
    assert_eq!(names(&jobs), ["lifo", "a", "b", "c"]);
    node.run("await kit.queue('demo').add('urgent', {}, {priority: 1}); await kit.queue('demo').add('equal', {}, {priority: 2})");
    let back = jobs.iter().map(|job| qfleet_queue::driver::Settlement {
        receipt: job.receipt.clone(),
        verdict: Verdict::GiveBack,
    });
    driver.turn(&back.collect::<Vec<_>>(), &[], driver.mark()).await.unwrap();
    assert_eq!(lists(&rig).1.len(), 4);
    let jobs = take(&*driver, DEMO, 9).await.jobs;
    assert_eq!(names(&jobs), ["lifo", "urgent", "a", "b", "equal", "c", "d"]);
    for job in &jobs {
        settle(&*driver, job, complete("1")).await;
    }
}

/// The zset says more than the list has: the order suffers, and no job.
#[tokio::test]
async fn a_priority_set_out_of_step_costs_no_job() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    for ghost in 0..5 {
        redis::cmd("ZADD")
            .arg("bull:demo:priority")
            .arg(1)
            .arg(format!("ghost{ghost}"))
            .exec(&mut rig.redis())
            .unwrap();
    }
    node.run("await kit.queue('demo').add('a', {}, {attempts: 2, priority: 3}); await kit.queue('demo').add('b', {})");
    let driver = rig.worker(1);
    let jobs = take(&*driver, DEMO, 2).await.jobs;
    settle(&*driver, &jobs[0], retry(Duration::ZERO, "once")).await;
    settle(&*driver, &jobs[1], Verdict::GiveBack).await;
    assert_eq!(take(&*driver, DEMO, 5).await.jobs.len(), 2);
}
