//! Slots that move to another node while jobs are worked: nothing is lost, and nothing runs twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qfleet_model::job::Format;
use qfleet_model::outcome::{Note, Verdict};
use qfleet_queue::driver::{Ask, QueueDriver, Settled, Settlement};
use qfleet_queue::error::QueueError;
use qfleet_testkit::RedisCluster;

use crate::contract::{self, job_of, names, take, take_one};
use crate::rig::{DEMO, SOON, connection, payload, worker};

const JOBS: usize = 300;

/// Works until nothing is left: each job fails once, and is completed at its second attempt. Counts the deliveries.
async fn work(driver: &dyn QueueDriver, until: impl Fn() -> bool) -> BTreeMap<String, u32> {
    let mut deliveries = BTreeMap::new();
    let mut settle: Vec<Settlement> = Vec::new();
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < SOON * 3, "{} jobs so far", deliveries.len());
        let turn = match driver.turn(&settle, &[Ask { lane: DEMO, at_most: 5 }], driver.mark()).await {
            Ok(turn) => turn,
            Err(QueueError::Unreachable(_)) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        assert!(turn.broken.is_empty(), "{:?}", turn.broken);
        assert_eq!(turn.settled, vec![Settled::Done; settle.len()]);
        let verdict = |attempt| match attempt {
            1 => Verdict::Retry { after: Duration::from_millis(20), note: Note::default() },
            _ => Verdict::Complete { result: None },
        };
        settle = Vec::new();
        for reserved in turn.jobs {
            let job = job_of(&reserved);
            *deliveries.entry(job.name.clone()).or_default() += 1;
            assert_eq!(job.attempt, deliveries[&job.name], "`{}` was delivered behind our back", job.name);
            settle.push(Settlement { verdict: verdict(job.attempt), receipt: reserved.receipt });
        }
        let Ok(depth) = driver.depth(&[DEMO]).await else { continue };
        let left = depth[0].waiting + depth[0].delayed + depth[0].reserved;
        if settle.is_empty() && left == 0 && until() {
            return deliveries;
        }
        if settle.is_empty() {
            // It may be refused when the slot has just gone.
            let _ = driver.wait(&[DEMO], Duration::from_millis(20)).await;
        }
    }
}

/// Producers wait until the slot has settled, as their own clients do.
async fn produce(driver: &dyn QueueDriver, family: Format, name: &str) {
    let started = Instant::now();
    while let Err(error) = driver.push(DEMO, "demo", &payload(family, name), None).await {
        assert!(started.elapsed() < SOON, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn a_moving_slot_loses_and_doubles_nothing(family: Format, prefix: &str) {
    let cluster = RedisCluster::start(3, 0);
    let connection = connection(&cluster, family, prefix);
    let (driver, producer) = (worker(&connection, "demo", 1), worker(&connection, "demo", 0));
    let moved = AtomicBool::new(false);
    let key = connection.queue_key("demo");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for round in 0..4 {
                let from = cluster.owner(&key).port();
                let to = cluster.nodes().iter().filter(|node| node.port() != from).nth(round % 2).unwrap();
                cluster.begin_move(&key, to);
                // A few keys at a time, so that most calls find some here and some there.
                while cluster.move_keys(&key, to, 3) > 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                cluster.end_move(&key, to);
                std::thread::sleep(Duration::from_millis(300));
            }
            moved.store(true, Ordering::SeqCst);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let producing = async {
                for number in 0..JOBS {
                    produce(&*producer, family, &format!("n{number}")).await;
                    if number % 10 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            };
            let working = work(&*driver, || moved.load(Ordering::SeqCst));
            let ((), deliveries) = tokio::join!(producing, working);
            assert_eq!(deliveries.len(), JOBS);
            assert!(deliveries.values().all(|count| *count == 2), "{deliveries:?}");
        });
    });
    let left = cluster.keys("*");
    let left: Vec<&String> =
        left.iter().filter(|key| key.contains(":lock") || key.contains("qfleet:job")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// All keys but one job's are still here: to whoever looks, that job is one that was deleted.
#[tokio::test]
async fn a_job_that_went_ahead_is_not_taken_for_gone() {
    let cluster = RedisCluster::start(2, 0);
    let connection = connection(&cluster, Format::Bullmq, "{bull}");
    let driver = worker(&connection, "demo", 1);
    for name in ["a", "b", "c"] {
        produce(&*driver, Format::Bullmq, name).await;
    }
    driver.push(DEMO, "demo", &payload(Format::Bullmq, "later"), Some(SOON * 9)).await.unwrap();
    let first = take_one(&*driver, DEMO).await;
    let key = connection.queue_key("demo");
    let to = cluster.nodes().iter().find(|node| node.port() != cluster.owner(&key).port()).unwrap();
    cluster.begin_move(&key, to);
    cluster.move_key("{bull}:demo:2", to);
    let ask = [Ask { lane: DEMO, at_most: 1 }];
    let error = driver.turn(&[], &ask, driver.mark()).await.unwrap_err();
    assert!(matches!(error, QueueError::Unreachable(_)), "{error:?}");
    cluster.move_keys(&key, to, 1000);
    cluster.end_move(&key, to);
    let rest = take(&*driver, DEMO, 9).await.jobs;
    assert_eq!(names(&rest), ["b", "c"]);
    for job in rest.iter().chain([&first]) {
        assert_eq!(contract::settle(&*driver, job, Verdict::Complete { result: None }).await, Settled::Done);
    }
}

#[test]
fn laravel_goes_on_while_its_slot_moves() {
    a_moving_slot_loses_and_doubles_nothing(Format::Laravel, "{app}_");
}

#[test]
fn bullmq_goes_on_while_its_slot_moves() {
    a_moving_slot_loses_and_doubles_nothing(Format::Bullmq, "{bull}");
}

#[test]
fn bull_goes_on_while_its_slot_moves() {
    a_moving_slot_loses_and_doubles_nothing(Format::Bull, "{bull}");
}
