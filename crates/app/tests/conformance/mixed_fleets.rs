//! A worker of the library and ours on one queue hand jobs back and forth: through retries at once and after a while,
//! through delays, and through stalls of a worker that is killed. Each job is completed once, by one of them.

use qfleet_testkit::eventually;
use redis::Commands as _;
use serde_json::json;

use crate::stage::{Library, Stage};
use crate::support::SOON;
use crate::tally::{self, Runs};

conforms!(every: ten_thousand_jobs);

const JOBS: usize = 10_000;
/// Jobs in the hands of the library's worker that is killed.
const HELD: usize = 20;
/// Jobs that go either way for certain, whoever is quicker with the others.
const HANDED: usize = 30;

/// Adds job `n` of the ten thousand: of ten one fails at once and again, one fails and waits, one is delayed, one has a
/// priority.
const ADD: &str = "
  const jobs = []
  for (let n = 0; n < 10000; n++) {
    const data = {n, fails: [2, 1][n % 10] ?? 0}
    const opts = [{attempts: 3}, {attempts: 3, backoff: {type: 'fixed', delay: 300}}, {delay: 50 + n % 1000},
      {priority: 1 + n % 3}][n % 10] ?? {}
    jobs.push({name: 'job', data, opts})
  }
  while (jobs.length > 0) await kit.queue('shared').addBulk(jobs.splice(0, 500))";

/// Jobs that whoever is at work fails once, and that then wait until they are promoted.
fn fail_once(stage: &Stage) {
    stage.run(&format!(
        "for (let n = 0; n < {HANDED}; n++)
           await kit.queue('shared').add('handed', {{n: -2, fails: 1}}, {{attempts: 2, backoff: 3600000}})
         await kit.until(async () => await kit.queue('shared').getDelayedCount() === {HANDED})"
    ));
}

/// Waits until whoever is at work now has completed them.
fn complete(stage: &Stage) {
    stage.run(
        "const shared = kit.queue('shared')
         const before = await shared.getCompletedCount(), waiting = await shared.getDelayed()
         for (const job of waiting) await job.promote()
         await kit.until(async () => await shared.getCompletedCount() === before + waiting.length)",
    );
}

fn ten_thousand_jobs(library: Library) {
    let stage = Stage::new(library, tally::answer);
    // The listener must not miss an event when it comes late.
    stage.run(
        "await kit.queue('shared', {streams: {events: {maxLen: 1000000}}}).isPaused()
         await kit.listen('shared')",
    );
    let [first, peer, victim] = [(); 3].map(|()| stage.another_node());
    victim.run(&format!(
        "await kit.worker('shared', () => new Promise(() => {{}}),
           {{concurrency: {HELD}, lockDuration: 600000, stalledInterval: 60000}})"
    ));
    stage.run(&format!(
        "for (let n = 0; n < {HELD}; n++) await kit.queue('shared').add('held', {{n: -1, fails: 0}})"
    ));
    let active = || stage.run("return await kit.queue('shared').getActiveCount()");
    eventually(SOON, "the victim to have its hands full", || (active() == json!(HELD)).then_some(()));
    // From them to us, and from us to them.
    let options = "{concurrency: 20, lockDuration: 20000, stalledInterval: 1000, maxStalledCount: 3}";
    tally::work(&first, "shared", options);
    fail_once(&stage);
    first.run("await kit.memory.worker.close()");
    let mut fleet = stage.fleet(&[("shared", "concurrency: 20, lock-duration: 20, stalled-interval: 1")]);
    complete(&stage);
    fail_once(&stage);
    fleet.ok(&["stop", "shared"]);
    tally::work(&peer, "shared", options);
    complete(&stage);
    fleet.ok(&["start", "shared"]);

    victim.kill9();
    // Its check was the last for a minute; and its locks would last as long as it could have stood still.
    let locks = (1..=HELD).map(|id| format!("bull:shared:{id}:lock"));
    let keys: Vec<String> = locks.chain([String::from("bull:shared:stalled-check")]).collect();
    let gone: usize = stage.redis.connection().del(keys).unwrap();
    assert!(gone >= HELD, "{gone}");
    stage.run(ADD);

    let jobs = JOBS + HELD + 2 * HANDED;
    let heard = tally::completed_once(&stage, "shared", jobs);
    assert_eq!(heard.failed, 0, "no job used up its attempts");
    assert_eq!(heard.stalled as usize, HELD, "only the killed worker's jobs stalled");
    let ours = tally::ours(&stage, "shared");
    let theirs = tally::together(&tally::theirs(&first), &tally::theirs(&peer));
    let all = tally::together(&ours, &theirs);
    assert_eq!(all.len(), jobs);
    let failed: u32 = all.values().map(|runs| runs.failed).sum();
    assert_eq!(failed as usize, JOBS / 10 * 3 + 2 * HANDED, "each failed as often as it should");
    let twice: Vec<_> = all.iter().filter(|(_, runs)| runs.completed != 1).collect();
    assert!(twice.is_empty(), "completed by more than one run: {twice:?}");

    let handed = |from: &tally::Ledger, to: &tally::Ledger| {
        let done = |id| to.get(id).is_some_and(|runs: &Runs| runs.completed == 1);
        from.iter().filter(|(id, runs)| runs.failed > 0 && done(*id)).count()
    };
    let (to_us, to_them) = (handed(&theirs, &ours), handed(&ours, &theirs));
    assert!(to_us >= HANDED && to_them >= HANDED, "{to_us} came from Node, {to_them} went to it");
    assert_eq!(fleet.stop(), 0);
}
