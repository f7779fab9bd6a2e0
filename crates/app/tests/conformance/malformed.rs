//! What somebody has spoilt: the other jobs go on, the spoilt one is where its owner looks for it, or the log tells of it.

use qfleet_testkit::{Answer, eventually};
use redis::Commands as _;
use serde_json::{Value, json};

use crate::stage::{Library, Stage, job};
use crate::support::{Fleet, SOON};

conforms!(every: spoilt_jobs, a_stolen_lock, a_key_of_another_type);

fn spoilt_jobs(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    stage.run(
        "for (const name of ['before', 'no data', 'no options']) await kit.queue('shop').add(name, {name}, {jobId: name})
         const redis = kit.redis()
         await redis.hset('bull:shop:no data', 'data', '{\"half')
         await redis.hset('bull:shop:no options', 'opts', '\\\\x00[not options')
         await redis.lpush('bull:shop:wait', 'no job')
         await redis.set('bull:shop:no hash', 'text')
         await redis.lpush('bull:shop:wait', 'no hash')
         await kit.queue('shop').add('after', {})",
    );
    let mut fleet = stage.fleet(&[("shop", "")]);
    stage.ended("shop", 3, 1);
    assert_eq!(stage.names("shop"), ["before", "no options", "after"]);

    let failed = stage.run("const [id] = await kit.redis().zrange('bull:shop:failed', 0, -1); return id");
    assert_eq!(failed, json!("no data"), "in the library's failed set");
    let listed: Vec<Value> = serde_json::from_str(&fleet.ok(&["failed", "list", "--json"])).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["name"], &listed[0]["queue"]), (&json!("no data"), &json!("shop")));
    assert!(listed[0]["reason"].as_str().unwrap().contains("not valid JSON"), "{listed:?}");
    let shown = fleet.ok(&["failed", "show", listed[0]["id"].as_str().unwrap()]);
    assert!(shown.contains(r#"{"half"#), "{shown}");

    let mut redis = stage.redis.connection();
    assert_eq!(redis.get::<_, String>("bull:shop:no hash").unwrap(), "text", "left alone");
    for list in ["wait", "active"] {
        assert_eq!(redis.llen::<_, usize>(format!("bull:shop:{list}")).unwrap(), 0, "{list}");
    }
    // Mended, it can be run.
    stage.run("await kit.redis().hset('bull:shop:no data', 'data', '{}')");
    fleet.ok(&["failed", "retry", listed[0]["id"].as_str().unwrap()]);
    stage.ended("shop", 4, 0);
    assert_eq!(fleet.stop(), 0);
}

/// Whoever has the lock has the job: what our handler made of it no longer counts.
fn a_stolen_lock(library: Library) {
    let stage = Stage::new(library, |request| match request.header("Job-Previous-Status") {
        None if job(request) == "stolen" => Answer::never(),
        _ => Answer::status(204),
    });
    stage.run("await kit.listen('shop')");
    let mut fleet = stage.fleet(&[("shop", "concurrency: 2, stalled-interval: 1, lock-duration: 3")]);
    stage.run("await kit.queue('shop').add('stolen', {})");
    stage.wait_for("shop", 1);
    let mut redis = stage.redis.connection();
    redis.pset_ex::<_, _, ()>("bull:shop:1:lock", "a thief", 600_000).unwrap();
    eventually(SOON, "word of the loss", || fleet.log().contains("another worker has the job").then_some(()));
    stage.run("await kit.queue('shop').add('other', {})");
    stage.ended("shop", 1, 0);
    assert_eq!(stage.run("return await kit.queue('shop').getActiveCount()"), 1, "the thief has it");
    // The thief dies, and the job is stalled.
    redis.del::<_, ()>("bull:shop:1:lock").unwrap();
    stage.ended("shop", 2, 0);
    let completed = stage.heard("shop", "completed", 2);
    assert_eq!((completed, stage.got("shop").len()), (2, 3), "completed once, though begun twice");
    assert_eq!(fleet.stop(), 0);
}

/// It stops its queue alone, and is named; when it is mended the queue goes on by itself.
fn a_key_of_another_type(library: Library) {
    let stage = Stage::new(library, |_| Answer::ok());
    stage.run(
        "for (const name of ['spoilt', 'sound']) await kit.queue(name).add('job', {}, {jobId: 'one'})
         await kit.redis().rename('bull:spoilt:wait', 'aside')
         await kit.redis().set('bull:spoilt:wait', 'text')",
    );
    let mut manifest = stage.manifest(&[("spoilt", ""), ("sound", "")]).replace("sleep: 60, ", "");
    manifest.push_str("pools:\n  both: {queues: [spoilt, sound], sleep: 1}\n");
    let mut fleet = Fleet::start_and_wait(&manifest);
    stage.ended("sound", 1, 0);
    eventually(SOON, "word of the key", || fleet.log().contains("bull:spoilt:wait").then_some(()));
    assert_eq!(stage.got("spoilt").len(), 0);
    stage.run(
        "await kit.redis().del('bull:spoilt:wait'); await kit.redis().rename('aside', 'bull:spoilt:wait')",
    );
    stage.ended("spoilt", 1, 0);
    stage.run("await kit.queue('sound').add('job', {})");
    stage.ended("sound", 2, 0);
    assert_eq!(fleet.stop(), 0);
}
