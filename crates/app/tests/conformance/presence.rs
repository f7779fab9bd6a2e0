//! Workers of one queue are seen by the library's `getWorkers()`, and so by dashboards.

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage};

conforms!(every: seen);

fn seen(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    let mut fleet = stage.fleet(&[("seen", "numprocs: 2")]);
    stage.soon("two workers to be seen", "return (await kit.queue('seen').getWorkers()).length === 2");
    assert_eq!(stage.run("return (await kit.queue('other').getWorkers()).length"), json!(0));
    fleet.ok(&["scale", "seen=1"]);
    stage.soon("one worker to be seen", "return (await kit.queue('seen').getWorkers()).length === 1");
    assert_eq!(fleet.stop(), 0);
    stage.soon("none to be seen", "return (await kit.queue('seen').getWorkers()).length === 0");
}
