//! Deduplicated jobs: a name is held while its job is under way, and free when that has ended.

use qfleet_testkit::{Answer, Gate};
use serde_json::json;

use crate::stage::{Library, Stage, job};

conforms!(every: free_after_the_end);
conforms!(bullmq: last_of_those_that_came_meanwhile);

fn free_after_the_end(library: Library) {
    let stage = Stage::new(library, |request| match job(request) {
        "first" if request.header("Job-Attempt") == Some("1") => Answer::status(500),
        "bad" => Answer::status(422),
        _ => Answer::ok(),
    });
    let mut fleet = stage.fleet(&[("once", "")]);
    let option = if library.is_bull() { "debounce" } else { "deduplication" };
    let ids = stage.run(&format!(
        "const once = kit.queue('once')
         const add = async (name, opts) => (await once.add(name, {{}}, {{{option}: {{id: 'customer 7'}}, ...opts}})).id
         const ids = [await add('first', {{attempts: 2, backoff: 3600000}})]
         await kit.until(async () => await once.getDelayedCount() === 1)
         ids.push(await add('meanwhile'))
         await (await once.getJob(ids[0])).promote()
         await kit.until(async () => await once.getCompletedCount() === 1)
         ids.push(await add('bad'))
         await kit.until(async () => await once.getFailedCount() === 1)
         ids.push(await add('after'))
         const throttled = async () => (await once.add('throttled', {{}}, {{{option}: {{id: 'customer 8', ttl: 60000}}}})).id
         ids.push(await throttled())
         await kit.until(async () => await once.getCompletedCount() === 3)
         ids.push(await throttled())
         return ids"
    ));
    let ids: Vec<&str> = ids.as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids[0], ids[1], "it was under way");
    assert!(ids[2] != ids[0] && ids[3] != ids[2], "it was free again");
    assert_eq!(ids[4], ids[5], "held for its time");
    assert_eq!(stage.names("once"), ["first", "first", "bad", "after", "throttled"]);
    assert_eq!(fleet.stop(), 0);
}

fn last_of_those_that_came_meanwhile(library: Library) {
    let all_there = Gate::new();
    let stage = Stage::new(library, {
        let all_there = all_there.clone();
        move |request| match job(request) {
            "first" => Answer::ok().behind(&all_there),
            _ => Answer::ok(),
        }
    });
    let mut fleet = stage.fleet(&[("once", "")]);
    stage.run(
        "const once = kit.queue('once')
         const add = (name, data) => once.add(name, data, {deduplication: {id: 'x', keepLastIfActive: true}})
         await add('first', {n: 0})
         await kit.until(async () => await once.getActiveCount() === 1)
         for (const n of [1, 2, 3]) await add('again', {n})",
    );
    all_there.open();
    stage.ended("once", 2, 0);
    let got = stage.got("once");
    assert_eq!(
        got.iter().map(|request| request.body.as_slice()).collect::<Vec<_>>(),
        [br#"{"n":0}"#, br#"{"n":3}"#]
    );
    let held = stage.run("return (await kit.redis().keys('bull:once:d[en]:*'))");
    assert_eq!(held, json!([]), "the name is free");
    assert_eq!(fleet.stop(), 0);
}
