//! Jobs of killed workers: ours are back at once, the library's when their lock has ended, and who stalls too often fails.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage, attempt};
use crate::support::Pace;

conforms!(every: of_ours_at_once, of_the_library, too_often);

fn answer(request: &qfleet_testkit::Received) -> Answer {
    match request.header("Job-Previous-Status") {
        None if request.path == "/ours" => Answer::never(),
        _ => Answer::ok(),
    }
}

fn kill_worker(fleet: &crate::support::Fleet, name: &str) {
    kill(Pid::from_raw(fleet.pid_of(name)), Signal::SIGKILL).unwrap();
}

fn of_ours_at_once(library: Library) {
    let stage = Stage::new(library, answer);
    let mut fleet = stage.fleet(&[("ours", "concurrency: 5")]);
    stage.run(
        "await kit.listen('ours')
         await kit.queue('ours').addBulk(Array.from({length: 5}, (_, n) => ({name: `n${n}`, data: {n}})))",
    );
    stage.wait_for("ours", 5);
    let (pace, killed) = (Pace::watch(), Instant::now());
    kill_worker(&fleet, "ours:ours_00");
    let all = stage.wait_for("ours", 10);
    let allowed = pace.allows(Duration::from_secs(1));
    for request in &all[5..] {
        let back = request.at - killed;
        assert!(back < allowed, "back after {back:?}, and not within {allowed:?}");
        assert_eq!(attempt(request), 1, "a stall takes no attempt");
    }
    stage.ended("ours", 5, 0);
    assert_eq!(stage.got("ours").len(), 10, "each once more");
    assert_eq!(stage.heard("ours", "stalled", 5), 5);
    assert_eq!(fleet.stop(), 0);
}

fn of_the_library(library: Library) {
    let stage = Stage::new(library, answer);
    let victim = stage.another_node();
    stage.run("await kit.listen('theirs'); await kit.queue('theirs').add('held', {a: 1}, {attempts: 2})");
    victim.run("await kit.worker('theirs', () => new Promise(() => {}), {lockDuration: 1000, stalledInterval: 60000})");
    stage.soon("the library's worker to have it", "return await kit.queue('theirs').getActiveCount() === 1");
    victim.kill9();
    // Its check for stalled jobs was the last for a minute.
    redis::cmd("DEL").arg("bull:theirs:stalled-check").query::<()>(&mut stage.redis.connection()).unwrap();
    let mut fleet = stage.fleet(&[("theirs", "stalled-interval: 1, lock-duration: 1")]);
    stage.ended("theirs", 1, 0);
    let got = stage.got("theirs");
    assert_eq!(got.iter().map(attempt).collect::<Vec<_>>(), [1], "a stall takes no attempt");
    assert_eq!(got[0].header("Job-Previous-Status"), Some("crash"));
    let hash = stage.hash("theirs", "1");
    assert_eq!(hash[library.stall_counter()], "1");
    stage.heard("theirs", "stalled", 1);
    let stalls = stage.run("return kit.seen('theirs').filter(([event]) => event === 'stalled')");
    assert_eq!(stalls, json!([["stalled", {"jobId": "1"}]]));
    assert_eq!(fleet.stop(), 0);
}

fn too_often(library: Library) {
    let stage = Stage::new(library, |_| Answer::never());
    stage.run("await kit.queue('ours').add('poison', {}, {attempts: 5}); await kit.queue('once').add('poison', {}, {attempts: 5})");
    let mut fleet = stage.fleet(&[("ours", ""), ("once", "max-stalled: 0")]);
    stage.wait_for("once", 1);
    kill_worker(&fleet, "once:once_00");
    stage.wait_for("ours", 1);
    kill_worker(&fleet, "ours:ours_00");
    stage.wait_for("ours", 2);
    kill_worker(&fleet, "ours:ours_00");
    stage.ended("ours", 0, 1);
    stage.ended("once", 0, 1);
    assert_eq!((stage.got("ours").len(), stage.got("once").len()), (2, 1));
    for queue in ["ours", "once"] {
        let reason = stage.run(&format!("return (await kit.queue('{queue}').getFailed())[0].failedReason"));
        assert_eq!(reason, json!("job stalled more than allowable limit"));
    }
    assert_eq!(fleet.stop(), 0);
}
