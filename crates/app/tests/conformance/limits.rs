//! Limits of starts and of jobs at once, ours and the library's own, to the exact number.

use std::collections::BTreeMap;

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage};

conforms!(every: of_the_manifest, shared_with_the_librarys_worker);
conforms!(bullmq: of_the_queue, concurrency_of_the_queue);

/// Starts of all jobs of a queue, oldest first, as the workers noted them (ms).
fn starts(stage: &Stage, queue: &str) -> Vec<i64> {
    let starts = stage.run(&format!(
        "return (await kit.queue('{queue}').getCompleted()).map((job) => job.processedOn).sort((a, b) => a - b)"
    ));
    serde_json::from_value(starts).unwrap()
}

/// No window of `per` ms, each of which begins with its first start, has more than `max` of them.
#[track_caller]
fn at_most(starts: &[i64], max: usize, per: i64) {
    let (mut begin, mut count) = (starts[0], 0);
    for start in starts {
        // A window ends by Redis' clock, and starts are noted by the workers'.
        if start - begin >= per - 20 {
            (begin, count) = (*start, 0);
        }
        count += 1;
        assert!(count <= max, "more than {max} within {per} ms: {starts:?}");
    }
}

/// There were exactly `max` starts in each window of `per` ms but the last.
#[track_caller]
fn windows(starts: &[i64], max: usize, per: i64) {
    at_most(starts, max, per);
    for window in starts.chunks(max) {
        assert!(window[window.len() - 1] - window[0] < per, "a window was not used up: {starts:?}");
    }
    let windows = i64::try_from(starts.len().div_ceil(max)).unwrap();
    let took = starts[starts.len() - 1] - starts[0];
    assert!(took < windows * per, "{took} ms for {windows} windows: {starts:?}");
}

const FIFTEEN: &str =
    "await kit.queue('few').addBulk(Array.from({length: 15}, (_, n) => ({name: `n${n}`, data: {n}})))";

fn of_the_manifest(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    let mut fleet = stage.fleet(&[("few", "numprocs: 2, concurrency: 10, rate-limit: {max: 5, per: 1}")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    windows(&starts(&stage, "few"), 5, 1000);
    assert_eq!(stage.got("few").len(), 15);
    assert_eq!(fleet.stop(), 0);
}

fn shared_with_the_librarys_worker(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    stage.run(
        "kit.memory.theirs = 0
         await kit.worker('few', async () => { kit.memory.theirs++; await kit.sleep(20) },
           {concurrency: 2, limiter: {max: 5, duration: 1000}})",
    );
    let mut fleet = stage.fleet(&[("few", "concurrency: 2, rate-limit: {max: 5, per: 1}")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    if library.is_bull() {
        // Its worker puts what it may not start into `delayed`, one well after the other, and leaves windows half empty.
        at_most(&starts(&stage, "few"), 5, 1000);
    } else {
        windows(&starts(&stage, "few"), 5, 1000);
    }
    let theirs = stage.run("return kit.memory.theirs").as_u64().unwrap() as usize;
    assert_eq!(theirs + stage.got("few").len(), 15, "each by one of them");
    assert_eq!(fleet.stop(), 0);
}

fn of_the_queue(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    stage.run("await kit.queue('few').setGlobalRateLimit(5, 1000)");
    let settings = "numprocs: 2, concurrency: 10, rate-limit: {max: 1000, per: 1}";
    let mut fleet = stage.fleet(&[("few", settings), ("unlimited", "")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    windows(&starts(&stage, "few"), 5, 1000);
    // It can be lifted while the fleet runs.
    stage.run("await kit.queue('few').removeGlobalRateLimit()");
    stage.run(FIFTEEN);
    stage.ended("few", 30, 0);
    assert_eq!(fleet.stop(), 0);
}

fn concurrency_of_the_queue(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204).after(std::time::Duration::from_millis(30)));
    stage.run("await kit.queue('few').setGlobalConcurrency(3)");
    let mut fleet = stage.fleet(&[("few", "numprocs: 2, concurrency: 10, sleep: 0.2")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    assert_eq!(stage.receiver.most_in_hand(), 3);
    let mut by_id = BTreeMap::<String, u32>::new();
    for request in stage.got("few") {
        *by_id.entry(request.header("Job-Id").unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(by_id.len(), 15);
    stage.run("await kit.queue('few').removeGlobalConcurrency()");
    stage.run(FIFTEEN);
    stage.ended("few", 30, 0);
    assert_eq!(stage.run("return await kit.queue('few').getActiveCount()"), json!(0));
    assert_eq!(fleet.stop(), 0);
}
