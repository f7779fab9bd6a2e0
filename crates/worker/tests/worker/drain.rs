//! Stopping: what runs may finish within the limit, what was not started goes back, what is cut off is not lost.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::start::DrainLimit;
use qfleet_testkit::{Answer, Receiver, eventually};

use crate::jobs::{Job, attempts};
use crate::stage::{Process, SOON, Stage};

const SECOND: Duration = Duration::from_secs(1);

fn shell(stage: &Stage, script: &str, more: &str) -> WorkerSettings {
    let out = stage.scratch.join("out");
    let script = script.replace("OUT", &out.display().to_string());
    stage.settings(&format!("queues:\n  q: {{handler: {{shell: {{shell: '{script}'}}}}{more}}}\n"))
}

fn slow(stage: &Stage, seconds: u32, more: &str) -> WorkerSettings {
    shell(stage, &format!("echo start $JOB_ID >> OUT; sleep {seconds}; echo end $JOB_ID >> OUT"), more)
}

fn one_running(stage: &Stage, settings: &WorkerSettings) -> Process {
    stage.push("q", &Job::new("a").bytes());
    let worker = stage.worker(settings);
    stage.wait_lines("out", 1);
    worker
}

#[test]
fn a_replaced_worker_finishes_what_runs_and_takes_nothing_more() {
    let stage = Stage::new();
    let mut worker = one_running(&stage, &slow(&stage, 1, ""));
    worker.drain(DrainLimit::JobsOwn);
    eventually(SOON, "the drain to begin", || (worker.logged("draining") == 1).then_some(()));
    stage.push("q", &Job::new("b").bytes());
    assert_eq!(worker.wait(SOON), 0);
    assert_eq!(stage.lines("out"), ["start a", "end a"]);
    assert_eq!(stage.depth("q"), (1, 0, 0));
    assert!(!worker.ledger.exists());
}

#[test]
fn jobs_that_come_while_draining_go_back_as_they_were_in_their_order() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let settings = stage
        .settings(&format!("queues:\n  q: {{concurrency: 3, handler: {{http: \"{}\"}}}}\n", receiver.url()));
    let jobs: Vec<String> =
        (0..5).map(|number| String::from_utf8(Job::new(&number.to_string()).bytes()).unwrap()).collect();
    jobs.iter().for_each(|job| stage.push("q", job.as_bytes()));
    // The first turn is sent and gets no answer until the drain has begun.
    redis::cmd("CLIENT").arg("PAUSE").arg(600_000).arg("WRITE").exec(&mut stage.redis.connection()).unwrap();
    let mut worker = stage.worker(&settings);
    eventually(SOON, "the turn to be held up", || {
        let clients: String = redis::cmd("INFO").arg("clients").query(&mut stage.redis.connection()).unwrap();
        clients.contains("blocked_clients:1").then_some(())
    });
    worker.drain(DrainLimit::JobsOwn);
    eventually(SOON, "the drain to begin", || (worker.logged("draining") == 1).then_some(()));
    redis::cmd("CLIENT").arg("UNPAUSE").exec(&mut stage.redis.connection()).unwrap();
    assert_eq!(worker.wait(SOON), 0);
    assert_eq!(stage.ready("q"), jobs);
    assert_eq!(receiver.count(), 0);
    assert_eq!(worker.report().given_back, 3);
}

#[test]
fn at_the_limit_a_shell_job_is_ended_with_its_children_and_given_back_at_once() {
    let stage = Stage::new();
    let script = "echo start $JOB_ID >> OUT; (trap \"\" TERM; sleep 60; echo still >> OUT) & sleep 60; echo end >> OUT";
    let mut worker = one_running(&stage, &shell(&stage, script, ", kill-after: 1s"));
    let begun = Instant::now();
    worker.drain(DrainLimit::AtMost(SECOND / 2));
    assert_eq!(worker.wait(SOON), 75);
    assert!(begun.elapsed() < 40 * SECOND, "its script takes a minute");
    assert_eq!(stage.depth("q"), (1, 0, 0));
    assert_eq!(attempts(&stage.ready("q")[0]), 0, "the attempt is not counted");
    assert_eq!(stage.lines("out"), ["start a"]);
    assert!(!worker.ledger.exists());
}

