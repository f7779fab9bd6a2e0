//! Who ran which job how often, and what the library makes of it: the judge of fleets in which Node and we work one queue.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use qfleet_testkit::{Answer, Node, Received};
use serde::Deserialize;

use crate::stage::{Stage, attempt};

/// Long enough for thousands of jobs on a machine that has much else to do.
const WORKED_WITHIN: Duration = Duration::from_secs(240);

/// Answers a job as its data says: `fails` attempts fail, the one after them completes.
pub(crate) fn answer(request: &Received) -> Answer {
    let fails = fails(request);
    let answer = if attempt(request) <= fails { Answer::status(500) } else { Answer::status(204) };
    answer.after(Duration::from_millis(2))
}

fn fails(request: &Received) -> u32 {
    let data: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    u32::try_from(data["fails"].as_u64().unwrap()).unwrap()
}

/// Starts a worker of the library that does with jobs the same, completes them with `node`, and notes each run.
pub(crate) fn work(node: &Node, queue: &str, options: &str) {
    node.run(&format!(
        "kit.memory.runs = []
         kit.memory.worker = await kit.worker('{queue}', async (job) => {{
           const failed = job.attemptsMade
           kit.memory.runs.push([job.id, failed < job.data.fails])
           if (failed < job.data.fails) throw new Error('not yet')
           return 'node'
         }}, {options})"
    ));
}

/// Runs of a job.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) failed: u32,
    pub(crate) completed: u32,
}

/// Runs of every job.
pub(crate) type Ledger = BTreeMap<String, Runs>;

/// What our handlers did.
pub(crate) fn ours(stage: &Stage, queue: &str) -> Ledger {
    let mut ledger = Ledger::new();
    for request in stage.got(queue) {
        let runs = ledger.entry(request.header("Job-Id").unwrap().to_owned()).or_default();
        if attempt(&request) <= fails(&request) { runs.failed += 1 } else { runs.completed += 1 }
    }
    ledger
}

/// What a worker of the library did.
pub(crate) fn theirs(node: &Node) -> Ledger {
    let list: Vec<(String, bool)> = serde_json::from_value(node.run("return kit.memory.runs")).unwrap();
    let mut ledger = Ledger::new();
    for (id, failed) in list {
        let runs = ledger.entry(id).or_default();
        if failed { runs.failed += 1 } else { runs.completed += 1 }
    }
    ledger
}

/// Both together.
pub(crate) fn together(ours: &Ledger, theirs: &Ledger) -> Ledger {
    let mut sum = ours.clone();
    for (id, runs) in theirs {
        let of_both = sum.entry(id.clone()).or_default();
        of_both.failed += runs.failed;
        of_both.completed += runs.completed;
    }
    sum
}

/// How many runs completed a job.
pub(crate) fn completions(ledger: &Ledger) -> u32 {
    ledger.values().map(|runs| runs.completed).sum()
}

/// What the library's listener heard of a queue.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Heard {
    /// How often each job was completed.
    pub(crate) completed: BTreeMap<String, u32>,
    pub(crate) failed: u32,
    pub(crate) stalled: u32,
}

/// Waits until the library counts so many jobs as completed and nothing else, and its listener has heard of as many; each
/// must have been completed once.
#[track_caller]
pub(crate) fn completed_once(stage: &Stage, queue: &str, jobs: usize) -> Heard {
    let counts = format!(
        "const counts = await kit.queue('{queue}').getJobCounts()
         return {{completed: counts.completed, others: Object.entries(counts)
           .filter(([state, count]) => state !== 'completed' && count > 0)}}"
    );
    let heard = format!(
        "const heard = {{completed: {{}}, failed: 0, stalled: 0}}
         for (const [event, {{jobId}}] of kit.seen('{queue}')) {{
           if (event === 'completed') heard.completed[jobId] = (heard.completed[jobId] ?? 0) + 1
           else if (event in heard) heard[event]++
         }}
         return heard"
    );
    let end = Instant::now() + WORKED_WITHIN;
    loop {
        let now = stage.run(&counts);
        let others = now["others"].as_array().unwrap().len();
        if now["completed"] == jobs && others == 0 {
            let heard: Heard = serde_json::from_value(stage.run(&heard)).unwrap();
            if heard.completed.len() == jobs {
                let twice: Vec<_> = heard.completed.iter().filter(|(_, times)| **times != 1).collect();
                assert!(twice.is_empty(), "completed more than once: {twice:?}");
                return heard;
            }
        }
        assert!(Instant::now() < end, "not all of {jobs} jobs completed: {now}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
