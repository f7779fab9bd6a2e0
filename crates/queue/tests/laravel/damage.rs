//! What must never block a queue or lose a job: payloads nobody can read, keys of wrong types, twins, no memory left.

use std::time::Duration;

use qfleet_model::outcome::{Note, Reason, Verdict};
use qfleet_queue::driver::{Ask, Settled, Settlement};
use qfleet_testkit::RedisServer;

use crate::contract::{BOTH, OTHER, Rig as _, job_of, names, push, settle, take, take_one};
use crate::rig::{LaravelRig, delayed, notify, ready, reserved};

fn complete() -> Verdict {
    Verdict::Complete { result: None }
}

fn retry() -> Verdict {
    Verdict::Retry { after: Duration::ZERO, note: Note::default() }
}

#[tokio::test]
async fn unreadable_payloads_are_set_aside_with_every_byte() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let store = qfleet_queue::open_failed(&rig.connection()).unwrap();
    let binary: Vec<u8> = (0..=255).collect();
    let cases: [(&[u8], &str); 14] = [
        (b"hello", "does not begin with `{`"),
        (b"", "is empty"),
        (b"[1,2]", "is JSON but no object"),
        (b"\"text\"", "is JSON but no object"),
        (b"{\"job\":\"x\",\"attempts\":0", "is not valid JSON"),
        (b"{\"job\":\"x\",\"attempts\":0}}", "is not valid JSON"),
        (b"{\"job\":\"x\",\"data\":\"cut of", "is not valid JSON"),
        (b"{\"job\":\"x\",\"data\":NaN,\"attempts\":0}", "is not valid JSON"),
        (b"{\"job\":\"x\",\"id\":\"1\"}", "has no `attempts`"),
        (b"{\"job\":\"x\",\"attempts\":null}", "has no `attempts`"),
        (b"{\"job\":\"x\",\"attempts\":\"many\"}", "no number: `\"many\"`"),
        (b"{\"attempts\":0,\"id\":\"1\"}", "names no job"),
        (b"{\"job\":\"\",\"attempts\":0}", "names no job"),
        (&binary, "does not begin with `{`"),
    ];
    for (payload, _) in &cases {
        rig.produce("other", payload);
    }
    push(&rig, &*driver, OTHER, "other", &["sound"]).await;
    let jobs = take(&*driver, OTHER, 99).await.jobs;
    assert_eq!(jobs.len(), cases.len() + 1);
    assert_eq!(names(&jobs[cases.len()..]), ["sound"]);
    for (job, (payload, why)) in jobs.iter().zip(&cases) {
        let problem = job.job.as_ref().unwrap_err();
        assert!(problem.0.contains(why), "{problem} instead of {why}");
        let verdict = Verdict::Bury { reason: Reason::classed("unreadable", problem.0.clone()) };
        assert_eq!(settle(&*driver, job, verdict).await, Settled::Done);
        let kept = store.list(Some("other"), 0, 99).await.unwrap();
        let kept = kept.iter().find(|kept| kept.payload == *payload).unwrap();
        assert!(kept.unreadable && kept.reason.contains(why), "{kept:?}");
        assert_eq!(store.show(&kept.id).await.unwrap().as_ref(), Some(kept));
    }
    assert_eq!(driver.depth(&[OTHER]).await.unwrap()[0].failed, cases.len() as u64);
    settle(&*driver, &jobs[cases.len()], complete()).await;
    assert!(!rig.keys().iter().any(|key| key.contains("queues:")), "{:?}", rig.keys());
}

#[tokio::test]
async fn an_unreadable_payload_can_be_given_back_and_is_renewed() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    rig.produce("other", b"\xff\xfe");
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(
        driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap(),
        [qfleet_queue::driver::Renewal::Held]
    );
    assert_eq!(settle(&*driver, &job, Verdict::GiveBack).await, Settled::Done);
    assert_eq!(rig.list(&ready("other")), [b"\xff\xfe"]);
}

