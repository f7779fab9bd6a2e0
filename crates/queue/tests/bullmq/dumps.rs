//! What we leave in Redis for a job, compared field by field with what the library's own worker leaves for the same job.

use std::time::Duration;

use qfleet_manifest::queue::{Keep, NodeRules, RateLimit};
use qfleet_model::job::Job;
use qfleet_model::outcome::Verdict;

use crate::rig::{Settings, bury, complete, retry};
use crate::story::{STORY, Story, plain, same};

#[tokio::test]
async fn completed_jobs() {
    let story = Story {
        add: "await queue.add('a', {who: 'ann', e: [], n: 1.5}); await queue.add('b', {who: 'bob'}, {jobId: 'mine'})",
        process: "return {hello: job.data.who}",
        verdicts: 2,
        ..STORY
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
        verdicts: 4,
        ..STORY
    };
    same(story, &plain(), |job| match (job.name.as_str(), job.attempt) {
        (_, 1) => retry(Duration::ZERO, "bad 1"),
        ("bad", _) => bury("bad 2"),
        _ => Verdict::Bury { reason: qfleet_model::outcome::Reason::classed("UnrecoverableError", "no way") },
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
        ..STORY
    };
    let keep = Some(Keep { count: Some(2), age: None });
    let settings = NodeRules { keep_completed: keep, ..plain() };
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
        ..STORY
    };
    let settings = NodeRules { metrics: 60, ..plain() };
    same(story, &settings, |job| if job.name == "d" { bury("bad") } else { complete("null") }).await;
}

#[tokio::test]
async fn jobs_kept_by_age_and_number() {
    let story = Story {
        add: "for (let i = 0; i < 4; i++) await queue.add('kept ' + i, {}, {removeOnComplete: false});
            await queue.add('three', {}, {removeOnComplete: {count: 3, age: 100, limit: 1}});
            await queue.add('all old ones but', {}, {removeOnComplete: {age: 0, limit: 1}});
            await queue.add('none', {}, {removeOnComplete: {count: 0}}); await queue.add('minus', {}, {removeOnComplete: {count: -1}});
            await queue.add('bad', {}, {removeOnFail: {count: 1}}); await queue.add('worse', {}, {removeOnFail: {count: 1}})",
        process: "await kit.sleep(3); if (['bad', 'worse'].includes(job.name)) fail('bad')",
        verdicts: 10,
        ..STORY
    };
    let verdict = |job: &Job| {
        std::thread::sleep(Duration::from_millis(3));
        if matches!(job.name.as_str(), "bad" | "worse") { bury("bad") } else { complete("null") }
    };
    same(story, &plain(), verdict).await;
}

/// The newest of those that came while the holder ran follows it, once.
#[tokio::test]
async fn the_last_of_deduplicated_jobs() {
    for rule in [
        "{id: 'x', keepLastIfActive: true}",
        "{id: 'x', ttl: 60000, keepLastIfActive: true}",
        "{id: 'x', ttl: 60000, extend: true}",
    ] {
        let followed = rule.contains("keep");
        let story = Story {
            add: &format!("await queue.add('holder', {{}}, {{deduplication: {rule}}})"),
            meanwhile: &format!(
                "for (const n of [1, 2]) await queue.add('next', {{n}}, {{deduplication: {rule}, attempts: 2, priority: n}})"
            ),
            verdicts: if followed { 2 } else { 1 },
            ..STORY
        };
        same(story, &plain(), |_| complete("null")).await;
    }
}

#[tokio::test]
async fn a_queue_with_nothing_but_delayed_jobs_left() {
    let story = Story {
        add: "await queue.add('holder', {}); await queue.add('b', {})",
        meanwhile: "await queue.add('later', {}, {delay: 600000})",
        verdicts: 2,
        ..STORY
    };
    same(story, &plain(), |_| complete("null")).await;
}

/// The queue's own number of starts holds, and the worker's window.
#[tokio::test]
async fn starts_counted_for_two_limits() {
    let add =
        "await queue.setGlobalRateLimit(9, 60000); for (let i = 0; i < 3; i++) await queue.add('a', {})";
    for (own, rate_limit) in [
        ("{}", None),
        ("{limiter: {max: 2, duration: 30000}}", Some(RateLimit { max: 2, per: Duration::from_secs(30) })),
    ] {
        let story = Story { add, options: own, verdicts: 3, ..STORY };
        let settings = Settings { rate_limit, ..Settings::default() };
        same(story, &settings, |_| complete("null")).await;
    }
}

#[tokio::test]
async fn starts_counted_for_the_workers_limit_alone() {
    let story = Story {
        add: "for (let i = 0; i < 3; i++) await queue.add('a', {}, {attempts: 2})",
        process: "if (job.attemptsMade === 0) fail('once')",
        options: "{limiter: {max: 6, duration: 30000}}",
        verdicts: 6,
        ..STORY
    };
    let limit = RateLimit { max: 6, per: Duration::from_secs(30) };
    let settings = Settings { rate_limit: Some(limit), ..Settings::default() };
    same(
        story,
        &settings,
        |job| {
            if job.attempt == 1 { retry(Duration::ZERO, "once") } else { complete("null") }
        },
    )
    .await;
}

/// A parent and its children, one of which fails for good.
#[tokio::test]
async fn flows() {
    for (flag, verdicts, unrun) in [
        ("failParentOnFailure", 2, 1),
        ("ignoreDependencyOnFailure", 3, 0),
        ("removeDependencyOnFailure", 3, 0),
        ("removeOnFail", 3, 0),
        ("none", 2, 0),
    ] {
        let story = Story {
            add: &format!(
                "await kit.flow().add({{name: 'p', queueName: 'demo', opts: {{jobId: 'P', priority: 2}}, children: [
                   {{name: 'bad', queueName: 'demo', opts: {{jobId: 'A', {flag}: true}}}}, {{name: 'b', queueName: 'demo', opts: {{jobId: 'B'}}}}]}})"
            ),
            process: "if (job.name === 'bad') fail('bad'); return {from: job.name}",
            verdicts,
            unrun,
            ..STORY
        };
        same(story, &plain(), |job| {
            if job.name == "bad" { bury("bad") } else { complete(&format!(r#"{{"from":"{}"}}"#, job.name)) }
        })
        .await;
    }
}
