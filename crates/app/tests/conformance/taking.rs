//! Jobs are taken in the library's order, at their time, and many with one call.

use qfleet_testkit::Answer;
use redis::Commands as _;
use serde_json::json;

use crate::stage::{Library, Stage, millis};

conforms!(every: order, delayed, paused, many_at_once);

/// A busy machine may be late by as much (ms); who waits for what wakes nobody is late by a minute.
const LATEST: i64 = 10_000;

fn order(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    stage.run(
        "const plain = kit.queue('plain')
         for (const name of ['a', 'b', 'c']) await plain.add(name, {})
         await plain.add('last in', {}, {lifo: true})
         const urgent = kit.queue('urgent')
         for (const [name, priority] of [['p3', 3], ['p1', 1], ['p2', 2], ['p1 too', 1], ['p10', 10]])
           await urgent.add(name, {}, {priority})
         await urgent.add('none', {})",
    );
    let mut fleet = stage.fleet(&[("plain", ""), ("urgent", "")]);
    stage.ended("plain", 4, 0);
    stage.ended("urgent", 6, 0);
    assert_eq!(stage.names("plain"), ["last in", "a", "b", "c"]);
    let urgent = stage.names("urgent");
    if library.is_bull() {
        assert_eq!(urgent, ["p1", "p1 too", "p2", "p3", "p10", "none"]);
    } else {
        assert_eq!(urgent, ["none", "p1", "p1 too", "p2", "p3", "p10"]);
    }
    assert_eq!(fleet.stop(), 0);
}

fn delayed(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    stage.run("await kit.queue('later').add('known at start', {}, {delay: 700})");
    let mut fleet = stage.fleet(&[("later", "")]);
    stage.run(
        "const later = kit.queue('later')
         await later.add('second', {}, {delay: 900})
         await later.add('first', {}, {delay: 300})
         await later.add('urgent', {}, {delay: 900, priority: 1})
         await later.add('promoted', {}, {delay: 3600000}).then((job) => job.promote())",
    );
    stage.ended("later", 5, 0);
    for request in stage.got("later") {
        let id = request.header("Job-Id").unwrap();
        let hash = stage.hash("later", id);
        let number = |name: &str| hash[name].parse::<i64>().unwrap();
        let opts: serde_json::Value = serde_json::from_str(&hash["opts"]).unwrap();
        let wanted = if hash["name"] == "promoted" { 0 } else { opts["delay"].as_f64().unwrap() as i64 };
        let late = millis(request.at) - number("timestamp") - wanted;
        assert!((-2..LATEST).contains(&late), "`{}` came {late} ms after its time", hash["name"]);
        assert_eq!(number("delay"), 0, "it has no delay any more");
    }
    let names = stage.names("later");
    let place = |name: &str| names.iter().position(|other| other == name);
    assert!(place("first") < place("second"), "{names:?}");
    assert_eq!(fleet.stop(), 0);
}

fn paused(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let mut fleet = stage.fleet(&[("held", "concurrency: 2"), ("other", "")]);
    stage.run(
        "const held = kit.queue('held')
         await held.pause()
         await held.add('waits', {})
         await held.add('waits too', {}, {priority: 1})
         await held.add('comes due', {}, {delay: 200})",
    );
    // Long enough for the delayed one to come due, and proof that the fleet is at work.
    stage.run("await kit.sleep(300); await kit.queue('other').add('goes on', {})");
    stage.wait_for("other", 1);
    assert_eq!(stage.names("held"), Vec::<String>::new());
    assert_eq!(stage.run("return (await kit.queue('held').isPaused())"), json!(true));
    stage.run("await kit.queue('held').resume()");
    stage.ended("held", 3, 0);
    assert_eq!(fleet.stop(), 0);
}

fn many_at_once(library: Library) {
    const JOBS: usize = 200;
    let stage = Stage::new(library, |_| Answer::status(204));
    stage.run(&format!(
        "await kit.queue('many').addBulk(Array.from({{length: {JOBS}}}, (_, n) => ({{name: `n${{n}}`, data: {{n}}}})))"
    ));
    let mut fleet = stage.fleet(&[("many", "concurrency: 20")]);
    stage.wait_for("many", JOBS);
    eventually_completed(&stage, JOBS);
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut stage.redis.connection()).unwrap();
    let calls: usize = stats
        .lines()
        .filter(|line| line.starts_with("cmdstat_evalsha:"))
        .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<usize>().ok())
        .sum();
    // The producer's own are among them: one for each job.
    assert!(calls - JOBS < JOBS, "{} calls for {JOBS} jobs", calls - JOBS);
    let mut names = stage.names("many");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), JOBS, "each once");
    assert_eq!(fleet.stop(), 0);
}

/// Waits without asking Node, whose scripts would be counted.
fn eventually_completed(stage: &Stage, jobs: usize) {
    let mut redis = stage.redis.connection();
    qfleet_testkit::eventually(crate::support::SOON, "all to be completed", || {
        (redis.zcard::<_, usize>("bull:many:completed").unwrap() == jobs).then_some(())
    });
}
