//! Flows: what the end of a child does to its parent.

use std::time::Duration;

use qfleet_manifest::queue::NodeRules;
use qfleet_model::outcome::{Output, Verdict};
use qfleet_queue::driver::LaneId;
use serde_json::{Value, json};

use crate::contract::{job_of, names, settle, take, take_one};
use crate::rig::{NodeRig, bury, complete, open, retry};

const KIDS: LaneId = LaneId(0);
const PARENTS: LaneId = LaneId(1);

#[tokio::test]
async fn results_reach_the_parent() {
    for library in ["bullmq", "bullmq6"] {
        let rig = NodeRig::bullmq();
        let node = rig.node(library);
        node.run(
            "await kit.flow().add({name: 'p', queueName: 'parents', opts: {jobId: 'P'}, children: [
               {name: 'a', queueName: 'kids', opts: {jobId: 'A', attempts: 2}}, {name: 'b', queueName: 'kids', opts: {jobId: 'B'}}]})",
        );
        let lanes: [(&str, &[&str]); 2] = [("kids", &["kids"]), ("parents", &["parents"])];
        let driver = open(rig.connection(), &lanes, 1, &NodeRules::default());
        assert!(take(&*driver, PARENTS, 1).await.jobs.is_empty());
        let mut kids = take(&*driver, KIDS, 5).await.jobs;
        kids.sort_by_key(|kid| job_of(kid).name.clone());
        settle(&*driver, &kids[0], retry(Duration::ZERO, "once")).await;
        settle(&*driver, &kids[1], complete(r#"{"from":"b"}"#)).await;
        assert!(take(&*driver, PARENTS, 1).await.jobs.is_empty(), "a child is still at work");
        let again = take_one(&*driver, KIDS).await;
        settle(&*driver, &again, Verdict::Complete { result: Some(Output::Text("from a".into())) }).await;
        let parent = take_one(&*driver, PARENTS).await;
        let values = node.run("return await (await kit.queue('parents').getJob('P')).getChildrenValues()");
        assert_eq!(values, json!({"bull:kids:A": "from a", "bull:kids:B": {"from": "b"}}), "{library}");
        settle(&*driver, &parent, complete("1")).await;
        assert_eq!(
            node.run("return await (await kit.queue('parents').getJob('P')).getState()"),
            json!("completed")
        );
    }
}

/// What becomes of the parent when its first child fails for good, with our worker and with the library's.
#[tokio::test]
async fn failures_reach_the_parent_as_the_child_wants() {
    let state = "const job = await kit.queue('parents').getJob('P');
        const counts = await job.getDependenciesCount({processed: true, unprocessed: true, ignored: true, failed: true});
        return [await job.getState(), counts, (await kit.queue('parents').getJob('P')).failedReason ?? null]";
    for flag in [
        "failParentOnFailure",
        "continueParentOnFailure",
        "ignoreDependencyOnFailure",
        "removeDependencyOnFailure",
        "none",
    ] {
        let mut ends: Vec<[Value; 3]> = Vec::new();
        for ours in [false, true] {
            let rig = NodeRig::bullmq();
            let node = rig.node("bullmq");
            node.run(&format!(
                "await kit.flow().add({{name: 'p', queueName: 'parents', opts: {{jobId: 'P'}}, children: [
                   {{name: 'a', queueName: 'kids', opts: {{jobId: 'A', {flag}: true}}}}, {{name: 'b', queueName: 'kids', opts: {{jobId: 'B', delay: 60000}}}}]}})"
            ));
            let lanes: [(&str, &[&str]); 2] = [("kids", &["kids"]), ("parents", &["parents"])];
            let driver = open(rig.connection(), &lanes, 1, &NodeRules::default());
            let work = |queue: &str| {
                node.run(&format!(
                    "const w = await kit.worker('{queue}', async (job) => {{ if (job.name === 'a') throw new Error('bad'); return 1 }});
                     await kit.until(async () => {{
                       const {{wait, waiting, active, prioritized}} = await kit.queue('{queue}').getJobCounts()
                       return !wait && !waiting && !active && !prioritized
                     }})
                     await w.close()"
                ))
            };
            if ours {
                let kid = take_one(&*driver, KIDS).await;
                settle(&*driver, &kid, bury("bad")).await;
            } else {
                work("kids");
            }
            let after_a = node.run(state);
            node.run("const b = await kit.queue('kids').getJob('B'); await b.promote()");
            if ours {
                let kid = take_one(&*driver, KIDS).await;
                settle(&*driver, &kid, complete("1")).await;
            } else {
                work("kids");
            }
            let after_b = node.run(state);
            if ours {
                for job in &take(&*driver, PARENTS, 5).await.jobs {
                    assert_eq!(names(std::slice::from_ref(job)), ["p"]);
                    settle(&*driver, job, complete("1")).await;
                }
            } else {
                work("parents");
            }
            ends.push([after_a, after_b, node.run(state)]);
        }
        assert_eq!(ends[0], ends[1], "{flag}: theirs (left), ours (right)");
    }
}

/// The script that did not know how to part a parent from a child that makes room failed with all its verdicts.
#[tokio::test]
async fn finished_children_make_room_for_later_ones() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run(
        "const opts = {removeOnComplete: 1}
         await kit.flow().add({name: 'p', queueName: 'parents', opts: {jobId: 'P'}, children: [1, 2, 3].map((n) =>
           ({name: `k${n}`, queueName: 'kids', opts}))})",
    );
    let lanes: [(&str, &[&str]); 2] = [("kids", &["kids"]), ("parents", &["parents"])];
    let driver = open(rig.connection(), &lanes, 1, &NodeRules::default());
    for kid in take(&*driver, KIDS, 3).await.jobs {
        settle(&*driver, &kid, complete("1")).await;
    }
    assert_eq!(node.run("return await kit.queue('kids').getCompletedCount()"), json!(1));
    assert_eq!(take_one(&*driver, PARENTS).await.job.unwrap().name, "p");
}

#[tokio::test]
async fn a_removed_child_releases_its_parent() {
    let rig = NodeRig::bullmq();
    let node = rig.node("bullmq");
    node.run(
        "await kit.flow().add({name: 'p', queueName: 'parents', children: [
           {name: 'a', queueName: 'kids', opts: {removeOnFail: true}}, {name: 'b', queueName: 'kids', opts: {removeOnComplete: true}}]})",
    );
    let lanes: [(&str, &[&str]); 2] = [("kids", &["kids"]), ("parents", &["parents"])];
    let driver = open(rig.connection(), &lanes, 1, &NodeRules::default());
    for job in &take(&*driver, KIDS, 5).await.jobs {
        settle(&*driver, job, if job_of(job).name == "a" { bury("bad") } else { complete("1") }).await;
    }
    take_one(&*driver, PARENTS).await;
}
