//! Job schedulers: the next iteration is made on time and exactly once, over the death of a worker, and beside the
//! library's own.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::Answer;
use serde_json::json;

use crate::iterations::{Course, course, date, none_left_out, on_time};
use crate::stage::{Library, Stage};

conforms!(bullmq: over_a_death, with_an_end, beside_the_librarys_worker);

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
        let course = course(&got, name);
        none_left_out(&course, step);
        on_time(&course);
    }
    stage.soon("one of each to come", "return await kit.queue('clock').getDelayedCount() === 2");
    let next = stage.run(
        "const list = await kit.queue('clock').getJobSchedulers()
         return {names: list.map((one) => one.name).sort(), count: list.find((one) => one.name === 'beat').iterationCount}",
    );
    assert_eq!(next["names"], json!(["beat", "tick"]));
    assert!(next["count"].as_u64().unwrap() as usize >= course(&got, "beat").len(), "{next}");
    let beat = got.iter().find(|request| request.header("Job-Name") == Some("beat")).unwrap();
    assert_eq!(beat.body, br#"{"a":"b/c","e":[]}"#);

    stage.run("for (const name of ['beat', 'tick']) await kit.queue('clock').removeJobScheduler(name)");
    stage.soon(
        "nothing to be left",
        "const {completed, ...others} = await kit.queue('clock').getJobCounts()
         return Object.values(others).every((count) => count === 0)",
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
    let end = stage.run(
        "const clock = kit.queue('clock'), end = Date.now() + 500
         await clock.upsertJobScheduler('few', {every: 150, limit: 3}, {name: 'few', opts: {attempts: 2}})
         await clock.upsertJobScheduler('until', {every: 150, endDate: end}, {name: 'until', opts: {attempts: 2}})
         return end",
    );
    stage.soon(
        "both to have ended",
        "const {completed, ...others} = await kit.queue('clock').getJobCounts()
         return Object.values(others).every((count) => count === 0)",
    );
    let got = stage.got("clock");
    // Tried twice each, and followed once.
    let dates = |name: &str| -> Vec<i64> {
        let mut attempts = BTreeMap::<i64, usize>::new();
        for request in got.iter().filter(|request| request.header("Job-Name") == Some(name)) {
            *attempts.entry(date(request.header("Job-Id").unwrap())).or_default() += 1;
        }
        assert!(attempts.values().all(|attempts| *attempts == 2), "{attempts:?}");
        attempts.into_keys().collect()
    };
    assert_eq!(dates("few").len(), 3);
    let until = dates("until");
    // Whoever begins one before the end makes the next, here and in the library.
    let last = until.last().copied().unwrap_or_default() - 150;
    assert!((1..=5).contains(&until.len()) && Some(last) <= end.as_i64(), "{until:?} until {end}");
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
         await kit.worker('clock', async (job) => {{ kit.memory.theirs.push([job.id, Date.now()]); await kit.sleep({takes}) }})
         await kit.queue('clock').upsertJobScheduler('beat', {{every: {STEP}}}, {{name: 'beat'}})",
    ));
    let theirs = stage.soon(
        "both to have had some",
        "return await kit.queue('clock').getCompletedCount() >= 10 && kit.memory.theirs.length > 0 && kit.memory.theirs",
    );
    let theirs: Vec<(String, i64)> = serde_json::from_value(theirs).unwrap();
    let theirs: Course = theirs.iter().map(|(id, begun)| (date(id), *begun)).collect();
    assert_eq!(fleet.stop(), 0);
    let ours = course(&stage.got("clock"), "beat");
    assert!(!ours.is_empty(), "the library had all");
    let mut all: Course = theirs.iter().chain(&ours).map(|(date, begun)| (*date, *begun)).collect();
    assert_eq!(all.len(), theirs.len() + ours.len(), "each by one of them: {theirs:?}, {ours:?}");
    // The library's worker goes on, and what it had while we ended is not known here.
    all.retain(|date, _| theirs.last_key_value().is_some_and(|(last, _)| date <= last));
    none_left_out(&all, STEP);
}
