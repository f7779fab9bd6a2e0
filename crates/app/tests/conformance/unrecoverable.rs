//! A handler that says "never" ends a job at once, whatever attempts it has left.

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage, job};

conforms!(every: at_once);

fn at_once(library: Library) {
    let stage = Stage::new(library, |request| match job(request) {
        "status" => Answer::status(422).body("no such customer"),
        "word" => Answer::ok().header("Job-Outcome", r#"fail;class=gone;reason="no such customer""#),
        _ if request.header("Job-Attempt") == Some("1") => Answer::status(500),
        _ => Answer::status(422).body("no such customer"),
    });
    let mut fleet = stage.fleet(&[("never", "")]);
    stage.run(
        "await kit.listen('never')
         for (const name of ['status', 'word', 'second'])
           await kit.queue('never').add(name, {}, {attempts: 5, backoff: 50})",
    );
    stage.ended("never", 0, 3);
    let jobs = stage.run(
        "return Object.fromEntries((await kit.queue('never').getFailed())
           .map((job) => [job.name, [job.attemptsMade, job.failedReason, job.stacktrace.length]]))",
    );
    let wanted = |made: u32| json!([made, "no such customer", made]);
    assert_eq!(jobs, json!({"status": wanted(1), "word": wanted(1), "second": wanted(2)}));
    let exhausted = stage.run("return kit.seen('never').filter(([event]) => event === 'retries-exhausted')");
    assert_eq!(exhausted, json!([]), "attempts were left");
    assert_eq!(fleet.stop(), 0);
}
