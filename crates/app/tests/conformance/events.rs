//! Every event that the library's worker emits, in its order and with its fields.

use std::collections::BTreeSet;

use qfleet_testkit::eventually;
use serde_json::{Value, json};

use crate::life;
use crate::stage::{Library, Stage};
use crate::support::SOON;

conforms!(every: of_jobs_one_by_one, of_a_backlog, of_a_pause);

/// What was told of a queue, with the moments taken out.
fn told(stage: &Stage, queue: &str) -> Vec<Value> {
    let told = stage.run(&format!("return kit.told('{queue}')"));
    let mut rows: Vec<Vec<String>> = serde_json::from_value(told).unwrap();
    // Bull's workers say it again and again when the next job is due.
    let mut dates = BTreeSet::new();
    rows.retain(|row| {
        !(stage.library.is_bull() && row[0] == "delayed") || dates.insert(whole(&row[1]).to_owned())
    });
    rows.into_iter().map(|row| row.iter().map(|word| plain(word)).collect()).collect()
}

/// A date without a fraction.
fn whole(date: &str) -> &str {
    date.split('.').next().unwrap_or_default()
}

/// One word of what was told: Bull's may be JSON, which listeners read. Dates are all that has thirteen digits.
fn plain(word: &str) -> Value {
    if word.parse::<f64>().is_ok() && whole(word).len() == 13 {
        return json!("(date)");
    }
    serde_json::from_str::<Value>(word).ok().filter(Value::is_object).unwrap_or_else(|| json!(word))
}

/// Both queues have been told of alike. Compared when as much is known of ours, or when it stays different.
#[track_caller]
fn alike(stage: &Stage) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let (theirs, ours) = eventually(SOON, "events of both", || {
        let (theirs, ours) = (told(stage, "theirs"), told(stage, "ours"));
        (theirs == ours || std::time::Instant::now() > deadline).then_some((theirs, ours))
    });
    let show = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    assert_eq!(ours, theirs, "\nours\n{}\ntheirs\n{}", show(&ours), show(&theirs));
    assert!(theirs.len() > 4, "{theirs:?}");
}

fn of_jobs_one_by_one(library: Library) {
    let (stage, mut fleet) = life::stage(library, "{}", "");
    life::one_by_one(
        &stage,
        "[['value', {a: 1}], ['nothing', {}], ['own id', {}, {jobId: 'mine'}],
          ['second at once', {}, {attempts: 2}], ['second lifo', {}, {attempts: 2, lifo: true}],
          ['second later', {}, {attempts: 2, backoff: 400}], ['bad', {}], ['bad twice', {}, {attempts: 2}],
          ['bad later', {}, {attempts: 2, backoff: {type: 'exponential', delay: 400}}],
          ['never', {}, {attempts: 3}], ['never alone', {}],
          ['delayed', {}, {delay: 400}], ['urgent', {}, {priority: 3}], ['second urgent', {}, {priority: 3, attempts: 2}],
          ['urgent and late', {}, {priority: 3, delay: 400}],
          ['gone', {}, {removeOnComplete: true}], ['bad and gone', {}, {removeOnFail: true}]]",
    );
    alike(&stage);
    assert_eq!(fleet.stop(), 0);
}

fn of_a_backlog(library: Library) {
    let (stage, mut fleet, released) = life::holding_stage(library, "{}", "");
    // Everything is there before the first one ends.
    stage.run(
        "for (const name of ['theirs', 'ours']) {
           await kit.queue(name).add('held', {})
           await kit.until(async () => await kit.queue(name).getActiveCount() === 1)
           await kit.queue(name).addBulk(['value', 'bad', 'second', 'nothing', 'never'].map((job) =>
             ({name: job, data: {}, opts: {attempts: job === 'second' ? 2 : 0}})))
         }",
    );
    life::release(&stage, &released);
    stage.run(
        "for (const name of ['theirs', 'ours']) await kit.until(async () => {
           const counts = await kit.queue(name).getJobCounts()
           return counts.completed === 4 && counts.failed === 2
         })",
    );
    alike(&stage);
    assert_eq!(fleet.stop(), 0);
}

fn of_a_pause(library: Library) {
    let (stage, mut fleet, released) = life::holding_stage(library, "{}", "");
    stage.run(
        "for (const name of ['theirs', 'ours']) {
           const queue = kit.queue(name)
           await queue.add('held', {})
           await kit.until(async () => await queue.getActiveCount() === 1)
           await queue.pause()
           await queue.add('value', {})
         }",
    );
    life::release(&stage, &released);
    stage.run(
        "for (const name of ['theirs', 'ours']) {
           const queue = kit.queue(name)
           await kit.until(async () => await queue.getCompletedCount() === 1)
           await kit.sleep(150)
           await queue.resume()
           await kit.until(async () => await queue.getCompletedCount() === 2)
         }",
    );
    alike(&stage);
    assert_eq!(fleet.stop(), 0);
}
