//! What becomes of jobs that do not succeed: tries, backoff, limits in the payload, snoozes, crashes, bad payloads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use qfleet_testkit::{Answer, Receiver, eventually};

use crate::jobs::{Job, attempts};
use crate::stage::{SOON, Stage};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn http(stage: &Stage, receiver: &Receiver, more: &str) -> qfleet_manifest::settings::WorkerSettings {
    stage.settings(&format!(
        "queues:\n  q: {{sleep: 200ms, handler: {{http: \"{}\"}}{more}}}\n",
        receiver.url()
    ))
}

fn attempts_of(receiver: &Receiver, id: &str) -> Vec<String> {
    let of = |request: &qfleet_testkit::Received| {
        let mine = request.header("job-id") == Some(id);
        mine.then(|| request.header("job-attempt").unwrap().to_owned())
    };
    receiver.requests().iter().filter_map(of).collect()
}

#[test]
fn tries_are_the_jobs_then_the_queues_and_the_last_failure_is_kept() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::status(500).body("boom"));
    stage.push("q", &Job::new("own").with("maxTries", 3).bytes());
    stage.push("q", &Job::new("queue").bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", tries: 2"));
    eventually(SOON, "both to fail", || (stage.failed().len() == 2).then_some(()));
    assert_eq!(attempts_of(&receiver, "own"), ["1", "2", "3"]);
    assert_eq!(attempts_of(&receiver, "queue"), ["1", "2"]);
    assert!(stage.failed().iter().all(|(_, reason, _)| reason.contains("boom")), "{:?}", stage.failed());
    stage.wait_depth("q", (0, 0, 0));
    let report = worker.finish();
    assert_eq!((report.retried, report.failed, report.completed), (3, 2, 0));
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn override_wins_over_the_job() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::status(500));
    stage.push("q", &Job::new("a").with("maxTries", 9).bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", override: {tries: 1}"));
    eventually(SOON, "it to fail", || (stage.failed().len() == 1).then_some(()));
    assert_eq!(attempts_of(&receiver, "a"), ["1"]);
    worker.finish();
}

#[test]
fn backoff_in_the_payload_delays_the_next_attempt() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::status(500));
    stage.push("q", &Job::new("a").with("backoff", "30,60").bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", tries: 3"));
    stage.wait_depth("q", (0, 1, 0));
    let delayed = stage.delayed("q");
    assert_eq!(attempts(&delayed[0].0), 1);
    let wait = delayed[0].1 - now();
    assert!((1.0..=31.0).contains(&wait), "{wait}");
    worker.finish();
}

#[test]
fn a_job_past_its_last_date_or_its_tries_is_not_run() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    stage.push("q", &Job::new("late").with("retryUntil", 1_000_000_000).bytes());
    stage.push("q", &Job::new("spent").with("attempts", 3).bytes());
    stage.push("q", &Job::new("dated").with("attempts", 30).with("retryUntil", 4_000_000_000_u64).bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", tries: 3"));
    eventually(SOON, "both to be set aside", || (stage.failed().len() == 2).then_some(()));
    receiver.wait_for(1, SOON);
    stage.wait_depth("q", (0, 0, 0));
    assert!(stage.failed().iter().all(|(.., class)| class == "max_attempts"), "{:?}", stage.failed());
    assert_eq!(attempts_of(&receiver, "dated"), ["31"]);
    assert_eq!(receiver.count(), 1);
    worker.finish();
}

#[test]
fn exceptions_have_a_limit_of_their_own() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::status(500));
    stage.push("q", &Job::new("a").with("maxTries", 9).with("maxExceptions", 2).bytes());
    let worker = stage.worker(&http(&stage, &receiver, ""));
    eventually(SOON, "it to fail", || (stage.failed().len() == 1).then_some(()));
    assert_eq!(attempts_of(&receiver, "a"), ["1", "2"]);
    worker.finish();
}

#[test]
fn snoozes_cost_no_attempt_until_their_budget_is_used_up() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().header("Job-Outcome", "snooze;delay=0;reason=\"later\""));
    stage.push("q", &Job::new("a").bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", tries: 2, snooze-max: 3"));
    eventually(SOON, "the budget to be used up", || (stage.failed().len() == 1).then_some(()));
    assert_eq!(attempts_of(&receiver, "a"), ["1", "1", "1", "1"]);
    let deliveries: Vec<String> = receiver
        .requests()
        .iter()
        .map(|request| request.header("job-deliveries").unwrap().to_owned())
        .collect();
    assert_eq!(deliveries, ["1", "2", "3", "4"]);
    assert_eq!(stage.failed()[0].2, "snooze_budget");
    assert_eq!(worker.finish().snoozed, 3);
}

