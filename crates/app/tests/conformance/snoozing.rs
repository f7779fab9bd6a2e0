//! A job that is put off by its handler waits in `delayed`, and no attempt of it counts.

use std::time::Duration;

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage, attempt, job};

conforms!(every: no_attempt_counts);

/// At most a tenth is added to what was asked for; a busy machine may add much more, and one that waits for what wakes nobody
/// a minute.
const LATEST: Duration = Duration::from_secs(10);

fn no_attempt_counts(library: Library) {
    let stage = Stage::new(library, |request| {
        let delivery = request.header("Job-Deliveries").unwrap_or_default().to_owned();
        match (job(request), delivery.as_str()) {
            ("soon", "1" | "2") => Answer::ok().header("Job-Outcome", "snooze;delay=0.4"),
            ("between", "1" | "3") => Answer::status(500),
            ("between", "2") => Answer::ok().header("Job-Outcome", "snooze;delay=0.1"),
            ("far", "1") => Answer::status(409).header("Retry-After", "3600"),
            _ => Answer::ok(),
        }
    });
    let mut fleet = stage.fleet(&[("later", "concurrency: 3")]);
    stage.run(
        "const later = kit.queue('later')
         await later.add('soon', {}, {attempts: 1})
         await later.add('between', {}, {attempts: 3})
         await later.add('far', {}, {attempts: 1, priority: 2})",
    );
    stage.ended("later", 2, 0);
    let of = |name: &str| {
        let mut got = stage.got("later");
        got.retain(|request| job(request) == name);
        got
    };
    let soon = of("soon");
    assert_eq!(soon.iter().map(attempt).collect::<Vec<_>>(), [1, 1, 1]);
    for pair in soon.windows(2) {
        let waited = pair[1].at - pair[0].at;
        assert!(waited >= Duration::from_millis(400) && waited < LATEST, "{waited:?}");
    }
    assert_eq!(of("between").iter().map(attempt).collect::<Vec<_>>(), [1, 2, 2, 3]);

    let [far] = stage.soon(
        "the one that was put off for long",
        "const jobs = await kit.queue('later').getDelayed()
         return jobs.length === 1 && jobs.map((job) => ({made: job.attemptsMade, reason: job.failedReason ?? null, id: job.id}))",
    ).as_array().unwrap().clone().try_into().unwrap();
    assert_eq!((&far["made"], &far["reason"]), (&json!(0), &json!(null)));
    // A person who cannot wait promotes it.
    stage.run("const [job] = await kit.queue('later').getDelayed(); await job.promote()");
    stage.ended("later", 3, 0);
    assert_eq!(of("far").iter().map(attempt).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(fleet.stop(), 0);
}
