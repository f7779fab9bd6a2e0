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

fn ten_thousand_jobs(library: Library) {
    let stage = Stage::new(library, tally::answer);
    // The listener must not miss an event when it comes late.
    stage.run(
        "await kit.queue('shared', {streams: {events: {maxLen: 1000000}}}).isPaused()
         await kit.listen('shared')",
    );
    let (peer, victim) = (stage.another_node(), stage.another_node());
    victim.run(&format!(
        "await kit.worker('shared', () => new Promise(() => {{}}),
           {{concurrency: {HELD}, lockDuration: 1500, stalledInterval: 60000}})"
    ));
    stage.run(&format!(
        "for (let n = 0; n < {HELD}; n++) await kit.queue('shared').add('held', {{n: -1, fails: 0}})"
    ));
    let active = || stage.run("return await kit.queue('shared').getActiveCount()");
    eventually(SOON, "the victim to have its hands full", || (active() == json!(HELD)).then_some(()));
    let mut fleet = stage.fleet(&[("shared", "concurrency: 20, lock-duration: 5, stalled-interval: 1")]);
    tally::work(
        &peer,
        "shared",
        "{concurrency: 20, lockDuration: 5000, stalledInterval: 1000, maxStalledCount: 3}",
    );
    victim.kill9();
    // Its check was the last for a minute.
    stage.redis.connection().del::<_, ()>("bull:shared:stalled-check").unwrap();
    stage.run(ADD);

    let heard = tally::completed_once(&stage, "shared", JOBS + HELD);
    assert_eq!(heard.failed, 0, "no job used up its attempts");
    assert_eq!(heard.stalled as usize, HELD, "only the killed worker's jobs stalled");
    let (ours, theirs) = (tally::ours(&stage, "shared"), tally::theirs(&peer));
    let all = tally::together(&ours, &theirs);
    assert_eq!(all.len(), JOBS + HELD);
    let failed: u32 = all.values().map(|runs| runs.failed).sum();
    assert_eq!(failed as usize, JOBS / 10 * 3, "each failed as often as it should");
    let twice: Vec<_> = all.iter().filter(|(_, runs)| runs.completed != 1).collect();
    assert!(twice.is_empty(), "completed by more than one run: {twice:?}");

    let handed = |from: &tally::Ledger, to: &tally::Ledger| {
        let done = |id| to.get(id).is_some_and(|runs: &Runs| runs.completed == 1);
        from.iter().filter(|(id, runs)| runs.failed > 0 && done(*id)).count()
    };
    let (to_us, to_them) = (handed(&theirs, &ours), handed(&ours, &theirs));
    let share = (tally::completions(&ours), tally::completions(&theirs));
    assert!(to_us >= 20 && to_them >= 20, "{to_us} came from Node, {to_them} went to it; {share:?}");
    assert_eq!(fleet.stop(), 0);
}
