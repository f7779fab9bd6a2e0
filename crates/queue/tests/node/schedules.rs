//! Schedules, however the library calls them; `schedule` makes one on the queue `demo`.

use std::time::{Duration, Instant};

use crate::contract::{job_of, settle, take, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, complete, retry};

/// Every 150 ms.
pub(crate) async fn a_schedule_goes_on_between_us_and_node(library: &str, schedule: &str) {
    let rig = NodeRig::of(library);
    let node = rig.node(library);
    node.run(schedule);
    node.run(
        "kit.memory.runs = []; await kit.worker('demo', async (job) => { kit.memory.runs.push(job.id) })",
    );
    let driver = rig.worker(1);
    let (mut ours, started) = (Vec::new(), Instant::now());
    while ours.len() < 4 {
        assert!(started.elapsed() < SOON * 2, "our worker got {ours:?} only");
        driver.wait(&[DEMO], Duration::from_millis(20)).await.unwrap();
        for job in &take(&*driver, DEMO, 1).await.jobs {
            ours.push(job_of(job).id.clone());
            settle(&*driver, job, complete("1")).await;
        }
    }
    let theirs: Vec<String> = serde_json::from_value(node.run("return kit.memory.runs")).unwrap();
    let mut all: Vec<&String> = ours.iter().chain(&theirs).collect();
    let runs = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), runs, "no iteration runs twice");
    let dates: Vec<i64> = all.iter().map(|id| id.rsplit(':').next().unwrap().parse().unwrap()).collect();
    assert!(dates.windows(2).all(|pair| pair[1] - pair[0] >= 150), "{dates:?}");
}

/// Every 100 ms, twice, with two attempts.
pub(crate) async fn a_retried_iteration_makes_no_second_one_and_a_limit_ends_it(
    library: &str,
    schedule: &str,
) {
    let rig = NodeRig::of(library);
    let node = rig.node(library);
    node.run(schedule);
    let driver = rig.worker(1);
    let first = take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &first, retry(Duration::ZERO, "once")).await;
    let mut runs = Vec::new();
    let (started, mut both) = (Instant::now(), None);
    // And a while longer than a third would take.
    while both.is_none_or(|both: Instant| both.elapsed() < Duration::from_millis(500)) {
        assert!(started.elapsed() < SOON, "{runs:?} only");
        for job in &take(&*driver, DEMO, 5).await.jobs {
            runs.push(job_of(job).id.clone());
            settle(&*driver, job, complete("1")).await;
        }
        if runs.len() >= 2 {
            both.get_or_insert_with(Instant::now);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    runs.sort();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_eq!(runs[0], job_of(&first).id);
    let depth = driver.depth(&[DEMO]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0));
}
