//! What we leave in Redis for a job and tell its listeners, compared with what the library's own worker does for the same
//! job.

use std::time::Duration;

use qfleet_manifest::queue::NodeRules;
use qfleet_model::outcome::Verdict;

use crate::rig::{bury, complete, retry};
use crate::story::{STORY, Story, plain, same};

#[tokio::test]
async fn completed_jobs() {
    let story = Story {
        add: "await queue.add('a', {who: 'ann', e: [], n: 1.5}); await queue.add({who: 'bob'}, {jobId: 'mine'});
            await queue.add('nothing', null)",
        process: "if (job.name !== 'nothing') return {hello: job.data.who}",
        verdicts: 3,
        ..STORY
    };
    same(story, &plain(), |job| match job.name.as_str() {
        "a" => complete(r#"{"hello":"ann"}"#),
        "__default__" => complete(r#"{"hello":"bob"}"#),
        _ => Verdict::Complete { result: None },
    })
    .await;
}

#[tokio::test]
async fn jobs_retried_at_once_and_failed() {
    let story = Story {
        add: "await queue.add('bad', {}, {attempts: 2}); await queue.add('worse', {}, {attempts: 5, stackTraceLimit: 1});
            await queue.add('once', {})",
        process: "if (job.name === 'worse' && job.attemptsMade === 1) throw kit.unrecoverable(job, 'no way');
            fail('bad ' + (job.attemptsMade + 1))",
        verdicts: 5,
        ..STORY
    };
    same(story, &plain(), |job| match (job.name.as_str(), job.attempt) {
        ("once", _) => {
            assert_eq!(job.limits.tries, Some(1));
            bury("bad 1")
        }
        (_, 1) => retry(Duration::ZERO, "bad 1"),
        ("bad", _) => bury("bad 2"),
        _ => bury("no way"),
    })
    .await;
}

#[tokio::test]
async fn removed_jobs() {
    let story = Story {
        add: "await queue.add('gone', {}, {removeOnComplete: true}); await queue.add('gone too', {}, {removeOnFail: true});
            for (let i = 0; i < 4; i++) await queue.add('two ' + i, {}, {removeOnComplete: {count: 2}});
            await queue.add('age', {}, {removeOnComplete: {age: 100}}); await queue.add('one', {}, {removeOnComplete: 1});
            await queue.add('kept', {}, {removeOnComplete: false}); await queue.add('failed', {}, {removeOnFail: 3})",
        // Which of two jobs is the older one depends on the clock.
        process: "await kit.sleep(3); if (job.name === 'gone too' || job.name === 'failed') fail('bad')",
        verdicts: 10,
        ..STORY
    };
    same(story, &plain(), |job| {
        std::thread::sleep(Duration::from_millis(3));
        if ["gone too", "failed"].contains(&job.name.as_str()) {
            bury("bad")
        } else {
            Verdict::Complete { result: None }
        }
    })
    .await;
}

#[tokio::test]
async fn metrics_and_debounced_jobs() {
    let story = Story {
        add: "await queue.add('a', {}, {debounce: {id: 'x'}}); await queue.add('b', {}, {debounce: {id: 'x'}});
            await queue.add('c', {}, {debounce: {id: 'y', ttl: 60000}}); await queue.add('d', {}, {attempts: 1})",
        process: "if (job.name === 'd') fail('bad'); return 1",
        options: "{metrics: {maxDataPoints: 60}}",
        verdicts: 3,
        ..STORY
    };
    let settings = NodeRules { metrics: 60, ..plain() };
    same(story, &settings, |job| if job.name == "d" { bury("bad") } else { complete("1") }).await;
}
