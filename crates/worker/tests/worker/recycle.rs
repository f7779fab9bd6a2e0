//! Replacing a worker: it asks once, works on until it is told to drain, and takes over new figures meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::link::{FromChild, Recycle, ToChild};
use qfleet_testkit::{Answer, Gate, Receiver, eventually};

use crate::jobs::Job;
use crate::stage::{Process, SOON, Stage};

fn settings(stage: &Stage, receiver: &Receiver, more: &str) -> WorkerSettings {
    stage.settings(&format!("queues:\n  q: {{handler: {{http: \"{}\"}}{more}}}\n", receiver.url()))
}

fn wishes(worker: &Process) -> usize {
    let wish = |message: &&FromChild| matches!(message, FromChild::WantsReplacement { .. });
    worker.said().iter().filter(wish).count()
}

fn asks_for(worker: &Process, wanted: Recycle) {
    worker.wait_for("the wish", |message| *message == FromChild::WantsReplacement { because: wanted });
}

#[test]
fn after_max_jobs_it_asks_once_and_works_on_until_told() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let worker = stage.worker(&settings(&stage, &receiver, ", max-jobs: 2"));
    for number in 0..6 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    receiver.wait_for(6, SOON);
    asks_for(&worker, Recycle::MaxJobs);
    assert_eq!(wishes(&worker), 1);
    assert_eq!(worker.finish().completed, 6);
}

#[test]
fn after_max_time_it_asks_though_idle() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let worker = stage.worker(&settings(&stage, &receiver, ", max-time: 1s"));
    asks_for(&worker, Recycle::MaxTime);
    worker.finish();
}

#[test]
fn above_its_memory_it_asks_between_jobs() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    // Less than a manifest may say: no process is that small.
    let settings = WorkerSettings { memory: Some(64 * 1024), ..settings(&stage, &receiver, "") };
    let worker = stage.worker(&settings);
    stage.push("q", &Job::new("a").bytes());
    asks_for(&worker, Recycle::Memory);
    worker.finish();
}

#[test]
fn without_a_daemon_it_drains_by_itself() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut worker = stage.worker_alone(&settings(&stage, &receiver, ", max-jobs: 3"));
    for number in 0..10 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    assert_eq!(worker.wait(SOON), 0, "{}", worker.log());
    let (ready, delayed, reserved) = stage.depth("q");
    assert_eq!((ready + receiver.count() as u64, delayed, reserved), (10, 0, 0));
    assert!(ready > 0, "it stopped in time");
}

#[test]
fn another_limit_of_starts_holds_without_a_new_process() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let limited = |max: &str| settings(&stage, &receiver, &format!(", concurrency: 4{max}"));
    let worker = stage.worker(&limited(", rate-limit: {max: 2, per: 600s}"));
    let tell = |settings| worker.tell(&ToChild::Tune { settings: serde_json::to_value(settings).unwrap() });
    for number in 0..12 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    receiver.wait_for(2, SOON);
    stage.wait_depth("q", (10, 0, 0));
    assert_eq!(receiver.count(), 2);
    tell(limited(", rate-limit: {max: 5, per: 600s}"));
    receiver.wait_for(5, SOON);
    stage.wait_depth("q", (7, 0, 0));
    assert_eq!(receiver.count(), 5, "what had started counts, and it did not sleep until the window's end");
    tell(limited(", rate-limit: {max: 3, per: 600s}"));
    // A job of high number would start with any turn that is allowed to take one.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((receiver.count(), stage.depth("q")), (5, (7, 0, 0)));
    tell(limited(""));
    receiver.wait_for(12, SOON);
    worker.finish();
}

#[test]
fn what_was_fetched_before_starts_were_counted_goes_back() {
    let stage = Stage::new();
    let (told, count) = (Gate::new(), AtomicUsize::new(0));
    let receiver = Receiver::start({
        let told = told.clone();
        // Most wait until the worker has been told.
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0..60 => Answer::ok(),
            _ => Answer::ok().after(Duration::from_millis(30)).behind(&told),
        }
    });
    let worker = stage.worker(&settings(&stage, &receiver, ", concurrency: 10"));
    for number in 0..400 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    receiver.wait_for(60, SOON);
    let after = settings(&stage, &receiver, ", concurrency: 10, rate-limit: {max: 7, per: 600s}");
    worker.tell(&ToChild::Tune { settings: serde_json::to_value(&after).unwrap() });
    told.open();
    eventually(SOON, "the new limit to be reached", || {
        let starts: Option<u32> =
            redis::cmd("GET").arg("t_qfleet:limiter:q").query(&mut stage.redis.connection()).unwrap();
        (starts == Some(7) && stage.depth("q").2 == 0).then_some(())
    });
    let (ready, delayed, reserved) = stage.depth("q");
    assert_eq!(
        (ready + receiver.count() as u64, delayed, reserved),
        (400, 0, 0),
        "none is lost, none ran twice"
    );
    worker.finish();
}

#[test]
fn new_figures_are_taken_over_by_the_next_attempts() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(200)));
    let before = settings(&stage, &receiver, ", concurrency: 1");
    let worker = stage.worker(&before);
    for number in 0..30 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    receiver.wait_for(2, SOON);
    assert_eq!(receiver.most_in_hand(), 1);
    let after = settings(&stage, &receiver, ", concurrency: 5, tries: 7");
    worker.tell(&ToChild::Tune { settings: serde_json::to_value(&after).unwrap() });
    eventually(SOON, "five at once", || (receiver.most_in_hand() == 5).then_some(()));
    let requests = receiver.wait_for(30, SOON);
    assert_eq!(requests[0].header("job-max-attempts"), Some("1"));
    assert_eq!(requests[29].header("job-max-attempts"), Some("7"));
    assert_eq!(receiver.most_in_hand(), 5);
    worker.finish();
}
