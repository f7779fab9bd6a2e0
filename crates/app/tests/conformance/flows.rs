//! Flows: children's results reach their parent, and a child that failed does to it what its options say.

use qfleet_testkit::Answer;
use serde_json::json;

use crate::stage::{Library, Stage, job};

conforms!(bullmq: results_reach_parents, failures_reach_parents, with_the_librarys_worker);

fn results_reach_parents(library: Library) {
    let stage = Stage::new(library, |request| {
        Answer::ok()
            .header("Content-Type", "application/json")
            .body(format!(r#"{{"of": "{}"}}"#, job(request)))
    });
    let mut fleet = stage.fleet(&[("parents", ""), ("children", "concurrency: 3")]);
    let value = stage.run(
        "await kit.listen('parents')
         const tree = await kit.flow().add({name: 'sum', queueName: 'parents', data: {}, opts: {priority: 4}, children: [
           {name: 'a', queueName: 'children', data: {}},
           {name: 'b', queueName: 'children', data: {}, opts: {delay: 150}},
           {name: 'c', queueName: 'children', data: {}, opts: {removeOnComplete: true}},
           {name: 'inner', queueName: 'parents', data: {}, children: [{name: 'leaf', queueName: 'children', data: {}}]},
         ]})
         await kit.finished(tree.job)
         const sum = await kit.queue('parents').getJob(tree.job.id)
         return {values: Object.values(await sum.getChildrenValues()).map((value) => value.of).sort(),
           state: await sum.getState(), left: await sum.getDependenciesCount()}",
    );
    assert_eq!(value["values"], json!(["a", "b", "c", "inner"]));
    assert_eq!(value["state"], "completed");
    assert_eq!(value["left"], json!({"processed": 4, "unprocessed": 0, "failed": 0, "ignored": 0}));
    assert_eq!(stage.names("parents"), ["inner", "sum"], "parents run after their children");
    let waiting = stage.run(
        "return kit.seen('parents').filter(([event]) => event === 'waiting' || event === 'waiting-children')
           .map(([event, {prev}]) => [event, prev ?? null])",
    );
    // Both wait for children, then both are released.
    let released = json!(["waiting", "waiting-children"]);
    assert_eq!(waiting, json!([["waiting-children", null], ["waiting-children", null], released, released]));
    assert_eq!(fleet.stop(), 0);
}

fn failures_reach_parents(library: Library) {
    let stage = Stage::new(library, |request| {
        if job(request) == "bad" { Answer::status(422).body("no such customer") } else { Answer::ok() }
    });
    let mut fleet = stage.fleet(&[("parents", ""), ("children", "")]);
    let ids = stage.run(
        "const ways = ['failParentOnFailure', 'ignoreDependencyOnFailure', 'removeDependencyOnFailure',
           'continueParentOnFailure', 'none']
         const ids = {}
         for (const way of ways) {
           const opts = way === 'none' ? {} : {[way]: true}
           const tree = await kit.flow().add({name: way, queueName: 'parents', data: {}, opts: {attempts: 3}, children: [
             {name: 'bad', queueName: 'children', data: {}, opts: {attempts: 2, ...opts}}]})
           ids[way] = [tree.job.id, tree.children[0].job.id]
         }
         // A failure goes up as far as it is told to.
         const fail = {failParentOnFailure: true}
         const top = await kit.flow().add({name: 'top', queueName: 'parents', data: {}, children: [
           {name: 'middle', queueName: 'parents', data: {}, opts: fail, children: [
             {name: 'bad', queueName: 'children', data: {}, opts: fail}]}]})
         ids.top = [top.job.id, top.children[0].job.id]
         return ids",
    );
    stage.ended("children", 0, 6);
    stage.ended("parents", 3, 3);
    let of = |way: &str| {
        let id = &ids[way][0];
        stage.run(&format!(
            "const job = await kit.queue('parents').getJob({id})
             return {{state: await job.getState(), reason: job.failedReason ?? null, made: job.attemptsMade,
               ignored: Object.values(await job.getIgnoredChildrenFailures()), values: await job.getChildrenValues()}}"
        ))
    };
    let failed = of("failParentOnFailure");
    let child = ids["failParentOnFailure"][1].as_str().unwrap();
    assert_eq!((&failed["state"], &failed["made"]), (&json!("failed"), &json!(1)));
    assert_eq!(failed["reason"], format!("child bull:children:{child} failed"));
    for (way, ignored) in [
        ("ignoreDependencyOnFailure", json!(["no such customer"])),
        ("removeDependencyOnFailure", json!([])),
        ("continueParentOnFailure", json!(["no such customer"])),
    ] {
        let parent = of(way);
        assert_eq!((&parent["state"], &parent["ignored"]), (&json!("completed"), &ignored), "{way}");
        assert_eq!(parent["values"], json!({}), "{way}");
    }
    assert_eq!(
        of("none")["state"],
        "waiting-children",
        "it waits until somebody retries or removes the child"
    );
    let middle = ids["top"][1].as_str().unwrap();
    assert_eq!(of("top")["reason"], format!("child bull:parents:{middle} failed"));
    let mut ran = stage.names("parents");
    ran.sort_unstable();
    assert_eq!(ran, ["continueParentOnFailure", "ignoreDependencyOnFailure", "removeDependencyOnFailure"]);

    stage.run(&format!(
        "const child = await kit.queue('children').getJob({}); await child.remove()",
        ids["none"][1]
    ));
    stage.ended("parents", 4, 3);
    assert_eq!(fleet.stop(), 0);
}

fn with_the_librarys_worker(library: Library) {
    let stage = Stage::new(library, |request| {
        Answer::ok().header("Content-Type", "application/json").body(format!("\"ours: {}\"", job(request)))
    });
    let mut fleet = stage.fleet(&[("ours", "")]);
    let values = stage.run(
        "await kit.listen('ours'); await kit.listen('theirs')
         await kit.worker('theirs', async (job) =>
           job.name === 'parent' ? Object.values(await job.getChildrenValues()) : 'theirs: ' + job.name)
         const tree = (parents, children) => ({name: 'parent', queueName: parents, data: {}, children:
           ['a', 'b'].map((name) => ({name, queueName: children, data: {}}))})
         const [one, other] = await kit.flow().addBulk([tree('theirs', 'ours'), tree('ours', 'theirs')])
         const theirs = await kit.finished(one.job)
         await kit.finished(other.job)
         const ours = await (await kit.queue('ours').getJob(other.job.id)).getChildrenValues()
         return {theirs: theirs.sort(), ours: Object.values(ours).sort()}",
    );
    assert_eq!(values, json!({"theirs": ["ours: a", "ours: b"], "ours": ["theirs: a", "theirs: b"]}));
    assert_eq!(fleet.stop(), 0);
}
