//! What `qfleet failed`, `jobs`, `queues`, `push`, `pause` and `resume` ask of Bull's queues.

use std::collections::BTreeMap;
use std::time::Duration;

use qfleet_model::outcome::Output;
use qfleet_queue::driver::{JobState, Remark};
use redis::Commands as _;
use serde_json::{Value, json};

use crate::contract::{job_of, names, settle, take, take_one};
use crate::rig::{DEMO, NodeRig, bury, complete, soon};

#[tokio::test]
async fn failed_jobs_are_listed_retried_and_removed() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("for (const n of [1, 2, 3, 4]) await kit.queue('demo').add('n' + n, {n}, {attempts: 1, priority: 5 - n})");
    // Of the other library, under the same prefix.
    let other = rig.node("bullmq");
    other.run("await kit.queue('news').add('theirs'); await (await kit.queue('news').getJob('1')).moveToFailed?.(new Error('no'), '0').catch(() => {})");
    let _: () = rig.redis().zadd("bull:news:failed", "1", 5).unwrap();
    let driver = rig.worker(1);
    for job in &take(&*driver, DEMO, 9).await.jobs {
        settle(&*driver, job, bury(&format!("bad {}", job_of(job).name))).await;
        std::thread::sleep(Duration::from_millis(2));
    }
    let store = qfleet_queue::open_failed(&rig.connection()).unwrap();
    let listed = store.list(None, 0, 10).await.unwrap();
    let shown: Vec<_> =
        listed.iter().map(|job| (job.id.as_str(), job.name.as_str(), job.reason.as_str())).collect();
    assert_eq!(shown[0], ("demo/1", "n1", "bad n1"));
    assert_eq!(shown.len(), 4);
    assert_eq!(store.list(Some("demo"), 1, 2).await.unwrap(), listed[1..3]);
    let one = store.show("demo/2").await.unwrap().unwrap();
    assert_eq!((one.payload.as_slice(), one.reason.as_str()), (&br#"{"n":2}"#[..], "bad n2"));
    assert_eq!(one, listed[1]);
    assert_eq!(store.show("demo/9").await.unwrap(), None);
    assert_eq!(store.show("nonsense").await.unwrap(), None);

    node.run("await kit.listen('demo')");
    assert!(store.retry("demo/2").await.unwrap() && !store.retry("demo/2").await.unwrap());
    soon(
        &node,
        "the message",
        "return kit.seen('demo').some(([event, {jobId}]) => event === 'waiting' && jobId === '2')",
    );
    let again = take_one(&*driver, DEMO).await;
    assert_eq!((job_of(&again).name.as_str(), job_of(&again).attempt), ("n2", 1));
    settle(&*driver, &again, complete("1")).await;
    let seen = node.run("const job = await kit.queue('demo').getJob('2'); return [await job.getState(), job.failedReason ?? null, job.attemptsMade, job.retriedOn > 0]");
    assert_eq!(seen, json!(["completed", null, 0, true]));

    assert!(store.forget("demo/1").await.unwrap() && !store.forget("demo/1").await.unwrap());
    assert_eq!(store.flush(Some("demo"), None).await.unwrap(), 2);
    assert_eq!(
        node.run(
            "const {failed, completed} = await kit.queue('demo').getJobCounts(); return {failed, completed}"
        ),
        json!({"failed": 0, "completed": 1})
    );
    assert_eq!(driver.depth(&[DEMO]).await.unwrap()[0].failed, 0);
    assert_eq!(rig.redis_keys("bull:demo:[134]*"), Vec::<String>::new());
}

/// The library leaves its counter of attempts alone; a job that had them all runs once more, there and here.
#[tokio::test]
async fn their_api_retries_what_we_failed() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.queue('demo').add('a', {}, {attempts: 1})");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    settle(&*driver, &job, bury("bad")).await;
    node.run("await (await kit.queue('demo').getJob('1')).retry()");
    let again = take_one(&*driver, DEMO).await;
    assert_eq!((job_of(&again).attempt, job_of(&again).limits.tries), (2, Some(1)));
}

