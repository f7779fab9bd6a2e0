//! Every byte of a payload survives every path; only the counter's digits change, and only where they should.

use std::time::Duration;

use qfleet_model::backoff::Backoff;
use qfleet_model::outcome::{Note, Reason, Verdict};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::{QueueDriver, Settled};
use qfleet_testkit::{cjson_traps, laravel_payloads};

use crate::contract::{OTHER, Rig as _, job_of, settle, take, take_one, take_soon};
use crate::rig::{LaravelRig, PREFIX, delayed, notify, ready, reserved};

const SOON: Duration = Duration::from_secs(60);

/// `payload` with its only `"attempts":FROM` changed.
fn counted(payload: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(payload.to_vec()).unwrap();
    let (from, to) = (format!("\"attempts\":{from}"), format!("\"attempts\":{to}"));
    let at = text.rfind(&from).unwrap();
    [&text[..at], &to, &text[at + from.len()..]].concat().into_bytes()
}

async fn walk_all_paths(rig: &LaravelRig, driver: &dyn QueueDriver, payload: &[u8]) {
    rig.produce("other", payload);
    let raised = counted(payload, "0", "1");
    let note = Note::default();

    let job = take_one(driver, OTHER).await;
    assert_eq!(job_of(&job).payload, payload);
    assert_eq!(rig.set(&reserved("other"))[0].0, raised);
    assert_eq!(settle(driver, &job, Verdict::GiveBack).await, Settled::Done);
    assert_eq!(rig.list(&ready("other")), [payload]);

    let job = take_one(driver, OTHER).await;
    let due = WallTime::from_seconds(4_000_000_000);
    assert_eq!(settle(driver, &job, Verdict::GiveBackAt { due }).await, Settled::Done);
    assert_eq!(rig.set(&delayed("other")), [(payload.to_vec(), 4_000_000_000.0)]);
    redis::cmd("DEL").arg(delayed("other")).exec(&mut rig.redis()).unwrap();
    rig.produce("other", payload);

    let job = take_one(driver, OTHER).await;
    let verdict = Verdict::Snooze { after: Duration::ZERO, note: note.clone() };
    assert_eq!(settle(driver, &job, verdict).await, Settled::Done);
    assert_eq!(rig.set(&delayed("other"))[0].0, payload);

    let job = take_soon(driver, OTHER, SOON).await;
    assert_eq!(job_of(&job).payload, payload);
    let verdict = Verdict::Retry { after: Duration::ZERO, note };
    assert_eq!(settle(driver, &job, verdict).await, Settled::Done);
    assert_eq!(rig.set(&delayed("other"))[0].0, raised);

    let job = take_soon(driver, OTHER, SOON).await;
    assert_eq!(job_of(&job).payload, raised);
    assert_eq!(job_of(&job).attempt, 2);
    assert_eq!(rig.set(&reserved("other"))[0].0, counted(payload, "0", "2"));
    assert_eq!(settle(driver, &job, Verdict::Complete { result: None }).await, Settled::Done);
    assert_eq!(rig.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn recorded_payloads_keep_every_byte_on_every_path() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let mut count = 0;
    for shape in laravel_payloads() {
        for payload in shape.ready.iter().chain(&shape.delayed) {
            walk_all_paths(&rig, &*driver, payload).await;
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

#[tokio::test]
async fn what_a_decoder_would_damage_keeps_every_byte() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let mut walked = 0;
    for trap in cjson_traps().iter().filter(|trap| trap.ready.ends_with(b"\"attempts\":0}")) {
        let text = String::from_utf8_lossy(&trap.ready);
        // The traps name no job class of their own, and not all of them are JSON at all.
        let named = text.replacen("{\"job\":\"x\"", "{\"job\":\"x\",\"uuid\":\"u\"", 1);
        if serde_json::from_str::<serde::de::IgnoredAny>(&named).is_ok() {
            walk_all_paths(&rig, &*driver, named.as_bytes()).await;
            walked += 1;
        }
    }
    assert!(walked >= 10, "{walked}");
}

#[tokio::test]
async fn counters_in_other_forms_are_raised_in_place() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    for (written, raised, attempt) in [
        ("\"3\"", "\"4\"", 4),
        ("2.0", "3.0", 3),
        ("9", "10", 10),
        (" 7 ", " 8 ", 8),
        ("\"99.5\"", "\"100.5\"", 100),
    ] {
        let payload = format!(r#"{{"job":"x","attempts":{written},"id":"1"}}"#);
        rig.produce("other", &payload);
        let job = take_one(&*driver, OTHER).await;
        assert_eq!(job_of(&job).attempt, attempt, "{written}");
        let expected = payload.replace(written, raised).into_bytes();
        assert_eq!(rig.set(&reserved("other"))[0].0, expected);
        settle(&*driver, &job, Verdict::GiveBack).await;
        assert_eq!(rig.list(&ready("other")), [payload.as_bytes()]);
        settle(&*driver, &take_one(&*driver, OTHER).await, Verdict::Complete { result: None }).await;
    }
}

#[tokio::test]
async fn ten_mebibytes_and_a_thousand_levels_pass() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let big = format!(r#"{{"uuid":"u","job":"x","data":"{}","attempts":0}}"#, "\\\\é[{".repeat(2_000_000));
    let tagged = format!(r#"{{"job":"x","data":"{}","attempts":0,"tags":[]}}"#, "\\\"é[{".repeat(2_000_000));
    let deep =
        format!(r#"{{"job":"x","data":{}1{},"attempts":0}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(big.len() > 10 << 20);
    for payload in [big, tagged, deep] {
        walk_all_paths(&rig, &*driver, payload.as_bytes()).await;
    }
}

#[tokio::test]
async fn limits_in_the_payload_are_read() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let steps =
        |steps: &[u64]| Some(Backoff::Steps(steps.iter().map(|step| Duration::from_secs(*step)).collect()));
    let read = async |fields: &str| {
        rig.produce("other", format!(r#"{{"job":"x","uuid":"u",{fields},"attempts":0}}"#));
        let job = take_one(&*driver, OTHER).await;
        settle(&*driver, &job, Verdict::Complete { result: None }).await;
        job.job.unwrap()
    };
    let job =
        read(r#""maxTries":5,"maxExceptions":2,"timeout":7,"failOnTimeout":true,"backoff":"1,5,10""#).await;
    assert_eq!((job.limits.tries, job.limits.max_exceptions), (Some(5), Some(2)));
    assert_eq!((job.limits.timeout, job.limits.fail_on_timeout), (Some(Duration::from_secs(7)), true));
    assert_eq!(job.limits.backoff, steps(&[1, 5, 10]));
    let job = read(r#""maxTries":0,"timeout":0,"backoff":3,"retryUntil":1800000000"#).await;
    assert_eq!((job.limits.tries, job.limits.timeout), (Some(0), Some(Duration::ZERO)));
    assert_eq!(job.limits.backoff, steps(&[3]));
    assert_eq!(job.limits.retry_until, Some(WallTime::from_seconds(1_800_000_000)));
    let job = read(r#""maxTries":null,"backoff":null,"delay":60,"timeoutAt":1800000001"#).await;
    assert_eq!((job.limits.tries, job.limits.timeout), (None, None));
    assert_eq!(job.limits.backoff, Some(Backoff::Fixed(Duration::from_secs(60))));
    assert_eq!(job.limits.retry_until, Some(WallTime::from_seconds(1_800_000_001)));
    let job =
        read(r#""maxTries":"4","backoff":"2","delay":60,"createdAt":1795217817,"tags":["a","b"]"#).await;
    assert_eq!(job.limits.tries, Some(4));
    assert_eq!(job.limits.backoff, steps(&[2]));
    assert_eq!(
        (job.created.as_str(), job.created_at),
        ("1795217817", Some(WallTime::from_seconds(1_795_217_817)))
    );
    assert_eq!(job.tags, ["a", "b"]);
    let job =
        read(r#""displayName":"App\\Jobs\\É","id":"i","retry_of":"r","traceparent":"00-1","backoff":"""#)
            .await;
    assert_eq!((job.name.as_str(), job.id.as_str(), job.identity_of.as_str()), ("App\\Jobs\\É", "u", "r"));
    assert_eq!((job.traceparent.as_deref(), job.limits.backoff), (Some("00-1"), None));
    assert_eq!((job.prefix.as_str(), job.queue.as_str()), (PREFIX, "other"));
}

#[tokio::test]
async fn a_discarded_job_lies_in_the_bin_for_a_day() {
    let rig = LaravelRig::new();
    let driver = rig.open(1);
    let payload = rig.payload("unwanted");
    rig.produce("other", &payload);
    let job = take_one(&*driver, OTHER).await;
    settle(&*driver, &job, Verdict::Discard { reason: Reason::classed("late", "too late") }).await;
    let bin = format!("{PREFIX}qfleet:discarded:other");
    let entry = rig.set(&bin).remove(0).0;
    let (header, body) = entry.split_at(entry.iter().position(|byte| *byte == b'\n').unwrap());
    assert_eq!(body[1..], payload);
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    assert_eq!((header["class"].as_str(), header["reason"].as_str()), (Some("late"), Some("too late")));
    let life: i64 = redis::cmd("TTL").arg(&bin).query(&mut rig.redis()).unwrap();
    assert!((86_300..=86_400).contains(&life), "{life}");
    assert_eq!(rig.keys(), [bin]);
}

#[tokio::test]
async fn cluster_keys_have_braces() {
    let rig = LaravelRig::new();
    let mut connection = rig.connection();
    connection.cluster_keys = true;
    let driver = crate::rig::open(connection, 1);
    driver.push(OTHER, "other", &rig.payload("a"), None).await.unwrap();
    assert_eq!(rig.keys(), [format!("{PREFIX}queues:{{other}}"), format!("{PREFIX}queues:{{other}}:notify")]);
    let job = take_one(&*driver, OTHER).await;
    let verdict = Verdict::Snooze { after: SOON, note: Note { snooze: true, ..Note::default() } };
    settle(&*driver, &job, verdict).await;
    driver.set_paused(OTHER, true).await.unwrap();
    assert_eq!(take(&*driver, OTHER, 1).await.paused, [OTHER]);
    let job_key = format!("{PREFIX}qfleet:job:{{other}}:{}", job_of(&job).identity_of);
    let paused = format!("{PREFIX}qfleet:paused:{{other}}");
    assert_eq!(rig.keys(), [job_key, paused, format!("{PREFIX}queues:{{other}}:delayed")]);
    assert!(rig.list(&notify("other")).is_empty());
}
