//! Sleeping with an ear on Bull's messages: nobody sleeps beside a job.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qfleet_manifest::queue::NodeRules;
use qfleet_queue::driver::{LaneId, QueueDriver, Waited};
use qfleet_queue::error::QueueError;
use qfleet_testkit::RedisServer;
use redis::Commands as _;

use crate::contract::{settle, take, take_one};
use crate::rig::{DEMO, NodeRig, SOON, complete, open, retry};

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(60);

fn sleep_on(
    driver: &Arc<dyn QueueDriver>,
) -> tokio::task::JoinHandle<(Duration, Result<Waited, QueueError>)> {
    let driver = Arc::clone(driver);
    tokio::spawn(async move {
        let started = Instant::now();
        let ended = driver.wait(&[DEMO], LONG).await;
        (started.elapsed(), ended)
    })
}

/// An ear that has heard nothing yet wakes at once, so that a turn looks for what was said before.
async fn with_open_ears(driver: &Arc<dyn QueueDriver>) {
    take(&**driver, DEMO, 1).await;
    driver.wait(&[DEMO], SOON).await.unwrap();
    assert!(take(&**driver, DEMO, 1).await.jobs.is_empty());
}

async fn woken(sleeper: tokio::task::JoinHandle<(Duration, Result<Waited, QueueError>)>) -> Duration {
    let (slept, ended) =
        tokio::time::timeout(SOON, sleeper).await.expect("nothing wakes the sleeper").unwrap();
    assert_eq!(ended.unwrap(), Waited::Woken);
    slept
}

#[tokio::test]
async fn a_sleeper_has_a_job_of_the_library_in_a_moment() {
    let rig = NodeRig::bull();
    let node = Arc::new(rig.node("bull"));
    node.run("await kit.queue('demo').isReady()");
    let driver = rig.worker(1);
    with_open_ears(&driver).await;
    let mut latencies = Vec::new();
    for _ in 0..50 {
        let node = Arc::clone(&node);
        let added = tokio::task::spawn_blocking(move || {
            node.run("await kit.sleep(3); const at = performance.timeOrigin + performance.now(); await kit.queue('demo').add({}); return at")
        });
        driver.wait(&[DEMO], LONG).await.unwrap();
        let job = take_one(&*driver, DEMO).await;
        let taken = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1000.0;
        latencies.push(taken - added.await.unwrap().as_f64().unwrap());
        settle(&*driver, &job, complete("1")).await;
    }
    latencies.sort_by(f64::total_cmp);
    // Generous, for a machine that does other things beside.
    assert!(latencies[25] < 500.0, "median {} ms, worst {} ms", latencies[25], latencies[49]);
}

#[tokio::test]
async fn whatever_makes_a_job_ready_wakes_a_sleeper() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    let driver = rig.worker(1);
    with_open_ears(&driver).await;

    let sleeper = sleep_on(&driver);
    tokio::task::yield_now().await;
    node.run("await kit.queue('demo').add('delayed', {}, {delay: 300})");
    let slept = woken(sleeper).await;
    assert!(slept >= Duration::from_millis(250), "{slept:?}");
    let delayed = crate::contract::take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &delayed, complete("1")).await;

    node.run("await kit.queue('demo').pause(); await kit.queue('demo').add('paused')");
    take(&*driver, DEMO, 1).await;
    let sleeper = sleep_on(&driver);
    tokio::task::yield_now().await;
    node.run("await kit.queue('demo').resume()");
    woken(sleeper).await;
    let job = take_one(&*driver, DEMO).await;

    // Bull says nothing of a job that is to run again at once.
    let other = rig.worker(2);
    with_open_ears(&other).await;
    let sleeper = sleep_on(&other);
    settle(&*driver, &job, retry(Duration::ZERO, "once")).await;
    woken(sleeper).await;
    let job = take_one(&*other, DEMO).await;

    let sleeper = sleep_on(&driver);
    settle(&*other, &job, qfleet_model::outcome::Verdict::GiveBack).await;
    woken(sleeper).await;
}

#[tokio::test]
async fn a_lost_connection_is_told_and_the_next_one_looks_once() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').isReady()");
    let driver = rig.worker(1);
    with_open_ears(&driver).await;
    let sleeper = sleep_on(&driver);
    tokio::task::yield_now().await;
    let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut rig.redis()).unwrap();
    let (_, ended) = tokio::time::timeout(SOON, sleeper).await.unwrap().unwrap();
    assert!(matches!(ended, Err(QueueError::Unreachable(_))), "{ended:?}");
    node.run("await kit.queue('demo').add('while nobody listened')");
    woken(sleep_on(&driver)).await;
    take_one(&*driver, DEMO).await;

    // Lost while nobody waits.
    let _: i64 = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query(&mut rig.redis()).unwrap();
    node.run("await kit.queue('demo').add('while nobody waited')");
    let (_, first) = tokio::time::timeout(SOON, sleep_on(&driver)).await.unwrap().unwrap();
    if first.is_err() {
        woken(sleep_on(&driver)).await;
    }
    take_one(&*driver, DEMO).await;
}

#[tokio::test]
async fn a_pool_needs_two_connections() {
    let rig = NodeRig::bull();
    let lanes: [(&str, &[&str]); 3] = [("a", &["a"]), ("b", &["b"]), ("c", &["c"])];
    let driver = open(rig.connection(), &lanes, 1, &NodeRules::default());
    let all = [LaneId(0), LaneId(1), LaneId(2)];
    for _ in 0..2 {
        for lane in all {
            take(&*driver, lane, 1).await;
        }
        // Once for the connection that is new.
        driver.wait(&all, Duration::from_millis(50)).await.unwrap();
    }
    let sleeper = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.wait(&all, LONG).await }
    });
    tokio::task::yield_now().await;
    let producer = open(rig.connection(), &lanes, 0, &NodeRules::default());
    producer.push(LaneId(2), "c", br#"{"name":"x","data":1}"#, None).await.unwrap();
    tokio::time::timeout(SOON, sleeper).await.unwrap().unwrap().unwrap();
    take_one(&*driver, LaneId(2)).await;
    drop(producer);
    let clients = || redis::cmd("CLIENT").arg("LIST").query::<String>(&mut rig.redis()).unwrap();
    let started = Instant::now();
    // The last one asks.
    while clients().lines().count() != 3 {
        assert!(started.elapsed() < SOON, "{}", clients());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Without a way to hear, or the right to, jobs are found all the same.
#[tokio::test]
async fn a_server_that_tells_nothing_is_looked_at() {
    for line in ["rename-command HELLO \"\"", "user default on nopass ~* &* +@all -psubscribe"] {
        let server = RedisServer::builder().config(line).start();
        let rig = NodeRig { server, ..NodeRig::bull() };
        let driver = rig.worker(1);
        take(&*driver, DEMO, 1).await;
        driver.wait(&[DEMO], Duration::from_millis(300)).await.unwrap();
        let turn = take(&*driver, DEMO, 1).await;
        assert!(turn.broken[0].1.contains("only found every `sleep`"), "{turn:?}");
        driver.push(DEMO, "demo", br#"{"name":"x","data":1}"#, None).await.unwrap();
        let slept = Instant::now();
        driver.wait(&[DEMO], Duration::from_millis(100)).await.unwrap();
        assert!(slept.elapsed() >= Duration::from_millis(90));
        take_one(&*driver, DEMO).await;
        assert_eq!(rig.redis().llen::<_, u64>("bull:demo:active").unwrap(), 1);
    }
}
