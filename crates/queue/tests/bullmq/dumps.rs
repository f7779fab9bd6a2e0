//! What we leave in Redis for a job, compared field by field with what the library's own worker leaves for the same job.

use std::time::Duration;

use qfleet_model::job::Job;
use qfleet_model::outcome::Verdict;
use qfleet_queue::{Keep, NodeSettings};

use crate::rig::{bury, complete, retry};
use crate::story::Story;

async fn same(story: Story<'_>, settings: &NodeSettings, verdict: impl Fn(&Job) -> Verdict) {
    for library in ["bullmq", "bullmq6"] {
        story.is_the_same(library, settings, &verdict).await;
    }
}

fn plain() -> NodeSettings {
    NodeSettings::default()
}

#[tokio::test]
async fn completed_jobs() {
    let story = Story {
        add: "await queue.add('a', {who: 'ann', e: [], n: 1.5}); await queue.add('b', {who: 'bob'}, {jobId: 'mine'})",
        process: "return {hello: job.data.who}",
        options: "{}",
        verdicts: 2,
    };
    same(story, &plain(), |job| {
        complete(if job.name == "a" { r#"{"hello":"ann"}"# } else { r#"{"hello":"bob"}"# })
    })
    .await;
}

#[tokio::test]
async fn jobs_retried_at_once_and_failed() {
    let story = Story {
        add: "await queue.add('bad', {}, {attempts: 2}); await queue.add('worse', {}, {attempts: 5, stackTraceLimit: 1})",
        process:
            "if (job.name === 'worse' && job.attemptsMade === 1) fail('no way', kit.lib.UnrecoverableError);
            fail('bad ' + (job.attemptsMade + 1))",
        options: "{}",
        verdicts: 4,
    };
    same(story, &plain(), |job| match (job.name.as_str(), job.attempt) {
        (_, 1) => retry(Duration::ZERO, "bad 1"),
        ("bad", _) => bury("bad 2"),
        _ => Verdict::Bury { reason: qfleet_model::outcome::Reason::classed("UnrecoverableError", "no way") },
    })
    .await;
}

#[tokio::test]
async fn jobs_retried_later() {
    let story = Story {
        add: "await queue.add('late', {}, {attempts: 3, backoff: {type: 'fixed', delay: 60000}})",
        process: "fail('not yet')",
        options: "{}",
        verdicts: 1,
    };
    same(story, &plain(), |job| {
        assert_eq!(job.limits.tries, Some(3));
        retry(job.limits.backoff.as_ref().unwrap().after(job.attempt), "not yet")
    })
    .await;
}

#[tokio::test]
async fn delayed_and_prioritized_and_lifo_jobs() {
    let story = Story {
        add: "await queue.add('d', {}, {delay: 30}); await queue.add('p', {}, {priority: 3, attempts: 2});
            await queue.add('p2', {}, {priority: 1}); await kit.sleep(40);
            await queue.add('w', {}); await queue.add('l', {}, {lifo: true, attempts: 2})",
        process: "if (job.opts.attempts === 2 && job.attemptsMade === 0) fail('once'); return null",
        options: "{}",
        verdicts: 7,
    };
    same(story, &plain(), |job| {
        if job.limits.tries == Some(2) && job.attempt == 1 {
            retry(Duration::ZERO, "once")
        } else {
            complete("null")
        }
    })
    .await;
}

#[tokio::test]
async fn removed_jobs() {
    let story = Story {
        add: "await queue.add('gone', {}, {removeOnComplete: true}); await queue.add('gone too', {}, {removeOnFail: true});
            for (let i = 0; i < 4; i++) await queue.add('two ' + i, {}, {removeOnComplete: {count: 2}});
            await queue.add('age', {}, {removeOnComplete: {age: 100}}); await queue.add('one', {}, {removeOnComplete: 1});
            for (let i = 0; i < 3; i++) await queue.add('default ' + i, {}); await queue.add('kept', {}, {removeOnComplete: false})",
        // Which of two jobs is the older one depends on the clock.
        process: "await kit.sleep(3); if (job.name === 'gone too') fail('bad')",
        options: "{removeOnComplete: {count: 2}}",
        verdicts: 12,
    };
    let keep = Some(Keep { count: Some(2), age: None });
    let settings = NodeSettings { keep_completed: keep, ..plain() };
    let verdict = |job: &Job| {
        std::thread::sleep(Duration::from_millis(3));
        if job.name == "gone too" { bury("bad") } else { complete("null") }
    };
    same(story, &settings, verdict).await;
}

#[tokio::test]
async fn metrics_and_deduplicated_jobs() {
    let story = Story {
        add: "await queue.add('a', {}, {deduplication: {id: 'x'}}); await queue.add('b', {}, {deduplication: {id: 'x'}});
            await queue.add('c', {}, {deduplication: {id: 'y', ttl: 60000}}); await queue.add('d', {}, {attempts: 1})",
        process: "if (job.name === 'd') fail('bad')",
        options: "{metrics: {maxDataPoints: 60}}",
        verdicts: 3,
    };
    let settings = NodeSettings { metrics: 60, ..plain() };
    same(story, &settings, |job| if job.name == "d" { bury("bad") } else { complete("null") }).await;
}
