//! A job is locked by us as long as its attempt runs, however short the lock: no worker beside us takes it for stalled.

use std::time::Duration;

use qfleet_testkit::{Answer, Gate, eventually};
use redis::Commands as _;
use serde_json::json;

use crate::stage::{Library, Stage};
use crate::support::SOON;

conforms!(every: renewed, not_renewed_without_a_worker);

/// Several times as long as the lock.
const RUNS_FOR: Duration = Duration::from_secs(5);

fn renewed(library: Library) {
    let looked = Gate::new();
    let stage = Stage::new(library, {
        let looked = looked.clone();
        move |_| Answer::ok().behind(&looked)
    });
    let mut fleet = stage.fleet(&[("slow", "lock-duration: 2, stalled-interval: 1, concurrency: 2")]);
    stage.run("await kit.listen('slow'); for (const n of ['a', 'b']) await kit.queue('slow').add(n, {})");
    stage.wait_for("slow", 2);
    // The library looks for stalled jobs all the time, and would take what it finds.
    stage.run(
        "kit.memory.theirs = []
         await kit.worker('slow', async (job) => { kit.memory.theirs.push(job.id) },
           {lockDuration: 600, stalledInterval: 300, maxStalledCount: 9})",
    );
    let mut redis = stage.redis.connection();
    let locks = ["bull:slow:1:lock", "bull:slow:2:lock"];
    let tokens: Vec<String> = locks.iter().map(|lock| redis.get(lock).unwrap()).collect();
    let ends = std::time::Instant::now() + RUNS_FOR;
    while std::time::Instant::now() < ends {
        for (lock, token) in locks.iter().zip(&tokens) {
            assert_eq!(
                redis.get::<_, Option<String>>(lock).unwrap().as_ref(),
                Some(token),
                "`{lock}` is ours"
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    looked.open();
    stage.ended("slow", 2, 0);
    assert_eq!(stage.run("return kit.memory.theirs"), json!([]), "nobody else ran them");
    assert_eq!(stage.got("slow").len(), 2);
    let stalled = stage.run("return kit.seen('slow').filter(([event]) => event === 'stalled')");
    assert_eq!(stalled, json!([]), "nobody took them for stalled");
    assert_eq!(redis.exists::<_, u32>(&locks).unwrap(), 0, "no lock is left");
    assert_eq!(fleet.stop(), 0);
}

/// What the test above relies on: the library does take a job whose lock ran out.
fn not_renewed_without_a_worker(library: Library) {
    let stage = Stage::new(library, |_| Answer::never());
    let mut fleet = stage.fleet(&[("slow", "lock-duration: 1, stalled-interval: 1")]);
    stage.run("await kit.queue('slow').add('a', {})");
    stage.wait_for("slow", 1);
    // The daemon first, or it would return the job at once; its worker cannot drain while the handler is busy.
    let worker = fleet.pid_of("slow:slow_00");
    fleet.kill9();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).unwrap();
    stage.run("await kit.worker('slow', async () => 'theirs', {lockDuration: 600, stalledInterval: 300})");
    eventually(SOON, "the library's worker to complete it", || {
        (stage.run("return (await kit.queue('slow').getCompleted()).map((job) => job.returnvalue)")
            == json!(["theirs"]))
        .then_some(())
    });
}
