//! The worker, the daemon or Redis is killed with SIGKILL while jobs run.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Gate, Received, RedisServer, eventually};
use serde_json::json;

use crate::stage::{Library, Stage};
use crate::support::{Pace, SOON, is_alive};

conforms!(every: of_the_worker, of_the_daemon, of_the_daemon_and_its_workers, of_redis);

/// Jobs in the hands of one worker.
const HAND_FULL: usize = 20;

fn add(stage: &Stage, count: usize) {
    stage.run(&format!(
        "await kit.listen('shop')
         await kit.queue('shop').addBulk(Array.from({{length: {count}}}, (_, n) => ({{name: 'job', data: {{n}}, opts: {{attempts: 2}}}})))"
    ));
}

/// What came to the handlers: deliveries, and jobs among them.
fn deliveries(stage: &Stage) -> (usize, usize) {
    let got = stage.got("shop");
    let jobs: BTreeSet<_> = got.iter().map(|request| request.header("Job-Id").unwrap().to_owned()).collect();
    (got.len(), jobs.len())
}

/// Each job was completed once, as the library's listener heard.
#[track_caller]
fn completed_once(stage: &Stage, count: usize) {
    stage.ended("shop", count, 0);
    let completed = "kit.seen('shop').filter(([event]) => event === 'completed').map(([, {jobId}]) => jobId)";
    stage.soon("the listener to hear of all", &format!("return {completed}.length >= {count}"));
    let heard = stage.run(&format!("const ids = {completed}; return [ids.length, new Set(ids).size]"));
    assert_eq!(heard, json!([count, count]));
}

/// Answers no job until its worker was killed.
fn held_until_a_crash(request: &Received) -> Answer {
    if request.header("Job-Previous-Status") == Some("crash") { Answer::ok() } else { Answer::never() }
}

/// A worker's jobs are active again in under a second, by the library's own count.
fn of_the_worker(library: Library) {
    let seen = Gate::new();
    let stage = Stage::new(library, {
        let seen = seen.clone();
        move |request| held_until_a_crash(request).behind(&seen)
    });
    let mut fleet = stage.fleet(&[("shop", "concurrency: 20")]);
    add(&stage, HAND_FULL);
    stage.wait_for("shop", HAND_FULL);
    let worker = Pid::from_raw(fleet.pid_of("shop:shop_00"));
    let pace = Pace::watch();
    let killed = Instant::now();
    kill(worker, Signal::SIGKILL).unwrap();
    let all = stage.wait_for("shop", 2 * HAND_FULL);
    let back = all[HAND_FULL..].iter().map(|request| request.at - killed).max().unwrap();
    let allowed = pace.allows(Duration::from_secs(1));
    assert!(back < allowed, "all of them are at work again after {back:?}, and not within {allowed:?}");
    let active = stage.run("return await kit.queue('shop').getActiveCount()");
    assert_eq!(active, json!(HAND_FULL), "the library sees them");
    seen.open();
    completed_once(&stage, HAND_FULL);
    assert_eq!(deliveries(&stage), (2 * HAND_FULL, HAND_FULL), "each once more");
    assert_eq!(fleet.stop(), 0);
}

/// Workers finish what they hold when their daemon dies; the next daemon goes on with the rest.
fn of_the_daemon(library: Library) {
    const JOBS: usize = 60;
    let stage = Stage::new(library, |_| Answer::ok().after(Duration::from_millis(400)));
    let mut fleet = stage.fleet(&[("shop", "concurrency: 10")]);
    add(&stage, JOBS);
    stage.wait_for("shop", 10);
    let worker = fleet.pid_of("shop:shop_00");
    fleet.kill9();
    fleet.start_another();
    eventually(SOON, "the old worker to end", || (!is_alive(worker)).then_some(()));
    completed_once(&stage, JOBS);
    assert_eq!(deliveries(&stage), (JOBS, JOBS), "each once");
    assert_eq!(fleet.stop(), 0);
}

/// What nobody is left to return comes back with the next daemon.
fn of_the_daemon_and_its_workers(library: Library) {
    let stage = Stage::new(library, held_until_a_crash);
    let mut fleet = stage.fleet(&[("shop", "concurrency: 20")]);
    add(&stage, HAND_FULL);
    stage.wait_for("shop", HAND_FULL);
    let worker = Pid::from_raw(fleet.pid_of("shop:shop_00"));
    kill(Pid::from_raw(fleet.pid()), Signal::SIGSTOP).unwrap();
    kill(worker, Signal::SIGKILL).unwrap();
    fleet.kill9();
    fleet.start_another();
    completed_once(&stage, HAND_FULL);
    assert_eq!(deliveries(&stage), (2 * HAND_FULL, HAND_FULL), "each once more");
    assert_eq!(fleet.stop(), 0);
}

/// What Redis has acknowledged is there when it comes back; what ran meanwhile ends as it did.
fn of_redis(library: Library) {
    const JOBS: usize = 100;
    let redis = RedisServer::builder().append_only().start();
    let (killed, count) = (Gate::new(), AtomicUsize::new(0));
    let stage = Stage::on(redis, library, {
        let killed = killed.clone();
        // The first ones end before it, the next ones run meanwhile, and the rest wait.
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0..20 => Answer::ok(),
            _ => Answer::ok().behind(&killed),
        }
    });
    let mut fleet = stage.fleet(&[("shop", "concurrency: 10")]);
    add(&stage, JOBS);
    stage.wait_for("shop", 30);
    stage.redis.kill9();
    killed.open();
    eventually(SOON, "word of it", || fleet.log().contains("cannot be used").then_some(()));
    stage.redis.restart();
    stage.ended("shop", JOBS, 0);
    assert_eq!(deliveries(&stage), (JOBS, JOBS), "each once");
    assert_eq!(fleet.stop(), 0);
}
