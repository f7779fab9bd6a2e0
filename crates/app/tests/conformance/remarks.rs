//! What a handler says while it works: how far it is, and lines for the job's log.

use serde_json::json;

use crate::stage::{Library, Stage};

conforms!(every: seen_while_it_runs, as_the_librarys_worker_leaves_them);

/// A shell handler's settings, running this script.
fn shell(script: &str) -> String {
    format!("handler: {{shell: {{shell: '{}'}}}}", script.replace('$', "$$").replace('\'', "''"))
}

fn seen_while_it_runs(library: Library) {
    let stage = Stage::new(library, |_| qfleet_testkit::Answer::ok());
    let go = stage.redis.dir().join("go");
    let script = format!(
        "echo '{{\"progress\":{{\"done\":1,\"of\":4}}}}' >&3; echo '{{\"log\":\"began\"}}' >&3; \
         while [ ! -e {} ]; do sleep 0.02; done; echo '{{\"progress\":100}}' >&3",
        go.display()
    );
    let mut fleet = stage.fleet(&[("told", shell(&script).as_str())]);
    stage.run("await kit.listen('told'); await kit.queue('told').add('a', {})");
    let half = stage.soon(
        "a word of the job",
        "const told = kit.queue('told')
         const {logs} = await told.getJobLogs('1')
         const job = await told.getJob('1')
         return logs.length > 0 && {logs, progress: job.progress instanceof Function ? job.progress() : job.progress}",
    );
    assert_eq!(half, json!({"logs": ["began"], "progress": {"done": 1, "of": 4}}));
    std::fs::write(go, "").unwrap();
    stage.ended("told", 1, 0);
    let heard = stage.soon(
        "the listener to hear of the end",
        "const heard = kit.seen('told').filter(([event]) => event === 'progress' || event === 'completed')
         return heard.some(([event]) => event === 'completed') && heard.map(([event, {data}]) => [event, data ?? null])",
    );
    assert_eq!(heard, json!([["progress", {"done": 1, "of": 4}], ["progress", 100], ["completed", null]]));
    assert_eq!(fleet.stop(), 0);
}

fn as_the_librarys_worker_leaves_them(library: Library) {
    let stage = Stage::new(library, |_| qfleet_testkit::Answer::ok());
    stage.run(
        "await kit.worker('theirs', async (job) => {
           for (const row of ['one', 'two', 'grün ☃']) await job.log(row)
           await kit.progress(job, {done: 3})
         })",
    );
    let script = "for row in one two 'grün ☃'; do echo \"{\\\"log\\\":\\\"$row\\\"}\" >&3; done; echo '{\"progress\":{\"done\":3}}' >&3";
    let mut fleet = stage.fleet(&[("ours", shell(script).as_str())]);
    let left = |queue: &str| {
        stage.run(&format!(
            "await kit.queue('{queue}').add('all', {{}}, {{jobId: 'all'}})
             await kit.queue('{queue}').add('few', {{}}, {{jobId: 'few', keepLogs: 2}})
             await kit.until(async () => await kit.queue('{queue}').getCompletedCount() === 2)
             const of = async (id) => [await kit.redis().lrange('bull:{queue}:' + id + ':logs', 0, -1),
               await kit.redis().hget('bull:{queue}:' + id, 'progress')]
             return {{all: await of('all'), few: await of('few')}}"
        ))
    };
    let theirs = left("theirs");
    assert_eq!(left("ours"), theirs);
    assert_eq!(theirs["all"], json!([["one", "two", "grün ☃"], "{\"done\":3}"]));
    assert_eq!(fleet.stop(), 0);
}
