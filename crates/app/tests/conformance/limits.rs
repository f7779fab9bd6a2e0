//! Limits of starts and of jobs at once, ours and the library's own, to the exact number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qfleet_testkit::{Answer, Gate};
use serde_json::json;

use crate::stage::{Library, Stage};

conforms!(every: of_the_manifest, shared_with_the_librarys_worker);
conforms!(bullmq: of_the_queue, concurrency_of_the_queue);

/// A window, and how many starts it has.
const PER: i64 = 2000;
const MAX: usize = 5;

/// Starts of all jobs of a queue, oldest first (ms), and by how much the time between two of them may be longer than noted.
fn starts(stage: &Stage, queue: &str) -> (Vec<i64>, i64) {
    // By Redis' clock, which windows end by.
    let told = "const told = await kit.redis().xrange('bull:QUEUE:events', '-', '+')
         return told.filter(([, fields]) => fields[fields.indexOf('event') + 1] === 'active').map(([id]) => Number(id.split('-')[0]))";
    // By the workers' clocks, some while before Redis hears of it: as long as a busy machine takes for that.
    let noted = "return (await kit.queue('QUEUE').getCompleted()).map((job) => job.processedOn).sort((a, b) => a - b)";
    let (code, late) = if stage.library.is_bull() { (noted, PER / 4) } else { (told, 2) };
    (serde_json::from_value(stage.run(&code.replace("QUEUE", queue))).unwrap(), late)
}

/// No window, each of which begins with its first start, has more of them than it may have.
#[track_caller]
fn at_most(stage: &Stage) {
    let (starts, late) = starts(stage, "few");
    let (mut begin, mut count) = (starts[0], 0);
    for start in &starts {
        if start - begin >= PER - late {
            (begin, count) = (*start, 0);
        }
        count += 1;
        assert!(count <= MAX, "more than {MAX} within {PER} ms: {starts:?}");
    }
}

/// There were exactly so many starts in each window but the last.
#[track_caller]
fn windows(stage: &Stage) {
    at_most(stage);
    let (starts, _) = starts(stage, "few");
    assert_eq!(starts.len(), 15);
    for window in starts.chunks(MAX) {
        assert!(window[window.len() - 1] - window[0] < PER, "a window was not used up: {starts:?}");
    }
    let windows = i64::try_from(starts.len().div_ceil(MAX)).unwrap();
    let took = starts[starts.len() - 1] - starts[0];
    assert!(took < windows * PER, "{took} ms for {windows} windows: {starts:?}");
}

const FIFTEEN: &str =
    "await kit.queue('few').addBulk(Array.from({length: 15}, (_, n) => ({name: `n${n}`, data: {n}})))";

fn of_the_manifest(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    let mut fleet = stage.fleet(&[("few", "numprocs: 2, concurrency: 10, rate-limit: {max: 5, per: 2}")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    windows(&stage);
    assert_eq!(stage.got("few").len(), 15);
    assert_eq!(fleet.stop(), 0);
}

fn shared_with_the_librarys_worker(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    stage.run(
        "kit.memory.theirs = 0
         await kit.worker('few', async () => { kit.memory.theirs++; await kit.sleep(20) },
           {concurrency: 2, limiter: {max: 5, duration: 2000}})",
    );
    let mut fleet = stage.fleet(&[("few", "concurrency: 2, rate-limit: {max: 5, per: 2}")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    if library.is_bull() {
        // Its worker puts what it may not start into `delayed`, one well after the other, and leaves windows half empty.
        at_most(&stage);
    } else {
        windows(&stage);
    }
    let theirs = stage.run("return kit.memory.theirs").as_u64().unwrap() as usize;
    assert_eq!(theirs + stage.got("few").len(), 15, "each by one of them");
    assert_eq!(fleet.stop(), 0);
}

fn of_the_queue(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    stage.run("await kit.queue('few').setGlobalRateLimit(5, 2000)");
    let settings = "numprocs: 2, concurrency: 10, rate-limit: {max: 1000, per: 2}";
    let mut fleet = stage.fleet(&[("few", settings), ("unlimited", "")]);
    stage.run(FIFTEEN);
    stage.ended("few", 15, 0);
    windows(&stage);
    // It can be lifted while the fleet runs.
    stage.run("await kit.queue('few').removeGlobalRateLimit()");
    stage.run(FIFTEEN);
    stage.ended("few", 30, 0);
    assert_eq!(fleet.stop(), 0);
}

fn concurrency_of_the_queue(library: Library) {
    let (three, count) = (Gate::new(), AtomicUsize::new(0));
    let stage = Stage::new(library, move |_| {
        // Nobody is done before three are at work.
        if count.fetch_add(1, Ordering::SeqCst) == 2 {
            three.open();
        }
        Answer::status(204).after(Duration::from_millis(30)).behind(&three)
    });
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