#[tokio::test]
async fn a_key_of_a_wrong_type_breaks_its_queue_only() {
    for suffix in ["", ":delayed", ":reserved"] {
        let rig = LaravelRig::new();
        let driver = rig.open(1);
        redis::cmd("SET").arg(ready("high") + suffix).arg("x").exec(&mut rig.redis()).unwrap();
        if !suffix.is_empty() {
            rig.produce("high", rig.payload("stuck"));
        }
        push(&rig, &*driver, BOTH, "low", &["l"]).await;
        push(&rig, &*driver, OTHER, "other", &["o"]).await;
        let asks = [Ask { lane: BOTH, at_most: 9 }, Ask { lane: OTHER, at_most: 9 }];
        let turn = driver.turn(&[], &asks, driver.mark()).await.unwrap();
        assert_eq!(names(&turn.jobs), ["l", "o"], "with a wrong `{suffix}`");
        let [(lane, why)] = &turn.broken[..] else { panic!("{:?}", turn.broken) };
        assert!(*lane == BOTH && why.contains("`high`") && why.contains("WRONGTYPE"), "{why}");
        assert_eq!(driver.depth(&[BOTH]).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_wrong_notify_key_costs_speed_and_no_job() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    redis::cmd("SET").arg(notify("high")).arg("x").exec(&mut rig.redis()).unwrap();
    redis::cmd("RPUSH").arg(ready("high")).arg(rig.payload("h")).exec(&mut rig.redis()).unwrap();
    let job = take_one(&*driver, BOTH).await;
    assert_eq!(settle(&*driver, &job, Verdict::GiveBack).await, Settled::Done);
    let job = take_one(&*driver, BOTH).await;
    settle(&*driver, &job, complete()).await;
    // The other queues still wake, and the next turn says what is wrong.
    let sleeping = driver.wait(&[BOTH, OTHER], Duration::from_secs(20));
    let pushing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        push(&rig, &*rig.open(0), OTHER, "other", &["o"]).await;
    };
    let started = std::time::Instant::now();
    let (slept, ()) = tokio::join!(sleeping, pushing);
    slept.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let turn = take(&*driver, OTHER, 1).await;
    assert_eq!(names(&turn.jobs), ["o"]);
    let [(lane, why)] = &turn.broken[..] else { panic!("{:?}", turn.broken) };
    assert!(*lane == BOTH && why.contains(&notify("high")), "{why}");
}

#[tokio::test]
async fn a_job_that_can_wait_nowhere_else_stays_ready_or_reserved() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    push(&rig, &*driver, OTHER, "other", &["a", "b"]).await;
    let jobs = take(&*driver, OTHER, 2).await.jobs;
    redis::cmd("SET").arg(delayed("other")).arg("x").exec(&mut rig.redis()).unwrap();
    assert_eq!(settle(&*driver, &jobs[0], retry()).await, Settled::Done);
    assert_eq!(rig.list(&ready("other")).len(), 1);
    redis::cmd("SET").arg(ready("other")).arg("x").exec(&mut rig.redis()).unwrap();
    let settlement = Settlement { receipt: jobs[1].receipt.clone(), verdict: retry() };
    let turn = driver.turn(&[settlement], &[], driver.mark()).await.unwrap();
    assert_eq!(turn.settled, [Settled::Lost]);
    assert!(turn.broken[0].1.contains("cannot be moved"), "{:?}", turn.broken);
    assert_eq!(rig.set(&reserved("other")).len(), 1);
}

#[tokio::test]
async fn twins_are_two_jobs() {
    let rig = LaravelRig::new();
    let (driver, other) = (rig.open(1), rig.open(2));
    let payload = rig.payload("twin");
    for _ in 0..3 {
        rig.produce("other", &payload);
    }
    push(&rig, &*driver, OTHER, "other", &["single"]).await;
    // Only one of them can be held at a time, and what is not a twin is not kept waiting.
    let mut jobs = take(&*driver, OTHER, 9).await.jobs;
    assert_eq!(names(&jobs), ["twin", "single"]);
    let turn = take(&*other, OTHER, 9).await;
    assert!(turn.jobs.is_empty() && turn.more.is_empty(), "{turn:?}");
    assert_eq!(rig.list(&ready("other")), [&payload[..], &payload]);
    settle(&*driver, &jobs.pop().unwrap(), complete()).await;
    for left in [2, 1, 0] {
        let twin = jobs.pop().unwrap();
        assert_eq!(job_of(&twin).payload, payload);
        assert_eq!(settle(&*driver, &twin, complete()).await, Settled::Done);
        jobs = take(&*driver, OTHER, 9).await.jobs;
        assert_eq!(jobs.len(), left.min(1));
    }
}

