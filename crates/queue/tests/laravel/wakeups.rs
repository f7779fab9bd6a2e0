//! Sleeping in Redis: nobody sleeps beside a job, nobody is woken for nothing for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_model::outcome::Verdict;
use qfleet_queue::driver::{QueueDriver, Settlement, Waited};
use redis::Commands as _;

use crate::contract::{BOTH, OTHER, Rig as _, push, settle, take, take_one};
use crate::rig::{LaravelRig, notify};

const LONG: Duration = Duration::from_secs(60);

fn sleep_on(driver: &Arc<dyn QueueDriver>) -> tokio::task::JoinHandle<Waited> {
    let driver = Arc::clone(driver);
    tokio::spawn(async move { driver.wait(&[OTHER], LONG).await.unwrap() })
}

pub(crate) async fn until_blocked(rig: &LaravelRig, clients: usize) {
    let started = Instant::now();
    loop {
        let info: String = redis::cmd("INFO").arg("clients").query(&mut rig.redis()).unwrap();
        if info.contains(&format!("blocked_clients:{clients}\r")) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "never {clients} blocked: {info}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn the_notify_list_follows_the_ready_list() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    for round in 0..60_u64 {
        if round % 3 == 0 {
            let sleeper = sleep_on(&driver);
            until_blocked(&rig, 1).await;
            push(&rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
            sleeper.await.unwrap();
        } else {
            push(&rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
        }
        let jobs = take(&*driver, OTHER, 2).await.jobs;
        assert_eq!(rig.list(&notify("other")).len(), 1, "round {round}");
        let settle: Vec<Settlement> = jobs
            .into_iter()
            .zip([Verdict::Complete { result: None }, Verdict::GiveBack])
            .map(|(job, verdict)| Settlement { receipt: job.receipt, verdict })
            .collect();
        driver.turn(&settle, &[], driver.mark()).await.unwrap();
        assert_eq!(rig.list(&notify("other")).len(), 2, "round {round}");
        for job in take(&*driver, OTHER, 9).await.jobs {
            self::settle(&*driver, &job, Verdict::Complete { result: None }).await;
        }
        assert_eq!(rig.list(&notify("other")).len(), 0, "round {round}");
    }
}

#[tokio::test]
async fn a_sleeper_has_a_pushed_job_in_a_moment() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let producer = rig.open(0);
    let mut latencies = Vec::new();
    for _ in 0..50 {
        let sleeper = tokio::spawn({
            let driver = Arc::clone(&driver);
            async move {
                driver.wait(&[BOTH, OTHER], LONG).await.unwrap();
                take_one(&*driver, OTHER).await;
                Instant::now()
            }
        });
        until_blocked(&rig, 1).await;
        let pushed = Instant::now();
        push(&rig, &*producer, OTHER, "other", &["job"]).await;
        latencies.push(sleeper.await.unwrap() - pushed);
    }
    latencies.sort();
    // Generous, for a machine that does other things beside.
    assert!(
        latencies[25] < Duration::from_millis(500),
        "median {:?}, worst {:?}",
        latencies[25],
        latencies[49]
    );
}

#[tokio::test]
async fn a_worker_that_stopped_waiting_takes_no_wakeups_from_others() {
    let rig = LaravelRig::new();
    let (busy, idle) = (rig.open(1), rig.open(2));
    // The busy one has blocked longest, so Redis would wake it first.
    let waiting = sleep_on(&busy);
    until_blocked(&rig, 1).await;
    waiting.abort();
    let sleeper = sleep_on(&idle);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let pushed = Instant::now();
    push(&rig, &*idle, OTHER, "other", &["job"]).await;
    sleeper.await.unwrap();
    assert!(pushed.elapsed() < LONG / 2, "{:?}", pushed.elapsed());
    take_one(&*idle, OTHER).await;
    until_blocked(&rig, 0).await;
}

#[tokio::test]
async fn another_wish_is_served_at_once() {
    let rig = LaravelRig::new();
    let (driver, producer) = (rig.open(1), rig.open(0));
    for round in 0..40 {
        // Whatever was waited for last, at whatever stage that is.
        let before = if round % 2 == 0 { BOTH } else { OTHER };
        let _ = tokio::time::timeout(Duration::from_micros(round * 50), driver.wait(&[before], LONG)).await;
        let sleeper = tokio::spawn({
            let driver = Arc::clone(&driver);
            async move { driver.wait(&[BOTH, OTHER], LONG).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(3)).await;
        let pushed = Instant::now();
        push(&rig, &*producer, OTHER, "other", &["job"]).await;
        sleeper.await.unwrap();
        assert!(pushed.elapsed() < LONG / 2, "round {round}: {:?}", pushed.elapsed());
        let job = take_one(&*driver, OTHER).await;
        settle(&*driver, &job, Verdict::Complete { result: None }).await;
    }
    assert!(rig.list(&notify("other")).is_empty());
}

#[tokio::test]
async fn a_wait_that_ends_late_leaves_the_next_one_alone() {
    let rig = LaravelRig::new();
    let (driver, producer) = (rig.open(1), rig.open(0));
    let mut first = Box::pin(driver.wait(&[OTHER], LONG));
    assert!(tokio::time::timeout(Duration::ZERO, &mut first).await.is_err());
    let mut second = Box::pin(driver.wait(&[OTHER], LONG));
    assert!(tokio::time::timeout(Duration::ZERO, &mut second).await.is_err());
    drop(first);
    tokio::time::sleep(Duration::from_millis(100)).await;
    push(&rig, &*producer, OTHER, "other", &["job"]).await;
    let pushed = Instant::now();
    second.await.unwrap();
    assert!(pushed.elapsed() < LONG / 2, "{:?}", pushed.elapsed());
}

#[tokio::test]
async fn one_blocking_call_serves_many_waits() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    for _ in 0..20 {
        let _ = tokio::time::timeout(Duration::from_millis(5), driver.wait(&[BOTH, OTHER], LONG)).await;
        take(&*driver, OTHER, 1).await;
    }
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut rig.redis()).unwrap();
    let calls = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_blpop:calls="))
        .map_or(0, |rest| rest.split(',').next().unwrap().parse::<u32>().unwrap());
    assert!(calls <= 3, "{calls} calls of BLPOP");
}

#[tokio::test]
async fn a_stale_wakeup_is_used_up() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    // As a PHP worker leaves them behind.
    let _: () = rig.redis().rpush(notify("other"), &["1", "1", "1"]).unwrap();
    for _ in 0..3 {
        let started = Instant::now();
        driver.wait(&[OTHER], LONG).await.unwrap();
        assert!(started.elapsed() < LONG / 2);
        assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
    }
    let started = Instant::now();
    driver.wait(&[OTHER], Duration::from_millis(200)).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(190));
}

#[tokio::test]
async fn an_idle_driver_costs_two_connections_and_hardly_a_command() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    take(&*driver, BOTH, 1).await;
    let sleeper = sleep_on(&driver);
    until_blocked(&rig, 1).await;
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut rig.redis()).unwrap();
    // The last one asks.
    assert_eq!(clients.lines().count(), 3, "{clients}");
    sleeper.abort();
    let job = rig.payload("job");
    rig.produce("other", job);
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::Complete { result: None }).await;
    drop(driver);
    let started = Instant::now();
    loop {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut rig.redis()).unwrap();
        if clients.lines().count() == 1 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{clients}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
