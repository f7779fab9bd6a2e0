//! The commands mean on these queues what they mean to the library, which sees what they do.

use qfleet_testkit::{Answer, eventually};
use serde_json::{Value, json};

use crate::stage::{Library, Stage};
use crate::support::{Fleet, SOON, text};

conforms!(every: pause_and_resume, push_and_look, failed_jobs);

/// The rows of a listing.
fn rows(fleet: &Fleet, args: &[&str]) -> Vec<Value> {
    serde_json::from_str(&fleet.ok(args)).unwrap()
}

fn pause_and_resume(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let mut fleet = stage.fleet(&[("mail", ""), ("other", "")]);
    let shown = |paused: bool| {
        eventually(SOON, "the listing to follow", || {
            (rows(&fleet, &["queues", "mail", "--json"])[0]["paused"] == paused).then_some(())
        });
    };
    let goes_on_elsewhere = |count: usize| {
        stage.run("await kit.sleep(250); await kit.queue('other').add('canary', {})");
        stage.wait_for("other", count);
    };
    stage.run(
        "await kit.listen('mail'); await kit.queue('mail').pause(); await kit.queue('mail').add('held', {})",
    );
    shown(true);
    goes_on_elsewhere(1);
    assert_eq!(stage.got("mail").len(), 0, "nothing is taken while the library has it paused");
    stage.run("await kit.queue('mail').resume()");
    stage.ended("mail", 1, 0);
    shown(false);

    fleet.ok(&["pause", "mail"]);
    assert_eq!(stage.run("return await kit.queue('mail').isPaused()"), true);
    shown(true);
    fleet.ok(&["push", "mail", "ours", "{}"]);
    stage.run(
        "await kit.queue('mail').add('theirs', {}); await kit.queue('mail').add('urgent', {}, {priority: 1})",
    );
    assert_eq!(rows(&fleet, &["jobs", "mail", "waiting", "--json"]).len(), 3);
    goes_on_elsewhere(2);
    assert_eq!(stage.got("mail").len(), 1, "nothing is taken while we have it paused");
    fleet.ok(&["resume", "mail"]);
    assert_eq!(stage.run("return await kit.queue('mail').isPaused()"), false);
    stage.ended("mail", 4, 0);
    stage.soon(
        "the listener to hear of all",
        "return kit.seen('mail').filter(([event]) => event === 'completed').length === 4",
    );
    let words = stage.run(
        "return kit.seen('mail').map(([event]) => event).filter((event) => event === 'paused' || event === 'resumed')",
    );
    assert_eq!(words, json!(["paused", "resumed", "paused", "resumed"]));
    assert_eq!(fleet.stop(), 0);
}

fn push_and_look(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let mut fleet = Fleet::start(&stage.manifest(&[("mail", "autostart: false"), ("other", "")]));
    let id = fleet.ok(&["push", "mail", "welcome", r#"{"big":9007199254740993, "to":"ann"}"#]);
    fleet.ok(&["push", "mail", "later", "{}", "--delay", "1h"]);
    let jobs = stage.run(
        "const mail = kit.queue('mail')
         const [waiting] = await mail.getWaiting(), [delayed] = await mail.getDelayed()
         return {id: waiting.id, names: [waiting.name, delayed.name], to: waiting.data.to, delay: delayed.delay,
           raw: await kit.redis().hget('bull:mail:' + waiting.id, 'data')}",
    );
    assert_eq!((&jobs["names"], &jobs["delay"]), (&json!(["welcome", "later"]), &json!(3_600_000)));
    assert_eq!(jobs["raw"], r#"{"big":9007199254740993, "to":"ann"}"#);
    assert!(id.contains(jobs["id"].as_str().unwrap()), "`{id}` names {jobs}");

    stage.run("const mail = kit.queue('mail'); for (const name of ['a', 'b']) await mail.add(name, {}); await mail.add('first', {}, {lifo: true})");
    let names = |state: &str| -> Vec<Value> {
        rows(&fleet, &["jobs", "mail", state, "--json"]).iter().map(|row| row["name"].clone()).collect()
    };
    assert_eq!(names("waiting"), ["first", "welcome", "a", "b"]);
    assert_eq!(names("delayed"), ["later"]);
    let row = &rows(&fleet, &["queues", "mail", "--json"])[0];
    assert_eq!((&row["waiting"], &row["delayed"], &row["reserved"]), (&json!(4), &json!(1), &json!(0)));
    fleet.ok(&["start", "mail"]);
    stage.ended("mail", 4, 0);
    assert_eq!(stage.names("mail"), ["first", "welcome", "a", "b"]);
    assert_eq!(fleet.stop(), 0);
}

fn failed_jobs(library: Library) {
    let stage = Stage::new(library, |request| {
        if text(&request.body).contains("bad") {
            Answer::status(422).body("no such customer")
        } else {
            Answer::ok()
        }
    });
    let mut fleet = stage.fleet(&[("mail", ""), ("other", "")]);
    stage.run("await kit.queue('mail').add('theirs', {bad: 1}, {attempts: 3})");
    stage.ended("mail", 0, 1);
    fleet.ok(&["push", "mail", "ours", r#"{"bad":9007199254740993}"#]);
    stage.ended("mail", 0, 2);
    let listed = rows(&fleet, &["failed", "list", "--json"]);
    let names: Vec<&Value> = listed.iter().map(|row| &row["name"]).collect();
    assert_eq!(names, [&json!("ours"), &json!("theirs")], "newest first");
    assert_eq!((&listed[0]["queue"], &listed[0]["reason"]), (&json!("mail"), &json!("no such customer")));
    let keys: Vec<String> =
        redis::cmd("KEYS").arg("*qfleet:failed*").query(&mut stage.redis.connection()).unwrap();
    assert_eq!(keys, Vec::<String>::new(), "no second record of it");

    let (ours, theirs) = (listed[0]["id"].as_str().unwrap(), listed[1]["id"].as_str().unwrap());
    let shown = fleet.ok(&["failed", "show", ours]);
    assert!(shown.contains("9007199254740993") && shown.contains("no such customer"), "{shown}");
    fleet.ok(&["failed", "retry", theirs]);
    stage.wait_for("mail", 3);
    stage.ended("mail", 0, 2);
    // The library retries it after what made it fail is mended.
    stage.run("const job = (await kit.queue('mail').getFailed()).find((job) => job.name === 'theirs'); await job.update?.({}); await job.updateData?.({}); await job.retry()");
    stage.ended("mail", 1, 1);
    fleet.ok(&["failed", "forget", ours]);
    assert_eq!(stage.run("return await kit.queue('mail').getFailedCount()"), json!(0));

    // Whatever else is under the prefix belongs to others.
    stage.run(
        "await kit.queue('theirs').add('x', {})
         await kit.worker('theirs', async () => { throw new Error('no') })
         await kit.queue('mail').add('again', {bad: 2})
         await kit.until(async () => await kit.queue('theirs').getFailedCount() === 1)",
    );
    stage.ended("mail", 1, 1);
    fleet.ok(&["failed", "flush"]);
    assert_eq!(rows(&fleet, &["failed", "list", "--json"]).len(), 0);
    assert_eq!(
        stage.run(
            "return [await kit.queue('mail').getFailedCount(), await kit.queue('theirs').getFailedCount()]"
        ),
        json!([0, 1])
    );
    assert_eq!(fleet.stop(), 0);
}
