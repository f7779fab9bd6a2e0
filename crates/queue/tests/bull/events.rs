//! What the library's producers and listeners see of jobs we work.

use std::time::Duration;

use qfleet_model::outcome::{Output, Verdict};
use serde_json::json;

use crate::contract::{job_of, settle, take_one, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, bury, complete, retry, soon};

#[tokio::test]
async fn a_listener_sees_what_happens_to_jobs() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run("await kit.listen('demo')");
    node.run(
        "await kit.queue('demo').add('a', {who: 'ann'}, {attempts: 2}); await kit.queue('demo').add('b', {})",
    );
    let driver = rig.worker(1);
    let job = take_one(&*driver, DEMO).await;
    assert_eq!(job_of(&job).payload, br#"{"who":"ann"}"#);
    let other = take_one(&*driver, DEMO).await;
    settle(&*driver, &job, retry(Duration::from_millis(5), "not yet")).await;
    settle(&*driver, &other, bury("never")).await;
    let again = take_soon(&*driver, DEMO, SOON).await;
    settle(&*driver, &again, Verdict::Complete { result: Some(Output::Text("say \"hi\"".into())) }).await;
    let seen = soon(
        &node,
        "the events",
        "const seen = kit.seen('demo'); return seen.some(([event]) => event === 'completed') && seen",
    );
    let expected = json!([
        ["waiting", {"jobId": "1"}],
        ["waiting", {"jobId": "2"}],
        ["active", {"jobId": "1"}],
        ["active", {"jobId": "2"}],
        ["failed", {"jobId": "2", "failedReason": "never"}],
        ["waiting", {"jobId": "1"}],
        ["active", {"jobId": "1"}],
        ["completed", {"jobId": "1", "returnvalue": "say \"hi\""}],
    ]);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn producers_learn_how_their_jobs_ended() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "const ended = async (name) => (await kit.queue('demo').add(name, {})).finished().then((value) => ({value: value ?? null}), (error) => ({error: error.message}));
         kit.memory.results = Promise.all(['good', 'nothing', 'bad'].map(ended))",
    );
    let driver = rig.worker(1);
    for _ in 0..3 {
        let job = take_soon(&*driver, DEMO, SOON).await;
        let verdict = match job_of(&job).name.as_str() {
            "good" => complete(r#"{"ok":[1,2]}"#),
            "bad" => bury("never"),
            _ => Verdict::Complete { result: None },
        };
        settle(&*driver, &job, verdict).await;
    }
    let results = node.run("return await kit.memory.results");
    assert_eq!(results, json!([{"value": {"ok": [1, 2]}}, {"value": null}, {"error": "never"}]));
}

#[tokio::test]
async fn limits_are_the_jobs_own() {
    let rig = NodeRig::bull();
    let node = rig.node("bull");
    node.run(
        "const queue = kit.queue('demo');
         await queue.add('a', {}, {attempts: 4, timeout: 1500, backoff: {type: 'exponential', delay: 100}});
         await queue.add('b', {}, {attempts: 4, backoff: {type: 'mine'}}); await queue.add('c', {n: 1}, {preventParsingData: true})",
    );
    let driver = rig.worker(1);
    for (tries, timeout, backoff, unknown) in
        [(4, Some(1500), Some([100, 300, 700]), None), (4, None, None, Some("mine")), (1, None, None, None)]
    {
        let job = take_one(&*driver, DEMO).await;
        let limits = &job_of(&job).limits;
        assert_eq!(limits.tries, Some(tries));
        assert_eq!(limits.timeout, timeout.map(Duration::from_millis));
        assert_eq!(limits.unknown_backoff.as_deref(), unknown);
        let Some(pauses) = backoff else { continue };
        let mut job = job;
        for (attempt, pause) in (1..).zip(pauses) {
            let rule = job_of(&job).limits.backoff.clone().unwrap();
            assert_eq!((job_of(&job).attempt, rule.after(attempt)), (attempt, Duration::from_millis(pause)));
            if attempt < 3 {
                settle(&*driver, &job, retry(Duration::ZERO, "again")).await;
                // The others were there first.
                let mut others = crate::contract::take(&*driver, DEMO, 3).await.jobs;
                job = others.pop().unwrap();
                for other in others.iter().rev() {
                    settle(&*driver, other, Verdict::GiveBack).await;
                }
            }
        }
        settle(&*driver, &job, complete("1")).await;
    }
}
