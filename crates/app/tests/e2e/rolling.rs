//! A rolling restart under load.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Gate, Receiver, RedisServer, eventually};

use crate::support::{Fleet, SOON, children_of, is_alive, parent_of, payload, push, wait_empty};

const SAMPLE: Duration = Duration::from_millis(100);
const JOBS: usize = 2000;

#[test]
fn no_job_is_lost_and_status_shows_the_truth_at_every_sample() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    numprocs: 4\n    concurrency: 5\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    let daemon = fleet.pid();
    let before: Vec<i32> = (0..4).map(|n| fleet.pid_of(&format!("mail:mail_{n:02}"))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..JOBS {
                push(&redis, "mail", [payload(n, "")]);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let sampler = scope.spawn(|| {
            let mut gone_since: HashMap<i32, Instant> = HashMap::new();
            let mut samples = 0;
            while !done.load(Ordering::SeqCst) {
                let children = children_of(daemon);
                let list = fleet.status();
                assert_eq!(list.len(), 4, "every slot is listed: {list:?}");
                for process in &list {
                    let Some(pid) = process["pid"].as_i64().map(|pid| i32::try_from(pid).unwrap()) else {
                        continue;
                    };
                    if is_alive(pid) {
                        assert_eq!(parent_of(pid), Some(daemon), "{process}");
                    } else {
                        let since = gone_since.entry(pid).or_insert_with(Instant::now);
                        assert!(
                            since.elapsed() < Duration::from_secs(10),
                            "listed long after its end: {process}"
                        );
                    }
                }
                let later = fleet.status();
                for child in children.into_iter().filter(|child| is_alive(*child)) {
                    let listed =
                        [&list, &later].iter().any(|l| l.iter().any(|process| process["pid"] == child));
                    assert!(listed || !is_alive(child), "child {child} is missing from {list:?}");
                }
                samples += 1;
                std::thread::sleep(SAMPLE);
            }
            samples
        });
        fleet.ok(&["restart", "mail"]);
        fleet.ok(&["restart", "mail"]);
        done.store(true, Ordering::SeqCst);
        assert!(sampler.join().unwrap() > 2, "sampled during the restart");
    });
    let after: Vec<i32> = (0..4).map(|n| fleet.pid_of(&format!("mail:mail_{n:02}"))).collect();
    assert!(before.iter().all(|pid| !after.contains(pid)), "every worker was replaced");
    receiver.wait_for(JOBS, SOON);
    wait_empty(&redis, &fleet);
    let mut ids: Vec<String> =
        receiver.requests().iter().map(|request| request.header("Job-Id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), JOBS, "no job ran twice");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), JOBS, "no job was lost");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn with_overlap_the_only_worker_goes_when_another_is_ready_and_not_before() {
    let redis = RedisServer::start();
    let seen = Gate::new();
    let receiver = Receiver::start({
        let seen = seen.clone();
        move |_| Answer::ok().behind(&seen)
    });
    let manifest = |more: &str| {
        format!(
            "redis: {{url: '{}'}}\nqueues:\n  mail:\n    overlap: true\n    startretries: 1\n    {more}\n    handler: {{http: {{url: '{}/'}}}}\n",
            redis.url(),
            receiver.url()
        )
    };
    let mut fleet = Fleet::start_and_wait(&manifest(""));
    push(&redis, "mail", (0..20).map(|n| payload(n, "")));
    receiver.wait_for(1, SOON);
    let first = fleet.pid_of("mail:mail_00");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                let list = fleet.status();
                assert!(list.iter().any(|process| process["state"] == "RUNNING"), "{list:?}");
                most = most.max(list.len());
                if most == 2 {
                    // The first one has not gone before, as it has a job in hand.
                    seen.open();
                }
            }
            most
        });
        fleet.ok(&["restart", "mail"]);
        done.store(true, Ordering::SeqCst);
        assert_eq!(sampler.join().unwrap(), 2, "a further one was there meanwhile");
    });
    let second = fleet.pid_of("mail:mail_00");
    assert_ne!(first, second);
    eventually(SOON, "the further worker to be gone", || (fleet.status().len() == 1).then_some(()));

    // One that cannot even begin takes nobody's place.
    fleet.rewrite(&manifest("cwd: '{dir}/gone'"));
    fleet.ok(&["reload"]);
    let halted = "the further worker that `overlap` wants does not become ready";
    eventually(SOON, "the rolling restart to halt", || fleet.log().contains(halted).then_some(()));
    assert_eq!((fleet.pid_of("mail:mail_00"), fleet.state("mail:mail_00").as_str()), (second, "RUNNING"));
    push(&redis, "mail", (20..22).map(|n| payload(n, "")));
    wait_empty(&redis, &fleet);
    fleet.rewrite(&manifest("umask: '027'"));
    fleet.ok(&["reload"]);
    eventually(SOON, "another worker", || {
        let worker = fleet.process("mail:mail_00");
        (worker["state"] == "RUNNING" && worker["pid"] != second).then_some(())
    });
    let mut ids: Vec<String> =
        receiver.requests().iter().map(|request| request.header("Job-Id").unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), receiver.count()), (22, 22), "each once");
    assert_eq!(fleet.stop(), 0);
}