#[test]
fn at_the_limit_an_http_job_waits_until_its_receiver_must_be_done() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::never());
    let settings = stage.settings(&format!(
        "queues:\n  q: {{timeout: 40, handler: {{http: \"{}\"}}, stop-wait: 500ms}}\n",
        receiver.url()
    ));
    stage.push("q", &Job::new("a").bytes());
    let mut worker = stage.worker(&settings);
    receiver.wait_for(1, SOON);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.wait(SOON), 75);
    let (payload, due) = stage.delayed("q").remove(0);
    assert_eq!(attempts(&payload), 0, "the attempt is not counted");
    let wait = due - SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((5.0..=46.0).contains(&wait), "the deadline and five seconds more: {wait}");
}

#[test]
fn a_second_term_changes_nothing_and_quit_cuts_off() {
    let stage = Stage::new();
    let mut worker = one_running(&stage, &slow(&stage, 60, ", stop-wait: 60s"));
    worker.signal(Signal::SIGTERM);
    eventually(SOON, "the drain to begin", || (worker.logged("draining") == 1).then_some(()));
    worker.signal(Signal::SIGTERM);
    worker.signal(Signal::SIGINT);
    std::thread::sleep(SECOND / 2);
    assert!(worker.child.ended().is_none(), "it still waits for its job");
    worker.signal(Signal::SIGQUIT);
    assert_eq!(worker.wait(SOON), 75);
    assert_eq!(stage.depth("q"), (1, 0, 0));
}

#[test]
fn a_limit_can_be_made_shorter_but_not_longer() {
    let stage = Stage::new();
    let mut worker = one_running(&stage, &slow(&stage, 60, ", kill-after: 1s"));
    worker.drain(DrainLimit::JobsOwn);
    worker.drain(DrainLimit::AtMost(SECOND));
    worker.drain(DrainLimit::AtMost(60 * SECOND));
    let begun = Instant::now();
    assert_eq!(worker.wait(SOON), 75);
    assert!(begun.elapsed() < 40 * SECOND, "its script takes a minute");
}

#[test]
fn without_its_daemon_a_worker_finishes_and_ends() {
    let stage = Stage::new();
    let mut worker = one_running(&stage, &slow(&stage, 1, ""));
    worker.cut_link();
    assert_eq!(worker.wait(SOON), 0);
    assert_eq!(stage.lines("out"), ["start a", "end a"]);
    assert_eq!(stage.depth("q"), (0, 0, 0));
}

#[test]
fn with_its_store_away_a_worker_leaves_what_is_not_settled_to_its_ledger() {
    let stage = Stage::new();
    let settings = slow(&stage, 1, "");
    let mut worker = one_running(&stage, &settings);
    stage.redis.pause();
    stage.wait_lines("out", 2);
    let begun = Instant::now();
    worker.drain(DrainLimit::AtMost(30 * SECOND));
    assert_eq!(worker.wait(SOON), 75);
    assert!(begun.elapsed() < 28 * SECOND, "before the limit");
    assert!(worker.ledger.exists());
    stage.redis.resume();
    stage.recover(&settings, &worker.ledger);
    assert_eq!(stage.depth("q"), (0, 0, 0), "it had completed");
    assert_eq!(stage.lines("out"), ["start a", "end a"]);
}

#[test]
fn what_a_call_without_an_answer_took_is_left_to_the_ledger_too() {
    let stage = Stage::new();
    let settings = shell(&stage, "echo start >> OUT", ", sleep: 200ms");
    let mut worker = stage.worker(&settings);
    eventually(SOON, "the worker to sleep", || {
        let clients: String = redis::cmd("INFO").arg("clients").query(&mut stage.redis.connection()).unwrap();
        clients.contains("blocked_clients:1").then_some(())
    });
    stage.redis.pause();
    // With nobody to answer, the call that follows the sleep hangs, and then fails.
    worker.wait_report("the outage", |report| report.outage.is_some());
    worker.drain(DrainLimit::AtMost(30 * SECOND));
    assert_eq!(worker.wait(SOON), 0, "no work is known to have been cut off");
    assert!(worker.ledger.exists());
    stage.redis.resume();
    stage.push("q", &Job::new("a").bytes());
    stage.recover(&settings, &worker.ledger);
    assert_eq!(stage.depth("q"), (1, 0, 0));
    assert_eq!(stage.lines("out"), Vec::<String>::new());
}
