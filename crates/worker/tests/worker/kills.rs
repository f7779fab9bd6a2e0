//! SIGKILL at every step of a job's life: nothing is lost, and nothing runs twice at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use qfleet_manifest::settings::WorkerSettings;
use qfleet_testkit::{Answer, Receiver, eventually};

use crate::jobs::{Job, attempts};
use crate::stage::{SOON, Stage};

/// Notes start and end of each run, and whether another run of the same job was alive at its start.
fn watched(stage: &Stage, work: &str, more: &str) -> WorkerSettings {
    let dir = stage.scratch.path().display().to_string();
    let script = "cd DIR; f=run.$JOB_ID; if [ -s $f ]; then s=$(cut -d\" \" -f3 /proc/$(cat $f)/stat 2>/dev/null); case $s in \"\"|Z|X) ;; *) echo overlap $JOB_ID >> out;; esac; fi; echo $$ > $f; echo start $JOB_ID >> out; WORK; echo end $JOB_ID >> out; rm -f $f";
    let script = script.replace("DIR", &dir).replace("WORK", work);
    // In a manifest two dollars are one.
    let script = script.replace("$$", "$$$$");
    stage.settings(&format!(
        "queues:\n  q:\n    tries: 0\n    sleep: 200ms\n    handler: {{shell: {{shell: '{script}'}}}}\n{more}"
    ))
}

fn count(lines: &[String], word: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for id in lines.iter().filter_map(|line| line.strip_prefix(word)) {
        *counts.entry(id.trim().to_owned()).or_default() += 1;
    }
    counts
}

