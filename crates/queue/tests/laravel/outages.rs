//! Redis goes away in the middle of everything: nothing is lost, nothing is there twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_manifest::queue::{RedisSettings, RedisTarget};
use qfleet_model::outcome::{Note, Verdict};
use qfleet_queue::driver::{
    Ask, DeadHold, DeadState, DeadVerdict, DeadWorker, QueueDriver, Renewal, Reserved, Settled, Settlement,
    Turn,
};
use qfleet_queue::error::QueueError;
use qfleet_testkit::{RedisServer, Sentinels};
use redis::Commands as _;

use crate::contract::{BOTH, OTHER, Rig as _, job_of, names, push, settle, take, take_one};
use crate::proxy::{Cut, Proxy};
use crate::rig::{LaravelRig, connection, delayed, open, ready, reserved};
use crate::wakeups::until_blocked;

const ASK: [Ask; 1] = [Ask { lane: OTHER, at_most: 3 }];

fn complete() -> Verdict {
    Verdict::Complete { result: None }
}

fn note() -> Note {
    Note { exception: true, ..Note::default() }
}

fn settlement(job: &Reserved, verdict: Verdict) -> Settlement {
    Settlement { receipt: job.receipt.clone(), verdict }
}

#[allow(clippy::needless_pass_by_value)]
fn unreachable<T: std::fmt::Debug>(result: Result<T, QueueError>) {
    assert!(matches!(result, Err(QueueError::Unreachable(_))), "{result:?}");
}

/// A rig, a line to it that can be cut, and a driver at its end that has spoken already.
async fn cuttable() -> (LaravelRig, Proxy, Arc<dyn QueueDriver>) {
    let rig = LaravelRig::new();
    let proxy = Proxy::to(rig.server.socket(), rig.server.dir().join("proxy.sock"));
    let mut through = rig.connection();
    through.redis.target = RedisTarget::Unix { path: proxy.socket.clone() };
    through.retry_after = Duration::from_secs(30);
    let driver = open(through, 0xABCDE);
    take(&*driver, OTHER, 1).await;
    (rig, proxy, driver)
}

