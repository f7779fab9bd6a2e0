//! What we leave in Redis for a job and tell its listeners, where the same job shows it with both libraries.

use std::time::Duration;

use crate::rig::{complete, retry};
use crate::story::{STORY, Story, plain, same};

#[tokio::test]
async fn jobs_retried_later() {
    let story = Story {
        add: "await queue.add('late', {}, {attempts: 3, backoff: {type: 'fixed', delay: 60000}});
            await queue.add('later', {}, {attempts: 3, backoff: {type: 'exponential', delay: 60000}, jobId: 'x'})",
        process: "fail('not yet')",
        verdicts: 2,
        ..STORY
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
        verdicts: 7,
        ..STORY
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
