//! A fleet in which the library's workers and ours share a queue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use qfleet_queue::driver::{Ask, Settled, Settlement};
use serde_json::json;

use crate::rig::{DEMO, NodeRig, SOON, complete, retry};

/// Every job fails once where `id % 5` says so, and comes back to whoever is there, at once or a little later.
pub(crate) async fn a_thousand_jobs_are_completed_once_each(rig: &NodeRig, library: &str) {
    let node = rig.node(library);
    node.run(
        "await kit.queue('demo').addBulk(Array.from({length: 1000}, (_, n) => ({name: 'n', data: {n},
           opts: {attempts: 2, priority: n % 7 === 0 ? 1 + n % 3 : 0,
                  backoff: n % 10 === 0 ? {type: 'fixed', delay: 20} : undefined}})))",
    );
    node.run(
        "kit.memory.runs = []; await kit.worker('demo', async (job) => { kit.memory.runs.push(job.data.n);
           await kit.sleep(1); if (job.data.n % 5 === 0 && job.attemptsMade === 0) throw new Error('once') }, {concurrency: 5})",
    );
    let driver = rig.worker(1);
    let mut runs: BTreeMap<u64, u32> = BTreeMap::new();
    let mut settle: Vec<Settlement> = Vec::new();
    let started = Instant::now();
    loop {
        let turn = driver.turn(&settle, &[Ask { lane: DEMO, at_most: 5 }], driver.mark()).await.unwrap();
        assert!(turn.settled.iter().all(|settled| *settled == Settled::Done));
        settle.clear();
        for reserved in turn.jobs {
            let job = reserved.job.as_ref().unwrap();
            let data: serde_json::Value = serde_json::from_slice(&job.payload).unwrap();
            let n = data["n"].as_u64().unwrap();
            *runs.entry(n).or_default() += 1;
            let pause = job.limits.backoff.as_ref().map(|rule| rule.after(job.attempt)).unwrap_or_default();
            let verdict = if n.is_multiple_of(5) && job.attempt == 1 {
                retry(pause, "once")
            } else {
                complete(r#""ours""#)
            };
            settle.push(Settlement { receipt: reserved.receipt, verdict });
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        if settle.is_empty() {
            let left = node.run(
                "const {completed, failed, ...left} = await kit.queue('demo').getJobCounts();
                 return Object.values(left).reduce((sum, count) => sum + count, 0)",
            );
            if left == 0 {
                break;
            }
            assert!(started.elapsed() < SOON * 3, "{left} are left");
            driver.wait(&[DEMO], Duration::from_millis(50)).await.unwrap();
        }
    }
    let counts = node.run(
        "const {completed, failed} = await kit.queue('demo').getJobCounts(); return [completed, failed]",
    );
    assert_eq!(counts, json!([1000, 0]), "{library}");
    let theirs = node.run("return kit.memory.runs");
    let theirs = theirs.as_array().unwrap();
    assert!(!theirs.is_empty() && !runs.is_empty(), "both took part");
    for n in theirs {
        *runs.entry(n.as_u64().unwrap()).or_default() += 1;
    }
    assert_eq!(runs.len(), 1000);
    for (n, times) in runs {
        assert_eq!(times, if n % 5 == 0 { 2 } else { 1 }, "job {n}");
    }
}
