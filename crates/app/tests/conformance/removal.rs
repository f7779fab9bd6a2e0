//! What stays of ended jobs: as the job says, else as the manifest says, else all.

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage, job};

conforms!(every: as_jobs_say, as_the_manifest_says, by_age);

fn answer(request: &qfleet_testkit::Received) -> Answer {
    if job(request).starts_with("bad") { Answer::status(422) } else { Answer::ok() }
}

/// Names of what is left, and of the keys beside the sets.
fn left(stage: &Stage, queue: &str) -> serde_json::Value {
    stage.run(&format!(
        "const names = async (jobs) => (await jobs).map((job) => job.name).sort()
         return {{completed: await names(kit.queue('{queue}').getCompleted()),
           failed: await names(kit.queue('{queue}').getFailed()),
           jobs: (await kit.redis().keys('bull:{queue}:[0-9]*')).length}}"
    ))
}

fn as_jobs_say(library: Library) {
    let stage = Stage::new(library, answer);
    let mut fleet = stage.fleet(&[("kept", "keep-completed: 1, keep-failed: 1"), ("gone", ""), ("few", "")]);
    stage.run(
        "await kit.queue('gone').pause()
         for (let n = 0; n < 3; n++) {
           await kit.queue('kept').add('ok' + n, {}, {removeOnComplete: false})
           await kit.queue('kept').add('bad' + n, {}, {removeOnFail: false})
           const logged = await kit.queue('gone').add('ok' + n, {}, {removeOnComplete: true})
           await logged.log('a row')
           await kit.queue('gone').add('bad' + n, {}, {removeOnFail: true})
         }
         await kit.queue('gone').resume()
         for (let n = 0; n < 5; n++) {
           await kit.queue('few').add('ok' + n, {}, {removeOnComplete: 2, removeOnFail: {count: 3}})
           await kit.queue('few').add('bad' + n, {}, {removeOnComplete: 2, removeOnFail: {count: 3}})
         }",
    );
    stage.wait_for("kept", 6);
    stage.wait_for("gone", 6);
    stage.wait_for("few", 10);
    stage.soon("all to be settled", "return (await Promise.all(['kept', 'gone', 'few'].map((name) => kit.queue(name).getActiveCount()))).every((count) => count === 0)");
    assert_eq!(
        left(&stage, "kept"),
        json!({"completed": ["ok0", "ok1", "ok2"], "failed": ["bad0", "bad1", "bad2"], "jobs": 6})
    );
    assert_eq!(left(&stage, "gone"), json!({"completed": [], "failed": [], "jobs": 0}));
    assert_eq!(
        left(&stage, "few"),
        json!({"completed": ["ok3", "ok4"], "failed": ["bad2", "bad3", "bad4"], "jobs": 5})
    );
    assert_eq!(fleet.stop(), 0);
}

fn as_the_manifest_says(library: Library) {
    let stage = Stage::new(library, answer);
    let mut fleet =
        stage.fleet(&[("few", "keep-completed: {count: 2, age: 1h}, keep-failed: 1"), ("every", "")]);
    stage.run(
        "for (const name of ['few', 'every'])
           for (let n = 0; n < 4; n++) for (const kind of ['ok', 'bad']) await kit.queue(name).add(kind + n, {})",
    );
    stage.wait_for("few", 8);
    stage.soon("all to be settled", "return await kit.queue('few').getActiveCount() === 0");
    stage.ended("every", 4, 4);
    stage.ended("few", 2, 1);
    assert_eq!(left(&stage, "few"), json!({"completed": ["ok2", "ok3"], "failed": ["bad3"], "jobs": 3}));
    assert_eq!(fleet.stop(), 0);
}

fn by_age(library: Library) {
    let stage = Stage::new(library, answer);
    let mut fleet = stage.fleet(&[("aged", "")]);
    let add = |when: &str| {
        stage.run(&format!(
            "for (const name of ['ok {when}', 'bad {when}'])
               await kit.queue('aged').add(name, {{}}, {{removeOnComplete: {{age: 1}}, removeOnFail: {{age: 1}}}})"
        ));
    };
    add("old");
    stage.ended("aged", 1, 1);
    stage.run("await kit.sleep(1300)");
    add("new");
    stage.wait_for("aged", 4);
    stage.soon("all to be settled", "return await kit.queue('aged').getActiveCount() === 0");
    assert_eq!(left(&stage, "aged"), json!({"completed": ["ok new"], "failed": ["bad new"], "jobs": 2}));
    assert_eq!(fleet.stop(), 0);
}
