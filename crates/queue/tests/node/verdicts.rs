//! Verdicts that the libraries do not know, in what they do know.

use std::time::Duration;

use qfleet_model::outcome::{Note, Reason, Verdict};
use serde_json::json;

use crate::contract::{job_of, settle, take_one, take_soon};
use crate::rig::{DEMO, NodeRig, SOON, complete};

#[tokio::test]
async fn a_snooze_burns_no_attempt() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {}, {attempts: 2})");
        let driver = rig.worker(1);
        let job = take_one(&*driver, DEMO).await;
        let note = Note { snooze: true, ..Note::default() };
        settle(&*driver, &job, Verdict::Snooze { after: Duration::from_millis(50), note }).await;
        let delayed = node.run(
            "const job = await kit.queue('demo').getJob('1'); return [await job.getState(), job.attemptsMade]",
        );
        assert_eq!(delayed, json!(["delayed", 0]));
        let again = take_soon(&*driver, DEMO, SOON).await;
        let history = &job_of(&again).history;
        assert_eq!((job_of(&again).attempt, history.snoozes, history.deliveries), (1, 1, 1));
        settle(&*driver, &again, complete("null")).await;
        assert!(rig.redis_keys("bull:qfleet:*").is_empty(), "nothing is left beside a finished job");
    }
}

/// Somebody else has ended it and knew nothing of our notes.
#[tokio::test]
async fn a_new_job_of_an_old_name_has_no_past() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let (node, driver) = (rig.node(library), rig.worker(1));
        let add = || node.run("await kit.queue('demo').add('a', {}, {jobId: 'mine'})");
        let put_off = || Verdict::Snooze {
            after: Duration::from_millis(1),
            note: Note { snooze: true, ..Note::default() },
        };
        add();
        for snoozes in 0..3 {
            let job = take_soon(&*driver, DEMO, SOON).await;
            assert_eq!(job_of(&job).history.snoozes, snoozes, "{library}");
            settle(&*driver, &job, put_off()).await;
        }
        node.run("await (await kit.queue('demo').getJob('mine')).remove()");
        add();
        for snoozes in 0..2 {
            let job = take_soon(&*driver, DEMO, SOON).await;
            let history = &job_of(&job).history;
            assert_eq!((history.snoozes, history.deliveries), (snoozes, snoozes), "{library}");
            settle(&*driver, &job, put_off()).await;
        }
    }
}

#[tokio::test]
async fn a_discarded_job_is_completed_with_a_line_in_its_log() {
    for library in crate::LIBRARIES {
        let rig = NodeRig::of(library);
        let node = rig.node(library);
        node.run("await kit.queue('demo').add('a', {}, {keepLogs: 2})");
        let driver = rig.worker(1);
        let job = take_one(&*driver, DEMO).await;
        settle(&*driver, &job, Verdict::Discard { reason: Reason::plain("not wanted") }).await;
        let seen = node.run(
            "const queue = kit.queue('demo'); const job = await queue.getJob('1');
             return [await job.getState(), job.returnvalue, (await queue.getJobLogs('1')).logs]",
        );
        assert_eq!(seen, json!(["completed", null, ["discarded: not wanted"]]));
    }
}