/// Repeats a turn until it is answered.
async fn insist(driver: &dyn QueueDriver, settle: &[Settlement], asks: &[Ask]) -> Turn {
    let started = Instant::now();
    loop {
        match driver.turn(settle, asks, driver.mark()).await {
            Ok(turn) => return turn,
            Err(QueueError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
        assert!(started.elapsed() < Duration::from_secs(120), "no answer for {:?}", started.elapsed());
    }
}

#[tokio::test]
async fn jobs_of_a_lost_reply_come_with_the_next_turn() {
    let (rig, proxy, driver) = cuttable().await;
    push(&rig, &*driver, OTHER, "other", &["a", "b", "c", "d"]).await;
    rig.produce("other", b"\xff unreadable");
    let mark = driver.mark();
    proxy.cut(Cut::Reply);
    unreachable(driver.turn(&[], &ASK, mark).await);
    assert_eq!(rig.set(&reserved("other")).len(), 3);
    assert_eq!(driver.unanswered(), [mark]);
    let turn = driver.turn(&[], &ASK, driver.mark()).await.unwrap();
    let mut found = names(&turn.jobs);
    found.sort_unstable();
    assert_eq!(found, ["a", "b", "c"]);
    assert!(turn.jobs.iter().all(|job| job_of(job).attempt == 1 && job_of(job).payload.ends_with(b":0}")));
    assert_eq!(turn.more, [OTHER]);
    // Nothing is handed out twice.
    let rest = driver.turn(&[], &ASK, driver.mark()).await.unwrap();
    assert_eq!(rest.jobs.len(), 2);
    assert!(rest.jobs[1].job.is_err());
    for job in turn.jobs.iter().chain(&rest.jobs) {
        assert_eq!(settle(&*driver, job, complete()).await, Settled::Done);
    }
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn lost_jobs_wait_for_room() {
    let (rig, proxy, driver) = cuttable().await;
    push(&rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
    proxy.cut(Cut::Reply);
    unreachable(driver.turn(&[], &ASK, driver.mark()).await);
    let mut found = Vec::new();
    while found.len() < 3 {
        let turn = take(&*driver, OTHER, 1).await;
        assert!(turn.jobs.len() <= 1);
        found.extend(turn.jobs);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut found = names(&found);
    found.sort_unstable();
    assert_eq!(found, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_call_that_never_arrived_took_nothing() {
    let (rig, proxy, driver) = cuttable().await;
    push(&rig, &*driver, OTHER, "other", &["a"]).await;
    proxy.cut(Cut::Request);
    unreachable(driver.turn(&[], &ASK, driver.mark()).await);
    assert_eq!(names(&take(&*driver, OTHER, 3).await.jobs), ["a"]);
    assert!(take(&*driver, OTHER, 3).await.jobs.is_empty());
}

#[tokio::test]
async fn a_dropped_turn_loses_no_job() {
    let (rig, _proxy, driver) = cuttable().await;
    push(&rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
    rig.server.pause();
    let turn = driver.turn(&[], &ASK, driver.mark());
    assert!(tokio::time::timeout(Duration::from_millis(50), turn).await.is_err());
    rig.server.resume();
    let turn = insist(&*driver, &[], &ASK).await;
    assert_eq!(turn.jobs.len(), 3);
}

#[tokio::test]
async fn a_verdict_whose_answer_was_lost_is_told_to_be_done() {
    let date = qfleet_model::time::WallTime::from_seconds(4_000_000_000);
    let minute = Duration::from_secs(60);
    let verdicts = [
        complete(),
        Verdict::Retry { after: minute, note: note() },
        Verdict::Snooze { after: minute, note: note() },
        Verdict::GiveBack,
        Verdict::GiveBackAt { due: date },
        Verdict::Discard { reason: qfleet_model::outcome::Reason::plain("x") },
        Verdict::Bury { reason: qfleet_model::outcome::Reason::plain("x") },
    ];
    for verdict in verdicts {
        for cut in [Cut::Request, Cut::Reply] {
            let (rig, proxy, driver) = cuttable().await;
            push(&rig, &*driver, OTHER, "other", &["job"]).await;
            let job = take_one(&*driver, OTHER).await;
            let settle = [settlement(&job, verdict.clone())];
            proxy.cut(cut);
            unreachable(driver.turn(&settle, &[], driver.mark()).await);
            let turn = driver.turn(&settle, &[], driver.mark()).await.unwrap();
            assert_eq!(turn.settled, [Settled::Done], "{verdict:?} after {cut:?}");
            let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
            let expected = match verdict {
                Verdict::GiveBack => (1, 0, 0),
                Verdict::Retry { .. } | Verdict::Snooze { .. } | Verdict::GiveBackAt { .. } => (0, 1, 0),
                _ => (0, 0, 0),
            };
            assert_eq!((depth.waiting, depth.delayed, depth.reserved), expected, "{verdict:?} after {cut:?}");
            assert_eq!(driver.turn(&settle, &[], driver.mark()).await.unwrap().settled, [Settled::Lost]);
        }
    }
}

#[tokio::test]
async fn a_repeated_give_back_leaves_the_next_holder_alone() {
    let (rig, proxy, driver) = cuttable().await;
    let other = rig.open(9);
    push(&rig, &*driver, OTHER, "other", &["job"]).await;
    let job = take_one(&*driver, OTHER).await;
    let settle = [settlement(&job, Verdict::GiveBack)];
    proxy.cut(Cut::Reply);
    unreachable(driver.turn(&settle, &[], driver.mark()).await);
    // The very same bytes, in the reserved set again.
    let theirs = take_one(&*other, OTHER).await;
    assert_eq!(driver.turn(&settle, &[], driver.mark()).await.unwrap().settled, [Settled::Done]);
    assert_eq!(rig.set(&reserved("other")).len(), 1);
    assert!(rig.list(&ready("other")).is_empty());
    assert_eq!(crate::contract::settle(&*other, &theirs, complete()).await, Settled::Done);
}

#[tokio::test]
async fn three_hundred_jobs_pass_a_line_that_breaks_all_the_time() {
    for seed in 0..4 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (rig, proxy, driver) = cuttable().await;
        let wanted: Vec<String> = (0..300).map(|number| format!("job {number}")).collect();
        push(&rig, &*rig.open(0), OTHER, "other", &wanted.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
        let mut finished = BTreeMap::<String, u32>::new();
        let mut held: Vec<Reserved> = Vec::new();
        let mut counted = BTreeMap::<String, u32>::new();
        let started = Instant::now();
        while finished.len() < wanted.len() {
            let mut settle = Vec::new();
            for job in held.drain(..) {
                let name = job_of(&job).name.clone();
                assert_eq!(
                    job_of(&job).attempt,
                    counted.get(&name).copied().unwrap_or(0) + 1,
                    "seed {seed}: {name}"
                );
                let verdict = match rng.u8(..8) {
                    0 => Verdict::GiveBack,
                    1 => Verdict::Snooze { after: Duration::ZERO, note: note() },
                    2 => {
                        *counted.entry(name).or_default() += 1;
                        Verdict::Retry { after: Duration::ZERO, note: note() }
                    }
                    _ => {
                        *finished.entry(name).or_default() += 1;
                        complete()
                    }
                };
                settle.push(settlement(&job, verdict));
            }
            proxy.cut([Cut::No, Cut::No, Cut::Request, Cut::Reply][rng.usize(..4)]);
            let turn = insist(&*driver, &settle, &[Ask { lane: OTHER, at_most: rng.u32(1..20) }]).await;
            assert!(turn.settled.iter().all(|settled| *settled == Settled::Done), "seed {seed}: {turn:?}");
            held = turn.jobs;
            assert!(started.elapsed() < Duration::from_secs(120), "seed {seed}: {} done", finished.len());
        }
        assert!(finished.values().all(|times| *times == 1), "seed {seed}");
        let settle: Vec<Settlement> = held.iter().map(|job| settlement(job, complete())).collect();
        assert!(settle.is_empty(), "seed {seed}: {} jobs too many", settle.len());
        proxy.cut(Cut::No);
        let depth = driver.depth(&[OTHER]).await.unwrap().remove(0);
        assert_eq!((depth.waiting, depth.delayed, depth.reserved), (0, 0, 0), "seed {seed}");
    }
}

#[tokio::test]
async fn a_recovery_that_dies_in_its_middle_is_finished_by_the_next() {
    for cuts in 0..8 {
        let (rig, proxy, recovering) = cuttable().await;
        push(&rig, &*recovering, OTHER, "other", &["killer", "fetched", "done", "lost"]).await;
        let killer = String::from_utf8(rig.list(&ready("other")).remove(0)).unwrap();
        let identity = killer.split('"').nth(3).unwrap();
        let counters = format!("{}qfleet:job:other:{identity}", crate::rig::PREFIX);
        let _: () = rig.redis().hset(&counters, "crashes", 2).unwrap();
        let dead = rig.open(77);
        let mut jobs = take(&*dead, OTHER, 3).await.jobs;
        let mark = dead.mark();
        jobs.extend(dead.turn(&[], &ASK, mark).await.unwrap().jobs);
        drop(dead);
        let states = [
            DeadState::Started { alone: true, not_before: None },
            DeadState::Fetched,
            DeadState::Settling(DeadVerdict::Complete),
        ];
        let held = jobs.iter().zip(states).map(|(job, state)| DeadHold {
            lane: OTHER,
            queue: 0,
            digest: job.receipt.digest(),
            state,
        });
        let ledger = DeadWorker { tag: 77, marks: vec![mark], held: held.collect() };
        // It looks, moves, records, removes; each of the four is cut, carried out or not.
        proxy.cut_after(cuts / 2, if cuts % 2 == 0 { Cut::Request } else { Cut::Reply });
        unreachable(recovering.recover(&ledger).await);
        recovering.recover(&ledger).await.unwrap();
        let depth = rig.open(3).depth(&[OTHER]).await.unwrap().remove(0);
        assert_eq!((depth.waiting, depth.reserved, depth.failed), (2, 0, 1), "cut {cuts}");
        let mut back = Vec::new();
        for job in take(&*rig.open(3), OTHER, 9).await.jobs {
            back.push((job_of(&job).name.clone(), job_of(&job).attempt));
        }
        back.sort();
        assert_eq!(back, [("fetched".to_owned(), 1), ("lost".to_owned(), 1)], "cut {cuts}");
        let failed = qfleet_queue::open_failed(&rig.connection()).unwrap().list(None, 0, 9).await.unwrap();
        assert_eq!((failed.len(), failed[0].class.as_deref()), (1, Some("crash")));
        assert_eq!(failed[0].payload, killer.as_bytes());
    }
}

#[tokio::test]
async fn a_silent_server_is_noticed_and_its_late_work_is_found() {
    let rig = LaravelRig::new();
    let mut patient = rig.connection();
    patient.retry_after = Duration::from_secs(30);
    let driver = open(patient, 5);
    push(&rig, &*driver, OTHER, "other", &["a", "b", "c", "d"]).await;
    let job = take_one(&*driver, OTHER).await;
    let settle = [settlement(&job, Verdict::Retry { after: Duration::from_secs(60), note: note() })];
    rig.server.pause();
    let started = Instant::now();
    unreachable(driver.turn(&settle, &ASK, driver.mark()).await);
    let silence = started.elapsed();
    assert!(silence > Duration::from_secs(3) && silence < Duration::from_secs(25), "{silence:?}");
    rig.server.resume();
    // It carries out now what it was sent then.
    let turn = insist(&*driver, &settle, &ASK).await;
    assert_eq!(turn.settled, [Settled::Done]);
    let mut jobs = turn.jobs;
    while jobs.len() < 3 {
        jobs.extend(take(&*driver, OTHER, 3).await.jobs);
    }
    let mut found = names(&jobs);
    found.sort_unstable();
    assert_eq!(found, ["b", "c", "d"]);
    assert_eq!((rig.set(&delayed("other")).len(), rig.set(&reserved("other")).len()), (1, 3));
}

#[tokio::test]
async fn a_killed_server_comes_back_with_everything() {
    let rig = LaravelRig::on(RedisServer::builder().append_only().start());
    let mut patient = rig.connection();
    patient.retry_after = Duration::from_secs(30);
    let driver = open(patient, 5);
    push(&rig, &*driver, OTHER, "other", &["a", "b", "c"]).await;
    let jobs = take(&*driver, OTHER, 2).await.jobs;
    let sleeping = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.wait(&[BOTH], Duration::from_secs(20)).await }
    });
    until_blocked(&rig, 1).await;
    rig.server.kill9();
    let started = Instant::now();
    unreachable(driver.turn(&[settlement(&jobs[0], complete())], &[], driver.mark()).await);
    // A server that is there and silent is waited for longer than this.
    assert!(started.elapsed() < Duration::from_secs(3), "not at once: {:?}", started.elapsed());
    unreachable(sleeping.await.unwrap());
    unreachable(driver.wait(&[BOTH], Duration::from_secs(20)).await);
    rig.server.restart();
    let receipts: Vec<_> = jobs.iter().map(|job| job.receipt.clone()).collect();
    assert_eq!(driver.renew(&receipts).await.unwrap(), [Renewal::Held, Renewal::Held]);
    let settle = [settlement(&jobs[0], complete()), settlement(&jobs[1], complete())];
    let turn = driver.turn(&settle, &ASK, driver.mark()).await.unwrap();
    assert_eq!(turn.settled, [Settled::Done, Settled::Done]);
    assert_eq!(names(&turn.jobs), ["c"]);
}

#[tokio::test]
async fn a_server_that_is_read_only_for_a_while_is_waited_for() {
    let rig = LaravelRig::on(RedisServer::builder().tcp().start());
    let other = RedisServer::builder().tcp().start();
    let driver = rig.open(1);
    push(&rig, &*driver, OTHER, "other", &["job"]).await;
    let role = |of: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(of).arg(port).exec(&mut rig.redis()).unwrap();
    };
    // An unreachable master: the replica keeps its data.
    drop(other);
    role("127.0.0.1", "1");
    unreachable(driver.turn(&[], &ASK, driver.mark()).await);
    role("NO", "ONE");
    assert_eq!(names(&take(&*driver, OTHER, 1).await.jobs), ["job"]);
}

#[tokio::test]
async fn killed_connections_and_forgotten_scripts_are_made_good() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    push(&rig, &*driver, OTHER, "other", &["a", "b"]).await;
    take_one(&*driver, OTHER).await;
    let sleeper = tokio::spawn({
        let driver = Arc::clone(&driver);
        async move { driver.wait(&[BOTH], Duration::from_secs(20)).await }
    });
    until_blocked(&rig, 1).await;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").exec(&mut rig.redis()).unwrap();
    unreachable(sleeper.await.unwrap());
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut rig.redis()).unwrap();
    assert_eq!(names(&insist(&*driver, &[], &ASK).await.jobs), ["b"]);
    driver.wait(&[BOTH], Duration::from_millis(20)).await.unwrap();
}

#[tokio::test]
async fn a_failover_loses_and_doubles_nothing_that_was_copied() {
    let sentinels = Sentinels::start(1);
    let addresses = sentinels.addresses();
    let sentinel = addresses[0].split_once(':').unwrap();
    let mut there = connection(RedisSettings {
        target: RedisTarget::Sentinel {
            sentinels: vec![("127.0.0.1".into(), 1), (sentinel.0.into(), sentinel.1.parse().unwrap())],
            master: sentinels.name().into(),
            tls: false,
        },
        database: 0,
        username: None,
        password: None,
        ca_file: None,
    });
    there.retry_after = Duration::from_secs(60);
    let driver = open(there, 5);
    for name in ["a", "b", "c", "d", "e", "f"] {
        let payload = format!(r#"{{"uuid":"{name}","displayName":"{name}","job":"x","attempts":0}}"#);
        driver.push(OTHER, "other", payload.as_bytes(), None).await.unwrap();
    }
    let held = take(&*driver, OTHER, 3).await.jobs;
    // It waits for the writes of its own connection, and what came before them.
    let mut master = sentinels.master().connection();
    redis::cmd("SET").arg("copied").arg(1).query::<()>(&mut master).unwrap();
    let copied: u32 = redis::cmd("WAIT").arg(1).arg(10_000).query(&mut master).unwrap();
    assert_eq!(copied, 1);
    sentinels.fail_over();
    // The old master does not know yet and would take anything; whoever asks the sentinels is told better.
    let probe = br#"{"uuid":"p","job":"x","attempts":0}"#;
    let started = Instant::now();
    while sentinels.current_master().connection().llen::<_, u32>(ready("low")).unwrap() == 0 {
        let _ = driver.push(BOTH, "low", probe, None).await;
        assert!(started.elapsed() < Duration::from_secs(60), "still with the old master");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let settle: Vec<Settlement> = held.iter().map(|job| settlement(job, complete())).collect();
    let turn = insist(&*driver, &settle, &[Ask { lane: OTHER, at_most: 9 }]).await;
    assert_eq!(turn.settled, [Settled::Done; 3]);
    assert_eq!(names(&turn.jobs), ["d", "e", "f"]);
    let left: usize = sentinels.current_master().connection().zcard(reserved("other")).unwrap();
    assert_eq!(left, 3);
}
