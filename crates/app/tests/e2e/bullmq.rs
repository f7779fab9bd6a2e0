//! BullMQ's queues worked by a fleet, beside the library itself: it produces, listens, inspects and pauses.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Node, Receiver, RedisServer, eventually};
use serde_json::{Value, json};

use crate::support::{Fleet, SOON, text};

const LIBRARIES: [&str; 2] = ["bullmq", "bullmq6"];

fn fleet(redis: &RedisServer, receiver: &Receiver, more: &str) -> Fleet {
    Fleet::start_and_wait(&format!(
        "connections:\n  crm: {{driver: bullmq, redis: {{url: '{}'}}}}\nqueues:\n  mail:\n    sleep: 0.2\n    handler: {{http: {{url: '{}/'}}}}\n{more}",
        redis.url(),
        receiver.url()
    ))
}

/// Asks Node until it says something.
#[track_caller]
fn soon(node: &Node, what: &str, code: &str) -> Value {
    eventually(SOON, what, || {
        let value = node.run(code);
        (!value.is_null() && value != json!(false)).then_some(value)
    })
}

/// The rows of a listing.
fn rows(fleet: &Fleet, args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&fleet.ok(args)).unwrap()
}

#[test]
fn jobs_of_the_library_are_handled_and_its_listeners_hear_of_it() {
    for library in LIBRARIES {
        let redis = RedisServer::start();
        let receiver = Receiver::start(|request| match request.header("Job-Name") {
            Some("refused") => Answer::status(422).body("no such customer"),
            Some("later") if request.header("Job-Attempt") == Some("1") => Answer::status(500),
            _ => Answer::ok().header("Content-Type", "application/json").body(r#"{"sent":1}"#),
        });
        let node = Node::start(library, &redis);
        node.run("await kit.listen('mail')");
        let mut fleet = fleet(&redis, &receiver, "");
        let ids = node.run(
            "const mail = kit.queue('mail')
             const plain = await mail.add('plain', {to: 'ann', tags: []})
             const later = await mail.add('later', {}, {attempts: 2, backoff: {type: 'fixed', delay: 300}})
             const refused = await mail.add('refused', {})
             const delayed = await mail.add('delayed', {}, {delay: 1000})
             return [plain, later, refused, delayed].map((job) => job.id)",
        );
        let requests = receiver.wait_for(5, SOON);
        let named = |name: &str| -> Vec<_> {
            requests.iter().filter(|request| request.header("Job-Name") == Some(name)).collect()
        };
        let plain = named("plain")[0];
        assert_eq!(plain.header("Job-Format"), Some("bullmq"));
        assert_eq!(plain.header("Job-Id"), ids[0].as_str());
        assert_eq!(plain.header("Job-Attempt"), Some("1"));
        assert_eq!(text(&plain.body), r#"{"to":"ann","tags":[]}"#);
        let later = named("later");
        assert_eq!(later[1].header("Job-Attempt"), Some("2"));
        assert!(later[1].at - later[0].at >= Duration::from_millis(300), "the job's own backoff holds");
        assert!(named("delayed")[0].at - plain.at >= Duration::from_millis(900), "a delayed job waits");

        let seen = soon(
            &node,
            "the library to hear of every end",
            "const seen = kit.seen('mail')
             const of = (event) => seen.filter(([name]) => name === event).map(([, fields]) => fields)
             return of('completed').length === 3 && of('failed').length === 1 &&
               {completed: of('completed'), failed: of('failed')}",
        );
        for completed in seen["completed"].as_array().unwrap() {
            assert_eq!(completed["returnvalue"], json!({"sent": 1}), "{library}: {completed}");
        }
        assert_eq!(seen["failed"][0]["jobId"], ids[2], "{library}");
        assert_eq!(seen["failed"][0]["failedReason"], "no such customer", "{library}");
        let states = node.run(
            "const mail = kit.queue('mail')
             const job = (await mail.getCompleted()).find((job) => job.name === 'plain')
             return {value: job.returnvalue, made: job.attemptsMade, counts: await mail.getJobCounts()}",
        );
        assert_eq!(states["value"], json!({"sent": 1}));
        assert_eq!(states["made"], 1);
        assert_eq!((&states["counts"]["completed"], &states["counts"]["failed"]), (&json!(3), &json!(1)));
        assert_eq!(fleet.stop(), 0);
    }
}

#[test]
fn urgent_jobs_go_first() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let node = Node::start("bullmq", &redis);
    node.run(
        "const mail = kit.queue('mail')
         for (const priority of [3, 1, 2]) await mail.add(`p${priority}`, {}, {priority})
         await mail.add('first', {})",
    );
    let mut fleet = fleet(&redis, &receiver, "");
    let requests = receiver.wait_for(4, SOON);
    let names: Vec<_> = requests.iter().filter_map(|request| request.header("Job-Name")).collect();
    assert_eq!(names, ["first", "p1", "p2", "p3"]);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn jobs_of_a_killed_worker_are_back_within_a_second() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|request| match request.header("Job-Previous-Status") {
        None => Answer::never(),
        Some(_) => Answer::ok(),
    });
    let node = Node::start("bullmq", &redis);
    let mut fleet = fleet(&redis, &receiver, "    concurrency: 10\n");
    node.run(
        "await kit.queue('mail').addBulk(Array.from({length: 10}, (_, n) => ({name: `n${n}`, data: {n}})))",
    );
    receiver.wait_for(10, SOON);

    let killed = Instant::now();
    kill(Pid::from_raw(fleet.pid_of("mail:mail_00")), Signal::SIGKILL).unwrap();
    let all = receiver.wait_for(20, SOON);
    let first_again = all[10..].iter().map(|request| request.at).min().unwrap() - killed;
    assert!(first_again < Duration::from_secs(1), "handled again after {first_again:?}");
    let mut again: Vec<&str> = all[10..].iter().filter_map(|request| request.header("Job-Id")).collect();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), 10, "every job comes again, once");
    assert!(all[10..].iter().all(|request| request.header("Job-Previous-Status") == Some("crash")));
    soon(&node, "all to be completed", "return await kit.queue('mail').getCompletedCount() === 10");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_job_that_kills_its_worker_too_often_is_failed() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::never());
    let node = Node::start("bullmq", &redis);
    let mut fleet = fleet(&redis, &receiver, "    max-stalled: 0\n");
    node.run("await kit.queue('mail').add('poison', {}, {attempts: 5})");
    receiver.wait_for(1, SOON);
    kill(Pid::from_raw(fleet.pid_of("mail:mail_00")), Signal::SIGKILL).unwrap();
    let reason = soon(
        &node,
        "the job to be failed",
        "const [job] = await kit.queue('mail').getFailed(); return job && job.failedReason",
    );
    assert!(reason.as_str().unwrap().contains("stalled"), "{reason}");
    assert_eq!(receiver.count(), 1, "it was not delivered again");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_pause_by_the_library_is_honoured_and_ours_is_seen_by_it() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let node = Node::start("bullmq", &redis);
    let mut fleet = fleet(&redis, &receiver, "");
    let paused = |paused: bool| {
        eventually(SOON, "the listing to follow", || {
            (rows(&fleet, &["queues", "--json"])[0]["paused"] == paused).then_some(())
        });
    };
    node.run("await kit.queue('mail').pause(); await kit.queue('mail').add('held', {})");
    paused(true);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(receiver.count(), 0, "nothing is taken while the library has it paused");
    node.run("await kit.queue('mail').resume()");
    receiver.wait_for(1, SOON);

    fleet.ok(&["pause", "mail"]);
    assert_eq!(node.run("return await kit.queue('mail').isPaused()"), true);
    paused(true);
    fleet.ok(&["push", "mail", "ours", "{}"]);
    assert_eq!(rows(&fleet, &["jobs", "mail", "waiting", "--json"]).len(), 1);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(receiver.count(), 1, "nothing is taken while we have it paused");
    fleet.ok(&["resume", "mail"]);
    assert_eq!(node.run("return await kit.queue('mail').isPaused()"), false);
    receiver.wait_for(2, SOON);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn pushed_and_failed_jobs_are_the_library_s_own() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|request| match request.header("Job-Attempt") {
        Some("1") if text(&request.body).contains("bad") => Answer::status(422),
        _ => Answer::ok(),
    });
    let node = Node::start("bullmq", &redis);
    let mut fleet = fleet(&redis, &receiver, "");
    fleet.ok(&["push", "mail", "welcome", r#"{"bad":9007199254740993}"#]);
    let listed =
        eventually(SOON, "the failed job to be listed", || rows(&fleet, &["failed", "list", "--json"]).pop());
    assert_eq!((&listed["queue"], &listed["name"]), (&json!("mail"), &json!("welcome")));
    assert_eq!(
        node.run("return (await kit.queue('mail').getFailed()).map((job) => job.name)"),
        json!(["welcome"])
    );
    let keys: Vec<String> = redis::cmd("KEYS").arg("*qfleet:failed*").query(&mut redis.connection()).unwrap();
    assert_eq!(keys, Vec::<String>::new(), "no second record of it");

    let id = listed["id"].as_str().unwrap();
    let shown = fleet.ok(&["failed", "show", id]);
    assert!(shown.contains("9007199254740993") && shown.contains("422"), "{shown}");
    fleet.ok(&["failed", "retry", id]);
    eventually(SOON, "the retried job to fail again", || {
        (receiver.count() == 2 && rows(&fleet, &["failed", "list", "--json"]).len() == 1).then_some(())
    });

    // Whatever else is under the prefix belongs to others.
    node.run("await kit.queue('theirs').add('x', {}, {attempts: 1})");
    node.run(
        "const worker = await kit.worker('theirs', async () => { throw new Error('no') })
         while (await kit.queue('theirs').getFailedCount() === 0) await kit.sleep(10)
         await worker.close()",
    );
    fleet.ok(&["failed", "flush"]);
    assert_eq!(rows(&fleet, &["failed", "list", "--json"]).len(), 0);
    assert_eq!(node.run("return await kit.queue('theirs').getFailedCount()"), 1);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_rate_limit_holds_over_processes_and_finished_jobs_are_kept_as_told() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let node = Node::start("bullmq", &redis);
    let more = "    numprocs: 2\n    concurrency: 10\n    rate-limit: {max: 5, per: 1500ms}\n    keep-completed: 3\n";
    let mut fleet = fleet(&redis, &receiver, more);
    node.run(
        "await kit.queue('mail').addBulk(Array.from({length: 15}, (_, n) => ({name: `n${n}`, data: {n}})))",
    );
    let mut starts: Vec<Instant> = receiver.wait_for(15, SOON).iter().map(|request| request.at).collect();
    starts.sort_unstable();
    // A window ends by Redis' clock and a start is seen by the receiver's, so the edge is not exact.
    for window in starts.windows(6) {
        let took = window[5] - window[0];
        assert!(took > Duration::from_millis(1300), "six starts in {took:?}");
    }
    assert!(starts[14] - starts[0] < Duration::from_millis(4500), "no window is left out");
    soon(&node, "three to be kept", "return await kit.queue('mail').getCompletedCount() === 3");
    assert_eq!(fleet.stop(), 0);
}
