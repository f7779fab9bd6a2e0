//! Job schedulers: the next iteration is made on time and exactly once, over the death of a worker, and beside the
//! library's own.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Received};
use serde_json::json;

use crate::stage::{Library, Stage, millis};

conforms!(bullmq: over_a_death, with_an_end, beside_the_librarys_worker);

/// The date of an iteration, which its id ends with.
fn date(id: &str) -> i64 {
    id.rsplit(':').next().unwrap().parse().unwrap()
}

/// Dates of the iterations of a scheduler in the order they came.
fn dates(got: &[Received], name: &str) -> Vec<(i64, i64)> {
    let of = got.iter().filter(|request| request.header("Job-Name") == Some(name));
    of.map(|request| (date(request.header("Job-Id").unwrap()), millis(request.at))).collect()
}

fn over_a_death(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let mut fleet = stage.fleet(&[("clock", "numprocs: 2, concurrency: 2")]);
    stage.run(
        "await kit.queue('clock').upsertJobScheduler('beat', {every: 400}, {name: 'beat', data: {a: 'b/c', e: []}, opts: {attempts: 2}})
         await kit.queue('clock').upsertJobScheduler('tick', {pattern: '* * * * * *', tz: 'Europe/Berlin'}, {name: 'tick', data: {}})",
    );
    stage.wait_for("clock", 3);
    kill(Pid::from_raw(fleet.pid_of("clock:clock_00")), Signal::SIGKILL).unwrap();
    stage.wait_for("clock", 6);
    kill(Pid::from_raw(fleet.pid_of("clock:clock_01")), Signal::SIGKILL).unwrap();
    let got = stage.wait_for("clock", 10);
    for (name, step) in [("beat", 400), ("tick", 1000)] {
        let rows = dates(&got, name);
        let unique: BTreeSet<i64> = rows.iter().map(|(date, _)| *date).collect();
        assert_eq!(unique.len(), rows.len(), "each once: {rows:?}");
        let unique: Vec<i64> = unique.into_iter().collect();
        assert!(unique.windows(2).all(|pair| pair[1] - pair[0] == step), "none left out: {unique:?}");
        for (due, came) in rows {
            assert!((-2..700).contains(&(came - due)), "`{name}` came {} ms after its time", came - due);
        }
    }
    let next = stage.run(
        "const list = await kit.queue('clock').getJobSchedulers()
         return {pending: await kit.queue('clock').getDelayedCount(), names: list.map((one) => one.name).sort(),
           count: list.find((one) => one.name === 'beat').iterationCount}",
    );
    assert_eq!(
        (&next["pending"], &next["names"]),
        (&json!(2), &json!(["beat", "tick"])),
        "one of each to come"
    );
    assert!(next["count"].as_u64().unwrap() as usize >= dates(&got, "beat").len(), "{next}");
    let beat = got.iter().find(|request| request.header("Job-Name") == Some("beat")).unwrap();
    assert_eq!(beat.body, br#"{"a":"b/c","e":[]}"#);

    stage.run("for (const name of ['beat', 'tick']) await kit.queue('clock').removeJobScheduler(name)");
    stage.soon(
        "nothing to be left",
        "return await kit.queue('clock').count() === 0 && await kit.queue('clock').getActiveCount() === 0",
    );
    let count = stage.got("clock").len();
    stage.run("await kit.sleep(500)");
    assert_eq!(stage.got("clock").len(), count, "removed is removed");
    assert_eq!(fleet.stop(), 0);
}

fn with_an_end(library: Library) {
    let stage = Stage::new(library, |request| {
        if request.header("Job-Attempt") == Some("1") { Answer::status(500) } else { Answer::ok() }
    });
    let mut fleet = stage.fleet(&[("clock", "")]);
    stage.run(
        "await kit.queue('clock').upsertJobScheduler('few', {every: 150, limit: 3}, {name: 'few', opts: {attempts: 2}})
         await kit.queue('clock').upsertJobScheduler('until', {every: 150, endDate: Date.now() + 500}, {name: 'until', opts: {attempts: 2}})",
    );
    stage.soon(
        "both to have ended",
        "const clock = kit.queue('clock')
         return await clock.getCompletedCount() >= 5 && await clock.getDelayedCount() === 0 && await clock.getActiveCount() === 0 && await clock.getWaitingCount() === 0",
    );
    let got = stage.got("clock");
    // Tried twice each, and followed once.
    assert_eq!(dates(&got, "few").len(), 6);
    let until: BTreeSet<i64> = dates(&got, "until").into_iter().map(|(date, _)| date).collect();
    assert!((3..=5).contains(&until.len()), "{until:?}");
    assert_eq!(dates(&got, "until").len(), until.len() * 2);
    assert_eq!(fleet.stop(), 0);
}

/// How far apart the iterations are that both work, in milliseconds; and how long each takes: too long for one worker.
const STEP: i64 = 300;
const TAKES: Duration = Duration::from_millis(400);

fn beside_the_librarys_worker(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok().after(TAKES));
    let mut fleet = stage.fleet(&[("clock", "")]);
    let takes = TAKES.as_millis();
    stage.run(&format!(
        "kit.memory.theirs = []
         await kit.worker('clock', async (job) => {{ kit.memory.theirs.push(job.id); await kit.sleep({takes}) }})
         await kit.queue('clock').upsertJobScheduler('beat', {{every: {STEP}}}, {{name: 'beat'}})",
    ));
    let theirs = stage.soon(
        "both to have had some",
        "return await kit.queue('clock').getCompletedCount() >= 10 && kit.memory.theirs.length > 0 && kit.memory.theirs",
    );
    let theirs: Vec<i64> = theirs.as_array().unwrap().iter().map(|id| date(id.as_str().unwrap())).collect();
    assert_eq!(fleet.stop(), 0);
    let ours: Vec<i64> = dates(&stage.got("clock"), "beat").into_iter().map(|(date, _)| date).collect();
    assert!(!ours.is_empty(), "the library had all");
    let all: BTreeSet<i64> = theirs.iter().chain(&ours).copied().collect();
    assert_eq!(all.len(), theirs.len() + ours.len(), "each by one of them: {theirs:?}, {ours:?}");
    // The library's worker goes on, and what it had while we ended is not known here.
    let known: Vec<i64> =
        all.into_iter().filter(|date| theirs.last().is_some_and(|last| date <= last)).collect();
    assert!(known.windows(2).all(|pair| pair[1] - pair[0] == STEP), "none left out: {known:?}");
}