#[test]
fn discarded_jobs_are_gone_and_counted_apart() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().header("Job-Outcome", "discard"));
    stage.push("q", &Job::new("a").bytes());
    let worker = stage.worker(&http(&stage, &receiver, ""));
    worker.wait_report("one discarded", |report| report.discarded == 1);
    assert_eq!(stage.failed(), []);
    worker.finish();
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn a_timeout_leaves_the_receiver_five_seconds_and_may_fail_the_job() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::never());
    stage.push("q", &Job::new("again").with("timeout", 1).bytes());
    stage.push("q", &Job::new("fails").with("timeout", 1).with("failOnTimeout", true).bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", tries: 3, concurrency: 2"));
    stage.wait_depth("q", (0, 1, 0));
    let (payload, due) = stage.delayed("q").remove(0);
    assert_eq!(attempts(&payload), 1);
    assert!((0.0..=6.5).contains(&(due - now())), "{}", due - now());
    eventually(SOON, "the other to fail", || (stage.failed().len() == 1).then_some(()));
    assert_eq!((stage.failed()[0].0.as_str(), stage.failed()[0].2.as_str()), ("fails", "timeout"));
    worker.finish();
}

#[test]
fn a_bad_payload_is_set_aside_and_the_queue_goes_on() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let bad: [&[u8]; 4] = [b"not json", b"[1,2]", b"{\"uuid\":\"x\",\"attempts\":", b"\x00\xff\xfe"];
    for payload in bad {
        stage.push("q", payload);
        stage.push("q", &Job::new(&format!("after-{}", payload.len())).bytes());
    }
    let worker = stage.worker(&http(&stage, &receiver, ""));
    receiver.wait_for(bad.len(), SOON);
    stage.wait_depth("q", (0, 0, 0));
    assert_eq!(worker.logged("set aside with the unreadable ones"), bad.len());
    let report = worker.finish();
    assert_eq!((report.completed, report.failed), (4, 4));
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
    let kept: Vec<String> =
        redis::cmd("KEYS").arg("t_qfleet:unreadable*").query(&mut stage.redis.connection()).unwrap();
    assert!(!kept.is_empty(), "every byte is kept");
}

#[test]
fn a_job_that_crashes_is_run_alone_in_the_end_and_buried_after_the_third_time() {
    let stage = Stage::new();
    let out = stage.scratch.join("out");
    let script = format!(
        "'echo start $JOB_ID >> {0}; if [ $JOB_ID = bad ]; then sleep 0.2; kill -SEGV $$$$; fi; sleep 0.5; echo end $JOB_ID >> {0}'",
        out.display()
    );
    let settings = stage.settings(&format!(
        "queues:\n  q: {{concurrency: 3, tries: 0, sleep: 200ms, handler: {{shell: {{shell: {script}}}}}}}\n"
    ));
    stage.push("q", &Job::new("bad").bytes());
    for number in 0..12 {
        stage.push("q", &Job::new(&format!("good-{number}")).bytes());
    }
    let worker = stage.worker(&settings);
    eventually(SOON, "the crasher to be buried", || (stage.failed().len() == 1).then_some(()));
    worker.wait_report("the others to complete", |report| report.completed == 12);
    assert_eq!((stage.failed()[0].0.as_str(), stage.failed()[0].2.as_str()), ("bad", "crash"));
    let lines = stage.lines("out");
    assert_eq!(lines.iter().filter(|line| *line == "start bad").count(), 3);
    let third = lines.iter().rposition(|line| line == "start bad").unwrap();
    let before = &lines[..third];
    let begun = before.iter().filter(|line| line.starts_with("start good")).count();
    let ended = before.iter().filter(|line| line.starts_with("end good")).count();
    assert_eq!(begun, ended, "nothing else ran: {lines:?}");
    stage.wait_depth("q", (0, 0, 0));
    worker.finish();
}

#[test]
fn previous_ends_and_deliveries_are_told_to_the_next_delivery() {
    let stage = Stage::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let receiver = Receiver::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::status(500),
        1 => Answer::status(425),
        _ => Answer::ok(),
    });
    stage.push("q", &Job::new("a").bytes());
    let worker = stage.worker(&http(&stage, &receiver, ", tries: 5"));
    let requests = receiver.wait_for(3, SOON);
    let told = |name: &str| -> Vec<String> {
        requests.iter().map(|request| request.header(name).unwrap_or("none").to_owned()).collect()
    };
    assert_eq!(told("job-attempt"), ["1", "2", "2"]);
    assert_eq!(told("job-deliveries"), ["1", "2", "3"]);
    assert_eq!(told("job-previous-status"), ["none", "500", "425"]);
    assert_eq!(told("webhook-id")[0], told("webhook-id")[2]);
    stage.wait_depth("q", (0, 0, 0));
    worker.finish();
}
