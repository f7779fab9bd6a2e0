//! Concurrency: jobs at once, neighbours, timeouts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Gate, Receiver};

use crate::jobs::Job;
use crate::stage::{SOON, Stage};

#[test]
fn as_many_jobs_run_at_once_as_allowed_and_no_more() {
    let stage = Stage::new();
    let (eight, count) = (Gate::new(), AtomicUsize::new(0));
    let receiver = Receiver::start(move |_| {
        // Nobody is done before eight are there.
        if count.fetch_add(1, Ordering::SeqCst) == 7 {
            eight.open();
        }
        Answer::ok().after(Duration::from_millis(100)).behind(&eight)
    });
    let url = receiver.url();
    for number in 0..40 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let settings =
        stage.settings(&format!("queues:\n  q: {{concurrency: 8, handler: {{http: \"{url}\"}}}}\n"));
    let worker = stage.worker(&settings);
    receiver.wait_for(40, SOON);
    stage.wait_depth("q", (0, 0, 0));
    assert_eq!(receiver.most_in_hand(), 8);
    assert_eq!(worker.finish().completed, 40);
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn with_concurrency_one_jobs_run_in_their_order_and_none_is_fetched_ahead() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    for number in 0..20 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let settings = stage.settings(&format!("queues:\n  q: {{handler: {{http: \"{}\"}}}}\n", receiver.url()));
    let worker = stage.worker(&settings);
    while receiver.count() < 20 {
        let (.., reserved) = stage.depth("q");
        assert!(reserved <= 1, "{reserved} reserved");
    }
    let order: Vec<String> =
        receiver.requests().iter().map(|request| request.header("job-id").unwrap().to_owned()).collect();
    assert_eq!(order, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(worker.finish().completed, 20);
}

#[test]
fn a_timeout_ends_one_job_and_its_neighbours_go_on() {
    let stage = Stage::new();
    let out = stage.scratch.join("out");
    let script = format!(
        "'echo start $JOB_ID >> {0}; read -r job; case $job in *slow*) sleep 600;; *) sleep 2;; esac; echo end $JOB_ID >> {0}'",
        out.display()
    );
    let settings = stage.settings(&format!(
        "queues:\n  q: {{concurrency: 4, tries: 1, kill-after: 1s, handler: {{shell: {{shell: {script}}}}}}}\n"
    ));
    stage.push("q", &Job::new("hung").with("data", "slow").with("timeout", 1).bytes());
    for number in 0..3 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let begun = Instant::now();
    let worker = stage.worker(&settings);
    let lines = stage.wait_lines("out", 7);
    assert!(begun.elapsed() < SOON, "nobody waited for the hung one");
    assert_eq!(lines.iter().filter(|line| line.starts_with("end")).count(), 3);
    assert!(!lines.contains(&String::from("end hung")));
    stage.wait_depth("q", (0, 0, 0));
    let failed = stage.failed();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].0.as_str(), failed[0].2.as_str()), ("hung", "timeout"));
    let report = worker.finish();
    assert_eq!((report.completed, report.failed), (3, 1));
}