/// With the options as values, since the order of their keys is arbitrary.
fn parsed(mut dump: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    for hash in dump.values_mut() {
        if let Some(opts) = hash.get_mut("opts") {
            // Dates are cut off.
            *opts = serde_json::from_str(&opts.as_str().unwrap().replace(":T", r#":"T""#)).unwrap();
        }
    }
    dump
}

#[tokio::test]
async fn pushed_jobs_are_the_librarys_own() {
    let mut hashes = Vec::new();
    for ours in [true, false] {
        let rig = NodeRig::bull();
        let node = rig.node("bull");
        let options = [
            json!({}),
            json!({"priority": 2}),
            json!({"priority": 1, "attempts": 3}),
            json!({"lifo": true}),
            json!({"jobId": "mine"}),
            json!({"jobId": "mine"}),
            json!({"delay": 3_600_000}),
        ];
        let driver = rig.worker(0);
        node.run("await kit.listen('demo')");
        for (n, opts) in options.iter().enumerate() {
            if ours {
                let payload = json!({"name": "job", "data": {"n": n}, "opts": opts});
                let added = driver.push(DEMO, "demo", payload.to_string().as_bytes(), None).await;
                assert_eq!(added.is_err(), n == 5, "{added:?}");
            } else {
                node.run(&format!("await kit.queue('demo').add('job', {{n: {n}}}, {opts})"));
            }
        }
        let told = soon(
            &node,
            "six messages",
            "return kit.memory['told demo'].length === 7 && kit.memory['told demo'].map(([channel]) => channel)",
        );
        let order: Vec<String> = rig.redis().lrange("bull:demo:wait", 0, -1).unwrap();
        hashes.push((parsed(crate::rig::dump(&mut rig.redis())), told, order));
    }
    assert_eq!(hashes[0], hashes[1], "ours (left), theirs (right)");
}

#[tokio::test]
async fn sizes_and_listings_are_right() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "const q = kit.queue('demo');
         await q.add('old', {n: 1}, {timestamp: 1700000000000});
         await q.add('new', {n: 2}); await q.add('urgent', {n: 3}, {priority: 1});
         await q.add('later', {n: 4}, {delay: 3600000})",
    );
    let driver = rig.worker(1);
    let shown = |state| {
        let driver = driver.clone();
        async move {
            let jobs = driver.look(DEMO, state, 0, 9).await.unwrap();
            jobs.into_iter().map(|job| (job.name, job.payload, job.attempts)).collect::<Vec<_>>()
        }
    };
    let row = |name: &str, payload: &str, attempts| (name.to_owned(), payload.to_owned(), attempts);
    let waiting = [row("urgent", r#"{"n":3}"#, 0), row("old", r#"{"n":1}"#, 0), row("new", r#"{"n":2}"#, 0)];
    assert_eq!(shown(JobState::Waiting).await, waiting);
    assert_eq!(shown(JobState::Delayed).await, [row("later", r#"{"n":4}"#, 0)]);
    let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved, depth.paused), (3, 1, 0, false));
    assert_eq!(depth.oldest.map(qfleet_model::time::WallTime::as_millis), Some(1_700_000_000_000));

    take_one(&*driver, DEMO).await;
    assert_eq!(shown(JobState::Reserved).await, [row("urgent", r#"{"n":3}"#, 1)]);
    node.run("await kit.queue('demo').pause()");
    assert_eq!(shown(JobState::Waiting).await, waiting[1..]);
    let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.reserved, depth.paused), (2, 1, true));
}

#[tokio::test]
async fn our_pause_is_the_librarys() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    let driver = rig.worker(1);
    node.run("await kit.listen('demo'); await kit.queue('demo').add('a'); await kit.queue('demo').add('b')");
    assert_eq!(driver.set_paused(DEMO, true).await.unwrap(), Vec::<String>::new());
    driver.set_paused(DEMO, true).await.unwrap();
    assert_eq!(node.run("return await kit.queue('demo').isPaused()"), json!(true));
    assert_eq!(rig.redis().hgetall::<_, Vec<String>>("bull:demo:meta").unwrap(), ["paused", "1"]);
    node.run("await kit.queue('demo').add('c'); kit.memory.ran = []; await kit.worker('demo', async (job) => { kit.memory.ran.push(job.name) })");
    assert!(take(&*driver, DEMO, 9).await.jobs.is_empty());
    driver.set_paused(DEMO, false).await.unwrap();
    let ran = soon(&node, "the library's worker", "return kit.memory.ran.length === 3 && kit.memory.ran");
    assert_eq!(ran, json!(["a", "b", "c"]));
    assert!(rig.redis_keys("bull:demo:meta*").is_empty());
    let said = node.run("return kit.seen('demo').map(([event]) => event).filter((event) => event === 'paused' || event === 'resumed')");
    assert_eq!(said, json!(["paused", "resumed"]));
}

#[tokio::test]
async fn our_resume_writes_over_nothing() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    let driver = rig.worker(1);
    node.run("for (const name of ['old 1', 'old 2', 'new']) await kit.queue('demo').add(name); await kit.queue('demo').pause()");
    // Older releases retry jobs there.
    redis::cmd("LMOVE")
        .arg(&["bull:demo:paused", "bull:demo:wait", "LEFT", "LEFT"])
        .exec(&mut rig.redis())
        .unwrap();
    driver.set_paused(DEMO, false).await.unwrap();
    assert_eq!(names(&take(&*driver, DEMO, 9).await.jobs), ["old 1", "old 2", "new"]);
}

#[tokio::test]
async fn progress_and_log_lines_are_the_librarys() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.listen('demo'); await kit.queue('demo').add('a')");
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    let receipt = job.receipt.clone();
    let remarks = [
        (receipt.clone(), Remark::Progress(Output::Json(br#"{"done":3}"#.to_vec()))),
        (receipt.clone(), Remark::Log("one".into())),
        (receipt, Remark::Log("two".into())),
    ];
    driver.remark(&remarks).await.unwrap();
    let heard = soon(
        &node,
        "the progress",
        "return kit.seen('demo').find(([event]) => event === 'progress') ?? null",
    );
    assert_eq!(heard, json!(["progress", {"jobId": "1", "data": {"done": 3}}]));
    let kept = node.run("return [(await kit.queue('demo').getJob('1')).progress(), (await kit.queue('demo').getJobLogs('1')).logs]");
    assert_eq!(kept, json!([{"done": 3}, ["one", "two"]]));
    settle(&*driver, &job, complete("1")).await;
    let _: () = rig.redis().del("bull:demo:1").unwrap();
    driver.remark(&remarks).await.unwrap();
    assert!(rig.hash("1").is_empty(), "a job that is gone is not made anew");
}

#[tokio::test]
async fn queues_of_the_other_library_are_left_alone() {
    let rig = NodeRig::bull();
    let node = rig.node("bullmq");
    node.run("await kit.queue('demo').add('theirs')");
    let before = crate::rig::dump(&mut rig.redis());
    let driver = rig.worker(1);
    let payload = json!({"name": "ours", "data": Value::Null});
    driver.push(DEMO, "demo", payload.to_string().as_bytes(), None).await.unwrap_err();
    driver.set_paused(DEMO, true).await.unwrap_err();
    assert!(driver.look(DEMO, JobState::Waiting, 0, 9).await.unwrap().is_empty());
    assert_eq!(crate::rig::dump(&mut rig.redis()), before);
}