/// The bytes of a ledger that is still being written.
fn ledger(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn killed_with_its_reserving_call_sent_and_no_answer_read() {
    let stage = Stage::new();
    let settings = watched(&stage, "true", "");
    let mut worker = stage.worker(&settings);
    eventually(SOON, "the worker to sleep", || {
        let clients: String = redis::cmd("INFO").arg("clients").query(&mut stage.redis.connection()).unwrap();
        clients.contains("blocked_clients:1").then_some(())
    });
    // Nobody is woken by this one: it is found when the sleep is over.
    let job = Job::new("a").bytes();
    let idle = ledger(&worker.ledger);
    redis::cmd("RPUSH").arg("t_queues:q").arg(job).exec(&mut stage.redis.connection()).unwrap();
    stage.redis.pause();
    eventually(SOON, "a call to be noted, or the job to be taken", || {
        (ledger(&worker.ledger) != idle).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    worker.child.kill9();
    stage.redis.resume();
    eventually(SOON, "the call to be carried out after the death", || {
        let (ready, delayed, reserved) = stage.depth("q");
        (ready + delayed + reserved == 0 || reserved == 1 || !stage.lines("out").is_empty()).then_some(())
    });
    let ran = stage.lines("out").len();
    stage.recover(&settings, &worker.ledger);
    if ran == 0 {
        assert_eq!(stage.depth("q"), (1, 0, 0));
        assert_eq!(attempts(&stage.ready("q")[0]), 0, "it was never run");
    }
    let next = stage.worker(&settings);
    eventually(SOON, "the job to be done", || {
        stage.lines("out").contains(&String::from("end a")).then_some(())
    });
    next.finish();
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn killed_with_one_job_running_and_one_fetched() {
    let stage = Stage::new();
    let settings =
        watched(&stage, "if [ $JOB_ID = bad ]; then kill -SEGV $$; fi; sleep 60", "    concurrency: 2\n");
    let mut worker = stage.worker(&settings);
    stage.push("q", &Job::new("good").bytes());
    stage.wait_lines("out", 1);
    // After two crashes it has to wait until it can run alone, and so stays fetched.
    stage.push("q", &Job::new("bad").bytes());
    eventually(SOON, "the suspect to wait", || (worker.logged("runs alone") == 1).then_some(()));
    assert_eq!(count(&stage.lines("out"), "start bad")[""], 2);
    worker.child.kill9();
    let (returned, buried) = stage.recover(&settings, &worker.ledger);
    assert_eq!((returned, buried), (2, 0));
    let left = stage.ready("q").into_iter().chain(stage.delayed("q").into_iter().map(|(payload, _)| payload));
    let spent: BTreeMap<String, u64> = left
        .into_iter()
        .map(|payload| {
            let id = if payload.contains("\"bad\"") { "bad" } else { "good" };
            (id.to_owned(), attempts(&payload))
        })
        .collect();
    assert_eq!(spent, BTreeMap::from([(String::from("bad"), 2), (String::from("good"), 1)]));
    assert_eq!(count(&stage.lines("out"), "overlap"), BTreeMap::new());
}

#[test]
fn killed_while_a_job_runs_its_children_are_ended_before_it_goes_back() {
    let stage = Stage::new();
    let settings = watched(&stage, "(sleep 3; echo orphan >> out) & sleep 60", "");
    stage.push("q", &Job::new("a").bytes());
    let mut worker = stage.worker(&settings);
    stage.wait_lines("out", 1);
    worker.child.kill9();
    assert_eq!(stage.recover(&settings, &worker.ledger), (1, 0));
    let left = stage.ready("q").into_iter().chain(stage.delayed("q").into_iter().map(|(payload, _)| payload));
    assert_eq!(left.map(|payload| attempts(&payload)).collect::<Vec<_>>(), [1]);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(stage.lines("out"), ["start a"], "nothing of the dead run is at work");
}

#[test]
fn killed_with_its_outcome_known_and_not_settled() {
    let stage = Stage::new();
    let settings = watched(&stage, "sleep 1", "");
    stage.push("q", &Job::new("a").bytes());
    let mut worker = stage.worker(&settings);
    stage.wait_lines("out", 1);
    stage.redis.pause();
    stage.wait_lines("out", 2);
    eventually(SOON, "the end to be known", || (worker.logged("outcome=\"complete\"") == 1).then_some(()));
    worker.child.kill9();
    stage.redis.resume();
    stage.recover(&settings, &worker.ledger);
    assert_eq!(stage.depth("q"), (0, 0, 0), "it is done");
    let next = stage.worker(&settings);
    next.finish();
    assert_eq!(stage.lines("out"), ["start a", "end a"]);
}

#[test]
fn killed_after_settling_there_is_nothing_to_give_back() {
    let stage = Stage::new();
    let settings = watched(&stage, "true", "");
    stage.push("q", &Job::new("a").bytes());
    let mut worker = stage.worker(&settings);
    stage.wait_lines("out", 2);
    stage.wait_depth("q", (0, 0, 0));
    worker.wait_report("it to be settled", |report| report.completed == 1);
    worker.child.kill9();
    assert_eq!(stage.recover(&settings, &worker.ledger), (0, 0));
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn killed_while_burying_the_job_is_either_buried_or_back() {
    let stage = Stage::new();
    let receiver = Receiver::start(|_| Answer::status(422));
    let settings = stage.settings(&format!("queues:\n  q: {{handler: {{http: \"{}\"}}}}\n", receiver.url()));
    for round in 0..10_u64 {
        let id = format!("job-{round}");
        stage.push("q", &Job::new(&id).bytes());
        let mut worker = stage.worker(&settings);
        receiver.wait_for(usize::try_from(round).unwrap() + 1, SOON);
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..3000)));
        worker.child.kill9();
        stage.recover(&settings, &worker.ledger);
        let (ready, delayed, reserved) = stage.depth("q");
        assert_eq!(reserved, 0);
        let buried = stage.failed().iter().any(|(failed, ..)| *failed == id);
        assert!(buried || ready + delayed == 1, "round {round}: lost");
        redis::cmd("FLUSHALL").exec(&mut stage.redis.connection()).unwrap();
    }
}

#[test]
fn twenty_jobs_in_hand_are_handled_again_and_none_is_lost() {
    let stage = Stage::new();
    let settings = watched(&stage, "[ -f second ] || sleep 60", "    concurrency: 20\n");
    for number in 0..20 {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let mut worker = stage.worker(&settings);
    stage.wait_lines("out", 20);
    stage.scratch.write("second", "");
    let killed = Instant::now();
    worker.child.kill9();
    let next = stage.worker_after(&settings, vec![worker.ledger.clone()]);
    next.wait_for("ready", |message| *message == qfleet_model::link::FromChild::Ready);
    let ready = killed.elapsed();
    next.wait_report("all twenty", |report| report.completed == 20);
    println!("ready after {ready:?}, all twenty again after {:?}", killed.elapsed());
    let lines = stage.lines("out");
    assert_eq!(count(&lines, "overlap"), BTreeMap::new());
    assert_eq!(count(&lines, "end").len(), 20);
    next.finish();
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
}

#[test]
fn killed_again_and_again_at_random_every_job_is_done_and_none_runs_twice_at_once() {
    let stage = Stage::new();
    let settings = watched(&stage, "sleep 0.0$((JOB_ID % 5))", "    concurrency: 6\n");
    const JOBS: usize = 300;
    for number in 0..JOBS {
        stage.push("q", &Job::new(&number.to_string()).bytes());
    }
    let mut dice = fastrand::Rng::with_seed(42);
    let mut worker = stage.worker(&settings);
    for _ in 0..12 {
        let enough = stage.lines("out").len() + dice.usize(10..60);
        eventually(SOON, "some progress", || {
            let lines = stage.lines("out");
            (lines.len() >= enough || count(&lines, "end").len() == JOBS).then_some(())
        });
        worker.child.kill9();
        let next = stage.worker_after(&settings, vec![worker.ledger.clone()]);
        worker = next;
    }
    eventually(2 * SOON, "every job to be done", || {
        (count(&stage.lines("out"), "end").len() == JOBS).then_some(())
    });
    stage.wait_depth("q", (0, 0, 0));
    worker.finish();
    let lines = stage.lines("out");
    assert_eq!(count(&lines, "overlap"), BTreeMap::new());
    assert_eq!(stage.failed(), []);
    assert_eq!(stage.queue_keys(), Vec::<String>::new());
    let runs: usize = count(&lines, "end").values().sum();
    println!("{runs} runs came to their end for {JOBS} jobs");
}
