//! A master dies and its replica takes over: what was in hand is settled there.

use std::time::{Duration, Instant};

use qfleet_model::job::Format;
use qfleet_model::outcome::{Note, Verdict};
use qfleet_queue::driver::{Ask, DeadHold, DeadState, DeadWorker, Renewal, Settled, Settlement};
use qfleet_queue::error::QueueError;
use qfleet_testkit::RedisCluster;

use crate::contract::{job_of, names, take};
use crate::rig::{DEMO, SOON, connection, payload, worker};

/// Tries again for as long as the error says so.
async fn patiently<T>(mut call: impl AsyncFnMut() -> Result<T, QueueError>) -> T {
    let started = Instant::now();
    loop {
        match call().await {
            Ok(value) => return value,
            Err(QueueError::Unreachable(why)) => assert!(started.elapsed() < SOON, "{why}"),
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_failover_keeps_what_the_replica_has(cluster: &RedisCluster, family: Format, prefix: &str) {
    let connection = connection(cluster, family, prefix);
    let (driver, dead) = (worker(&connection, "demo", 1), worker(&connection, "demo", 2));
    for name in ["a", "b", "c", "d", "e"] {
        driver.push(DEMO, "demo", &payload(family, name), None).await.unwrap();
    }
    let jobs = take(&*driver, DEMO, 3).await.jobs;
    assert_eq!(names(&jobs), ["a", "b", "c"]);
    let lost = take(&*dead, DEMO, 1).await.jobs.remove(0);
    let asleep = tokio::spawn({
        let dead = std::sync::Arc::clone(&dead);
        async move { dead.wait(&[DEMO], SOON * 2).await }
    });
    let key = connection.queue_key("demo");
    cluster.wait_for_replicas(&key);
    cluster.owner(&key).kill9();

    let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
    assert_eq!(patiently(async || driver.renew(&receipts).await).await, [Renewal::Held; 3]);
    let verdicts = [
        Verdict::Complete { result: None },
        Verdict::Retry { after: Duration::ZERO, note: Note::default() },
        Verdict::GiveBack,
    ];
    let settle: Vec<Settlement> = receipts
        .into_iter()
        .zip(verdicts)
        .map(|(receipt, verdict)| Settlement { receipt, verdict })
        .collect();
    let turn = patiently(async || driver.turn(&settle, &[], driver.mark()).await).await;
    assert_eq!(turn.settled, [Settled::Done; 3]);
    // The sleeper is not left with a connection that will never say anything.
    assert!(tokio::time::timeout(SOON, asleep).await.is_ok(), "the sleeper sleeps on");

    let hold = DeadHold {
        lane: DEMO,
        queue: 0,
        digest: lost.receipt.digest(),
        state: DeadState::Started { alone: false, not_before: None },
    };
    let dead = DeadWorker { tag: 2, marks: Vec::new(), held: vec![hold] };
    let recovered = patiently(async || driver.recover(&dead).await).await;
    assert_eq!((recovered.returned, recovered.buried, recovered.gone), (1, 0, 0));
    let turn =
        patiently(async || driver.turn(&[], &[Ask { lane: DEMO, at_most: 9 }], driver.mark()).await).await;
    let mut left: Vec<String> = turn.jobs.iter().map(|job| job_of(job).name.clone()).collect();
    left.sort();
    assert_eq!(left, ["b", "c", "d", "e"]);
    cluster.wait_until_well();
}

#[tokio::test]
async fn a_killed_master_is_replaced_and_nothing_is_lost() {
    a_failover_keeps_what_the_replica_has(&RedisCluster::start(3, 1), Format::Bullmq, "{bull}").await;
}

#[tokio::test]
async fn the_same_holds_for_laravel() {
    a_failover_keeps_what_the_replica_has(&RedisCluster::start(3, 1), Format::Laravel, "{app}_").await;
}

#[tokio::test]
async fn the_same_holds_for_bull() {
    a_failover_keeps_what_the_replica_has(&RedisCluster::start(3, 1), Format::Bull, "{bull}").await;
}
