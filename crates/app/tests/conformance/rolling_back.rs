//! From qfleet to Node and from Node to qfleet while jobs pour in: none is lost and none runs twice.

use qfleet_testkit::{Node, eventually};

use crate::stage::{Library, Stage};
use crate::support::SOON;
use crate::tally;

conforms!(every: to_the_library, from_the_library);

const JOBS: usize = 2000;

/// Pours jobs in while the test goes on, each fifth to fail once, at once or with a pause, each fifth delayed. The last
/// quarter is for whoever takes over, however quick the one before was.
const POUR: &str = "
  const taken_over = new Promise((done) => (kit.memory.take_over = done))
  kit.memory.poured = (async () => {
    for (let n = 0; n < 2000; n += 20) {
      if (n === 1500) await taken_over
      await kit.queue('moved').addBulk(Array.from({length: 20}, (_, i) => {
        const opts = [{attempts: 2}, {attempts: 2, backoff: 200}, {delay: 100}][i % 10] ?? {}
        return {name: 'job', data: {n: n + i, fails: i % 10 < 2 ? 1 : 0}, opts}
      }))
      await kit.sleep(5)
    }
  })()
  return null";

fn stage(library: Library) -> (Stage, Node) {
    let stage = Stage::new(library, tally::answer);
    let peer = stage.another_node();
    stage.run(
        "await kit.queue('moved', {streams: {events: {maxLen: 1000000}}}).isPaused()
         await kit.listen('moved')",
    );
    (stage, peer)
}

/// Waits until a part is done and a part is not.
fn in_mid_load(stage: &Stage) {
    eventually(SOON, "a part of the jobs to be done", || {
        let done = stage.run("return await kit.queue('moved').getCompletedCount()");
        (done.as_u64().unwrap() >= 300).then_some(())
    });
}

fn judge(stage: &Stage, peer: &Node) {
    stage.run("kit.memory.take_over(); await kit.memory.poured");
    let heard = tally::completed_once(stage, "moved", JOBS);
    assert_eq!(heard.failed, 0, "no job used up its attempts");
    // Bull leaves jobs behind that it has fetched and not begun.
    assert!(heard.stalled == 0 || stage.library.is_bull(), "who leaves finishes what it has");
    let (ours, theirs) = (tally::ours(stage, "moved"), tally::theirs(peer));
    let all = tally::together(&ours, &theirs);
    assert_eq!(all.len(), JOBS);
    assert!(all.values().all(|runs| runs.completed == 1), "each completed by one run");
    let failed: u32 = all.values().map(|runs| runs.failed).sum();
    assert_eq!(failed as usize, JOBS / 5, "each failed as often as it should");
    let share = (tally::completions(&ours), tally::completions(&theirs));
    assert!(share.0 >= 100 && share.1 >= 100, "both had their part: {share:?}");
}

fn to_the_library(library: Library) {
    let (stage, peer) = stage(library);
    let mut fleet = stage.fleet(&[("moved", "concurrency: 10")]);
    stage.run(POUR);
    in_mid_load(&stage);
    assert_eq!(fleet.stop(), 0);
    tally::work(&peer, "moved", "{concurrency: 10}");
    judge(&stage, &peer);
}

fn from_the_library(library: Library) {
    let (stage, peer) = stage(library);
    tally::work(&peer, "moved", "{concurrency: 10}");
    stage.run(POUR);
    in_mid_load(&stage);
    peer.run("await kit.memory.worker.close()");
    let mut fleet = stage.fleet(&[("moved", "concurrency: 10, stalled-interval: 1")]);
    judge(&stage, &peer);
    assert_eq!(fleet.stop(), 0);
}
