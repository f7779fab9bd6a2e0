//! Redis goes away and comes back: nothing is lost or done twice, and it is said once.

use std::time::{Duration, Instant, SystemTime};

use qfleet_testkit::{Answer, Receiver, RedisServer, eventually};

use crate::jobs::Job;
use crate::stage::{SOON, Stage};

const GONE: &str = "cannot be used, trying on until it can";
const BACK: &str = "answers again after";

#[test]
fn deliveries_go_on_while_redis_is_silent_and_are_settled_when_it_is_back() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_secs(1)));
    let settings = stage.settings(&format!(
        "queues:\n  q: {{concurrency: 4, sleep: 1s, handler: {{http: \"{}\"}}}}\n",
        receiver.url()
    ));
    let worker = stage.worker(&settings);
    for number in 0..4 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    receiver.wait_for(4, SOON);
    let begun = Instant::now();
    stage.redis.pause();
    worker.wait_report("the outage", |report| report.outage.is_some());
    while begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(receiver.count(), 4);
        std::thread::sleep(Duration::from_millis(100));
    }
    stage.redis.resume();
    let report = worker.wait_report("the jobs to be settled", |report| report.completed == 4);
    assert_eq!((report.outage, report.late), (None, 0));
    stage.wait_depth("q", (0, 0, 0));
    stage.push("q", &Job::new("after").bytes());
    receiver.wait_for(5, SOON);
    assert_eq!((worker.logged(GONE), worker.logged(BACK)), (1, 1), "{}", worker.log());
    assert_eq!(worker.finish().completed, 5);
    assert_eq!(receiver.count(), 5);
}

#[test]
fn a_restarted_redis_that_kept_its_data_finds_its_workers_back() {
    let stage = Stage::with(RedisServer::builder().append_only().start());
    let out = stage.scratch.join("out");
    let shell = format!("'echo $JOB_ID >> {0}; sleep 2; echo end $JOB_ID >> {0}'", out.display());
    let settings = stage.settings(&format!("queues:\n  q: {{handler: {{shell: {{shell: {shell}}}}}}}\n"));
    let worker = stage.worker(&settings);
    stage.push("q", &Job::new("a").bytes());
    stage.wait_lines("out", 1);
    stage.redis.kill9();
    stage.wait_lines("out", 2);
    worker.wait_report("the outage", |report| report.outage.is_some());
    stage.redis.restart();
    worker.wait_report("the job to be settled", |report| report.completed == 1);
    stage.push("q", &Job::new("b").bytes());
    worker.wait_report("the next job", |report| report.completed == 2);
    stage.wait_depth("q", (0, 0, 0));
    assert_eq!(stage.lines("out"), ["a", "end a", "b", "end b"]);
    assert_eq!((worker.logged(GONE), worker.logged(BACK)), (1, 1), "{}", worker.log());
    worker.finish();
}

#[test]
fn a_cut_connection_is_made_again_without_a_word() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let settings = stage
        .settings(&format!("queues:\n  q: {{concurrency: 2, handler: {{http: \"{}\"}}}}\n", receiver.url()));
    let worker = stage.worker(&settings);
    for number in 0..5_usize {
        stage.push("q", &Job::new(&number.to_string()).bytes());
        receiver.wait_for(number + 1, SOON);
        let mut connection = stage.redis.connection();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        kill.exec(&mut connection).unwrap();
    }
    worker.wait_report("all to be settled", |report| report.completed == 5);
    stage.wait_depth("q", (0, 0, 0));
    assert_eq!(worker.logged(GONE), 0, "{}", worker.log());
    assert_eq!(receiver.count(), 5, "nothing was delivered twice");
    worker.finish();
}

#[test]
fn a_worker_is_ready_without_redis_and_works_when_it_comes() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let settings = stage.settings(&format!("queues:\n  q: {{handler: {{http: \"{}\"}}}}\n", receiver.url()));
    stage.redis.kill9();
    let worker = stage.worker(&settings);
    worker.wait_report("the outage", |report| report.outage.is_some());
    stage.redis.restart();
    stage.push("q", &Job::new("a").bytes());
    receiver.wait_for(1, SOON);
    eventually(SOON, "the outage to end", || worker.report().outage.is_none().then_some(()));
    assert_eq!((worker.logged(GONE), worker.logged(BACK)), (1, 1), "{}", worker.log());
    worker.finish();
}

#[test]
fn a_store_that_takes_no_writes_is_tried_with_pauses_and_said_once() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::ok());
    let settings =
        stage.settings(&format!("queues:\n  q: {{sleep: 1s, handler: {{http: \"{}\"}}}}\n", receiver.url()));
    let mut redis = stage.redis.connection();
    let worker = stage.worker(&settings);
    stage.push("q", &Job::new("before").bytes());
    receiver.wait_for(1, SOON);
    // Reads are answered as ever.
    let writes = |redis: &mut redis::Connection, replicas: u8| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("min-replicas-to-write").arg(replicas).exec(redis).unwrap();
    };
    let due = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1;
    redis::cmd("ZADD")
        .arg("t_queues:q:delayed")
        .arg(due)
        .arg(Job::new("due").bytes())
        .exec(&mut redis)
        .unwrap();
    stage.push("q", &Job::new("wakes").bytes());
    receiver.wait_for(2, SOON);
    writes(&mut redis, 1);
    worker.wait_report("the outage", |report| report.outage.is_some());
    let before = scripts_run(&mut redis);
    std::thread::sleep(Duration::from_secs(2));
    let tries = scripts_run(&mut redis) - before;
    // Each try is a look and a turn.
    assert!(tries <= 40, "{tries} calls in two seconds");
    assert_eq!(receiver.count(), 2);
    writes(&mut redis, 0);
    receiver.wait_for(3, SOON);
    worker.wait_report("the end of the outage", |report| report.outage.is_none() && report.completed == 3);
    assert_eq!((worker.logged(GONE), worker.logged(BACK)), (1, 1), "{}", worker.log());
}

/// Calls of scripts so far.
fn scripts_run(redis: &mut redis::Connection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(redis).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}
