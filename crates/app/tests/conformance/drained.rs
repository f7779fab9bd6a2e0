//! `drained` is told when a queue has become empty, once each time, and not while something is to come.

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage};

conforms!(bullmq: when_empty);

fn when_empty(library: Library) {
    let stage = Stage::new(library, |_| Answer::status(204));
    let mut fleet = stage.fleet(&[("empties", "concurrency: 10, numprocs: 2")]);
    let drained = || stage.run("return kit.seen('empties').filter(([event]) => event === 'drained').length");
    let completed = |count: usize| {
        stage.soon(
            "the listener to hear of all",
            &format!(
                "return kit.seen('empties').filter(([event]) => event === 'completed').length === {count}"
            ),
        );
    };
    stage.run("await kit.listen('empties'); await kit.queue('empties').add('one', {})");
    completed(1);
    stage.soon("the first one", "return kit.seen('empties').some(([event]) => event === 'drained')");
    assert_eq!(drained(), json!(1));

    stage.run(
        "const later = await kit.queue('empties').add('later', {}, {delay: 3600000})
         kit.memory.later = later.id
         await kit.queue('empties').add('now', {})",
    );
    completed(2);
    stage.run("await kit.sleep(100)");
    assert_eq!(drained(), json!(1), "something is to come");
    stage.run("await (await kit.queue('empties').getJob(kit.memory.later)).promote()");
    completed(3);
    stage.soon(
        "the second one",
        "return kit.seen('empties').filter(([event]) => event === 'drained').length === 2",
    );
    assert_eq!(fleet.stop(), 0);
    assert_eq!(drained(), json!(2));
}
