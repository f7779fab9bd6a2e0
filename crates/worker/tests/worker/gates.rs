//! An endpoint that is down costs its jobs nothing: its queues are not popped, and one probe at a time finds it back.

use std::time::Duration;

use qfleet_testkit::{Answer, Receiver, eventually, free_port};

use crate::jobs::{Job, attempts};
use crate::stage::{SOON, Stage};

fn evalshas(stage: &Stage) -> u64 {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut stage.redis.connection()).unwrap();
    let calls = info.split("cmdstat_evalsha:calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[test]
fn an_endpoint_that_is_down_costs_no_attempt_and_its_queue_is_left_alone() {
    let stage = Stage::new();
    let port = free_port();
    let settings = stage.settings(&format!(
        "queues:\n  q: {{concurrency: 4, tries: 1, sleep: 500ms, handler: {{http: \"http://127.0.0.1:{port}\"}}}}\n"
    ));
    for number in 0..20 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let worker = stage.worker(&settings);
    worker.wait_report("the gate to shut", |report| !report.gates.is_empty());
    let before = evalshas(&stage);
    for _ in 0..30 {
        let (ready, delayed, reserved) = stage.depth("q");
        assert_eq!(ready + delayed + reserved, 20);
        assert!(ready >= 11, "not popped: {ready}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(evalshas(&stage) - before < 40, "{} turns in three seconds", evalshas(&stage) - before);
    assert!(stage.ready("q").iter().all(|payload| attempts(payload) == 0));
    assert!(stage.delayed("q").iter().all(|(payload, _)| attempts(payload) == 0));
    assert_eq!(stage.failed(), []);

    let receiver = Receiver::start_on_port(port, |_| Answer::ok());
    eventually(4 * SOON, "all jobs to be delivered", || (receiver.count() >= 20).then_some(()));
    assert!(receiver.requests().iter().all(|request| request.header("job-attempt") == Some("1")));
    assert_eq!(worker.finish().completed, 20);
    assert_eq!(stage.failed(), []);
}

#[test]
fn a_busy_endpoint_gets_one_probe_at_a_time() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::status(503).after(Duration::from_millis(100)));
    let settings = stage.settings(&format!(
        "queues:\n  q: {{concurrency: 4, tries: 1, sleep: 500ms, handler: {{http: \"{}\"}}}}\n",
        receiver.url()
    ));
    for number in 0..20 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let worker = stage.worker(&settings);
    // Those of the first moment, then one after a second, one after two more.
    let requests = receiver.wait_for(6, SOON);
    let begun = requests[0].at;
    let probes: Vec<f64> = requests[4..6].iter().map(|request| (request.at - begun).as_secs_f64()).collect();
    assert!(probes[0] > 0.8 && probes[1] - probes[0] > 1.5, "{probes:?}");
    assert_eq!(worker.report().failed, 0);
    assert_eq!(worker.logged("its jobs wait"), 1, "{}", worker.log());
    worker.finish();
    let (ready, delayed, reserved) = stage.depth("q");
    assert_eq!((ready + delayed, reserved), (20, 0));
}

#[test]
fn another_endpoint_of_the_same_queue_goes_on() {
    let stage = Stage::new();
    let (down, receiver) = (free_port(), Receiver::start(|_| Answer::ok()));
    let settings = stage.settings(&format!(
        "queues:\n  q:\n    concurrency: 2\n    tries: 1\n    sleep: 200ms\n    routes: [{{name: \"Down*\", handler: {{http: \"http://127.0.0.1:{down}\"}}}}]\n    handler: {{http: \"{}\"}}\n",
        receiver.url()
    ));
    for number in 0..12 {
        let name = if number % 3 == 0 { "Up" } else { "Down" };
        stage.push("q", &Job::new(&number.to_string()).with("displayName", name).bytes());
    }
    let worker = stage.worker(&settings);
    let requests = receiver.wait_for(4, SOON);
    assert!(requests.iter().all(|request| request.header("job-name") == Some("Up")));
    assert_eq!(stage.failed(), []);
    worker.wait_report("the four", |report| report.completed == 4);
    worker.finish();
    let (ready, delayed, reserved) = stage.depth("q");
    assert_eq!((ready + delayed, reserved), (8, 0));
    let left = stage.delayed("q").into_iter().map(|(payload, _)| payload).chain(stage.ready("q"));
    assert!(left.into_iter().all(|payload| attempts(&payload) == 0));
}