#[tokio::test]
async fn twins_retried_together_stay_two() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let payload = rig.payload("twin");
    for _ in 0..2 {
        rig.produce("other", &payload);
        let job = take_one(&*driver, OTHER).await;
        let later = Verdict::Retry { after: Duration::from_secs(60), note: Note::default() };
        assert_eq!(settle(&*driver, &job, later).await, Settled::Done);
    }
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!(depth.waiting + depth.delayed, 2, "{depth:?}");
}

#[tokio::test]
async fn without_memory_jobs_are_still_taken_moved_and_renewed() {
    let rig = LaravelRig::on(RedisServer::builder().config("maxmemory-policy noeviction").start());
    let driver = rig.open(1);
    push(&rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
    redis::cmd("ZADD").arg(delayed("other")).arg(1).arg(rig.payload("due")).exec(&mut rig.redis()).unwrap();
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut rig.redis()).unwrap();
    let jobs = take(&*driver, OTHER, 9).await.jobs;
    assert_eq!(names(&jobs), ["a", "b", "c", "due"]);
    let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
    assert_eq!(driver.renew(&receipts).await.unwrap(), [qfleet_queue::driver::Renewal::Held; 4]);
    let later =
        Verdict::Retry { after: Duration::from_secs(60), note: Note { exception: true, ..Note::default() } };
    for (job, verdict) in jobs.iter().zip([complete(), later, Verdict::GiveBack, complete()]) {
        assert_eq!(settle(&*driver, job, verdict).await, Settled::Done);
    }
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec(&mut rig.redis()).unwrap();
    let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
    assert_eq!((depth.waiting, depth.delayed, depth.reserved), (1, 1, 0));
}

#[tokio::test]
async fn many_giants_do_not_keep_the_server_busy_in_one_turn() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    // Nothing costs a scan more than brackets.
    let giant = |name: &str| {
        let lists = "[],".repeat(700_000);
        format!(r#"{{"attempts":0,"uuid":"{name}","displayName":"{name}","job":"j","data":[{lists}[]]}}"#)
    };
    for name in ["first", "second"] {
        rig.produce("other", giant(name).as_bytes());
    }
    push(&rig, &*driver, OTHER, "other", &["small", "last"]).await;
    for (expected, more) in [(vec!["first"], true), (vec!["second"], true), (vec!["small", "last"], false)] {
        let turn = take(&*driver, OTHER, 9).await;
        assert_eq!(names(&turn.jobs), expected);
        assert_eq!(!turn.more.is_empty(), more, "after {expected:?}");
        for job in &turn.jobs {
            settle(&*driver, job, complete()).await;
        }
    }
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_thousand_due_jobs_come_in_steps() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let mut add = redis::cmd("ZADD");
    add.arg(delayed("other"));
    for number in 0..1000 {
        add.arg(number).arg(rig.payload(&format!("job {number}")));
    }
    add.exec(&mut rig.redis()).unwrap();
    let mut taken = Vec::new();
    while taken.len() < 1000 {
        let turn = take(&*driver, OTHER, 70).await;
        assert!(!turn.jobs.is_empty());
        let settle: Vec<Settlement> = turn
            .jobs
            .iter()
            .map(|job| Settlement { receipt: job.receipt.clone(), verdict: complete() })
            .collect();
        taken.extend(turn.jobs.iter().map(|job| job_of(job).name.clone()));
        driver.turn(&settle, &[], driver.mark()).await.unwrap();
    }
    let expected: Vec<String> = (0..1000).map(|number| format!("job {number}")).collect();
    assert_eq!(taken, expected);
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn our_own_late_jobs_are_not_taken_from_ourselves() {
    let rig = LaravelRig::new();
    let mut connection = rig.connection();
    connection.retry_after = Duration::from_secs(2);
    let driver = crate::rig::open(connection, 1);
    push(&rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    // As after a stop of the whole process for longer than the lease.
    let deadline = std::time::Instant::now() + driver.lease() + Duration::from_millis(1500);
    while std::time::Instant::now() < deadline {
        assert!(take(&*driver, OTHER, 1).await.jobs.is_empty());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        driver.renew(std::slice::from_ref(&job.receipt)).await.unwrap(),
        [qfleet_queue::driver::Renewal::Held]
    );
    assert_eq!(settle(&*driver, &job, complete()).await, Settled::Done);
}
