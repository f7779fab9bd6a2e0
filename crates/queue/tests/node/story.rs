//! A story told twice, by the library's own worker and by ours: what both leave in Redis is the same, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use qfleet_manifest::queue::NodeRules;
use qfleet_model::job::Job;
use qfleet_model::outcome::Verdict;
use qfleet_testkit::{Node, eventually};
use serde_json::{Value, json};

use crate::rig::{NodeRig, SOON, Settings, dump, soon, work};

/// A story told twice.
#[derive(Clone, Copy)]
pub(crate) struct Story<'a> {
    /// Adds the jobs; `queue` is the queue.
    pub(crate) add: &'a str,
    /// The body of the library's processor, given `job`; `fail(text)` throws an error without a stack.
    pub(crate) process: &'a str,
    /// Its worker's options.
    pub(crate) options: &'a str,
    /// Verdicts until nothing is left to do.
    pub(crate) verdicts: usize,
    /// Jobs that end besides, without being run.
    pub(crate) unrun: usize,
    /// What producers do while a job called `holder` runs; `queue` is the queue.
    pub(crate) meanwhile: &'a str,
}

/// One in which nothing happens.
pub(crate) const STORY: Story<'static> =
    Story { add: "", process: "", options: "{}", verdicts: 0, unrun: 0, meanwhile: "" };

/// A story told beside every library of the family.
pub(crate) async fn same(story: Story<'_>, settings: impl Into<Settings>, verdict: impl Fn(&Job) -> Verdict) {
    let settings = settings.into();
    for library in crate::LIBRARIES {
        story.is_the_same(library, &settings, &verdict).await;
    }
}

/// A worker that was told nothing.
pub(crate) fn plain() -> NodeRules {
    NodeRules::default()
}

impl Story<'_> {
    /// Both workers go through it; returns when all their keys are the same.
    async fn is_the_same(self, library: &str, settings: &Settings, verdict: impl Fn(&Job) -> Verdict) {
        let (theirs, ours) = (NodeRig::of(library), NodeRig::of(library));
        let Story { process, options, verdicts, unrun, meanwhile, .. } = self;
        let node = self.begin(&theirs, library);
        node.run(&format!(
            "const fail = (text, Kind) => {{ throw kit.error(text, Kind) }};
             const queue = kit.queue('demo');
             kit.memory.ended = 0;
             const worker = await kit.worker('demo', async (job) => {{ if (job.name === 'holder') {{ {meanwhile} }} {process} }}, {options});
             worker.on('completed', () => kit.memory.ended++); worker.on('failed', () => kit.memory.ended++)"
        ));
        soon(&node, "the library's worker", &format!("return kit.memory.ended >= {}", verdicts + unrun));
        let (their_node, their_window) = (node, window(&theirs));

        let node = self.begin(&ours, library);
        let decide = |job: &Job| {
            if job.name == "holder" {
                node.run(&format!("const queue = kit.queue('demo'); {meanwhile}"));
            }
            verdict(job)
        };
        work(&*ours.worker_with(7, settings), verdicts, decide).await;
        let our_window = window(&ours);
        // The last call of their worker looks for one more job, and may have something to say of that.
        let deadline = Instant::now() + SOON / 2;
        let [(told_theirs, theirs), (told_ours, ours)] = eventually(SOON, "both to have said all", || {
            let left = |node, rig: &NodeRig| (told(node), without_ours(dump(&mut rig.redis())));
            let both = [left(&their_node, &theirs), left(&node, &ours)];
            (both[0] == both[1] || Instant::now() > deadline).then_some(both)
        });
        assert_eq!(told_ours, told_theirs, "messages beside {library}: ours (left), theirs (right)");
        assert_eq!(our_window, their_window, "windows beside {library}: ours (left), theirs (right)");
        let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).cloned().collect();
        for key in keys {
            assert_eq!(
                ours.get(&key),
                theirs.get(&key),
                "`{key}` beside {library}: ours (left), theirs (right)"
            );
        }
    }

    fn begin(&self, rig: &NodeRig, library: &str) -> Node {
        let node = rig.node(library);
        node.run("await kit.listen('demo')");
        node.run(&format!("const queue = kit.queue('demo'); await queue.getJobCounts(); {}", self.add));
        node
    }
}

/// What was told beside the keys; dates that somebody waits for are told by whoever sees them.
fn told(node: &Node) -> Vec<Value> {
    let told = node.run(
        "if (kit.library !== 'bull') return []
         await kit.redis().publish('bull:demo:end', '')
         return await kit.until(async () => { const told = await kit.told('demo'); return told.at(-1)?.[0] === 'end' && told })",
    );
    let ours = ["delayed", "end"];
    told.as_array()
        .unwrap()
        .iter()
        .filter(|message| !ours.iter().any(|one| message[0] == *one))
        .cloned()
        .collect()
}

fn without_ours(mut keys: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    keys.retain(|key, _| !key.contains("qfleet"));
    keys.values_mut().for_each(without_frames);
    keys
}

/// Where in the library an error was made is nobody's business.
fn without_frames(hash: &mut Value) {
    let Some(stacks) = hash.get_mut("stacktrace") else { return };
    let rows: Vec<String> = serde_json::from_str(stacks.as_str().unwrap()).unwrap();
    let rows: Vec<&str> = rows.iter().map(|row| row.split("\n    at ").next().unwrap_or_default()).collect();
    *stacks = json!(serde_json::to_string(&rows).unwrap());
}

/// How long the window of a rate limit lasts from now, in halves of a minute.
fn window(rig: &NodeRig) -> i64 {
    let millis: i64 = redis::cmd("PTTL").arg("bull:demo:limiter").query(&mut rig.redis()).unwrap();
    (millis + 15_000) / 30_000
}
