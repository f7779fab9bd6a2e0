//! A job is tried again as often and after as long as it says itself: fixed, growing, jittered, or by a rule of the
//! application's own, for which the manifest stands in.

use std::time::Duration;

use qfleet_testkit::{Answer, Received};
use serde_json::json;

use crate::stage::{Library, Stage, attempt};

/// A busy machine may add as much to a pause (ms). The rules themselves are tested where they are.
const LATEST: u64 = 5000;

conforms!(every: pauses, own_rules, counts);
conforms!(bullmq: jitter);

/// Pauses between the deliveries of one job, in ms.
fn pauses_of(stage: &Stage, queue: &str, name: &str) -> Vec<u64> {
    let mut got = stage.got(queue);
    got.retain(|request| request.header("Job-Name") == Some(name));
    got.windows(2).map(|pair| u64::try_from((pair[1].at - pair[0].at).as_millis()).unwrap()).collect()
}

#[track_caller]
fn near(measured: &[u64], wanted: &[u64]) {
    assert_eq!(measured.len(), wanted.len(), "{measured:?} for {wanted:?}");
    for (measured, wanted) in measured.iter().zip(wanted) {
        assert!((*wanted..wanted + LATEST).contains(measured), "{measured} ms for {wanted}");
    }
}

fn fails_until_the_last(request: &Received) -> Answer {
    let last = request.header("Job-Max-Attempts").and_then(|text| text.parse().ok()).unwrap_or(1);
    if attempt(request) < last { Answer::status(500) } else { Answer::ok() }
}

fn pauses(library: Library) {
    let stage = Stage::new(library, fails_until_the_last);
    let mut fleet = stage.fleet(&[("again", "concurrency: 8")]);
    stage.run(
        "const again = kit.queue('again')
         await again.add('at once', {}, {attempts: 3})
         await again.add('fixed', {}, {attempts: 3, backoff: {type: 'fixed', delay: 300}})
         await again.add('number', {}, {attempts: 2, backoff: 350})
         await again.add('growing', {}, {attempts: 4, backoff: {type: 'exponential', delay: 150}})",
    );
    stage.ended("again", 4, 0);
    assert_eq!(stage.got("again").len(), 3 + 3 + 2 + 4);
    near(&pauses_of(&stage, "again", "at once"), &[0, 0]);
    near(&pauses_of(&stage, "again", "fixed"), &[300, 300]);
    near(&pauses_of(&stage, "again", "number"), &[350]);
    let growing = if library.is_bull() { [150, 450, 1050] } else { [150, 300, 600] };
    near(&pauses_of(&stage, "again", "growing"), &growing);
    assert_eq!(fleet.stop(), 0);
}

fn jitter(library: Library) {
    // So many answers of an endpoint that something is wrong with it would hold its jobs back.
    let stage = Stage::new(library, |request| match attempt(request) {
        1 => Answer::ok().header("Job-Outcome", "retry"),
        _ => Answer::ok(),
    });
    let mut fleet = stage.fleet(&[("again", "concurrency: 8")]);
    stage.run(
        "await kit.queue('again').addBulk(Array.from({length: 20}, (_, n) =>
           ({name: `j${n}`, data: {}, opts: {attempts: 2, backoff: {type: 'fixed', delay: 4000, jitter: 0.75}}})))",
    );
    stage.ended("again", 20, 0);
    let pauses: Vec<u64> = (0..20).flat_map(|n| pauses_of(&stage, "again", &format!("j{n}"))).collect();
    assert_eq!(pauses.len(), 20);
    assert!(pauses.iter().all(|pause| (1000..4000 + LATEST).contains(pause)), "{pauses:?}");
    // Three seconds are what they are spread over. That chance puts all twenty into the last sixth of it is out of the question.
    assert!(pauses.iter().any(|pause| *pause < 3500), "they are spread: {pauses:?}");
    assert_eq!(fleet.stop(), 0);
}

fn own_rules(library: Library) {
    let stage = Stage::new(library, fails_until_the_last);
    let mut fleet = stage.fleet(&[("known", "backoff: 0.3"), ("unknown", "")]);
    stage.run(
        "for (const name of ['known', 'unknown'])
           await kit.queue(name).add('mine', {}, {attempts: 2, backoff: {type: 'lunar', delay: 5}})",
    );
    stage.ended("known", 1, 0);
    near(&pauses_of(&stage, "known", "mine"), &[300]);
    stage.ended("unknown", 0, 1);
    let reason = stage.run("return (await kit.queue('unknown').getFailed())[0].failedReason");
    assert!(reason.as_str().unwrap().starts_with("Unknown backoff strategy lunar"), "{reason}");
    assert_eq!(stage.got("unknown").len(), 1);
    assert_eq!(fleet.stop(), 0);
}

/// Attempts of the job, else of the manifest, else one; `override` wins over all.
fn counts(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(500).after(Duration::from_millis(1)));
    let mut fleet = stage.fleet(&[("plain", ""), ("tries", "tries: 2"), ("forced", "override: {tries: 2}")]);
    stage.run(
        "for (const name of ['plain', 'tries', 'forced']) {
           await kit.queue(name).add('none', {})
           await kit.queue(name).add('three', {}, {attempts: 3})
         }",
    );
    for queue in ["plain", "tries", "forced"] {
        stage.ended(queue, 0, 2);
    }
    let made = |queue: &str| {
        let jobs = stage.run(&format!(
            "return Object.fromEntries((await kit.queue('{queue}').getFailed()).map((job) => [job.name, job.attemptsMade]))"
        ));
        let delivered = |name: &str| stage.names(queue).iter().filter(|given| *given == name).count();
        assert_eq!(jobs, json!({"none": delivered("none"), "three": delivered("three")}), "{queue}");
        (jobs["none"].clone(), jobs["three"].clone())
    };
    assert_eq!(made("plain"), (json!(1), json!(3)));
    // Bull writes a number into every job, and what a job says counts.
    let unsaid = if library.is_bull() { 1 } else { 2 };
    assert_eq!(made("tries"), (json!(unsaid), json!(3)));
    assert_eq!(made("forced"), (json!(2), json!(2)));
    assert_eq!(fleet.stop(), 0);
}
