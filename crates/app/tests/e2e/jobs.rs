//! Jobs of every recorded shape go through both handlers.

use std::collections::BTreeMap;

use qfleet_testkit::{
    Answer, JobKind, Php, Push, Receiver, RedisServer, Scratch, eventually, laravel_payloads,
};

use crate::support::{Fleet, SOON, queue_keys, script, wait_empty};

/// Pushes `count` payloads over all shapes: half of them by a real Laravel 8, the others raw as recorded.
fn push_all_shapes(redis: &RedisServer, queue: &str, count: usize) -> BTreeMap<Vec<u8>, usize> {
    let php = Php::on(redis).prefix("");
    let each = count / 2 / (JobKind::ALL.len() + 1);
    let mut pushed: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let delayed = Push::new(JobKind::Numbers).count(each).delay(1);
    let ready = JobKind::ALL.map(|kind| Push::new(kind).count(each));
    for push in ready.iter().chain([&delayed]) {
        for job in php.push(queue, push) {
            *pushed.entry(job.raw).or_default() += 1;
        }
    }
    let recorded: Vec<Vec<u8>> = laravel_payloads()
        .into_iter()
        .filter(|shape| shape.version > 8)
        .flat_map(|shape| shape.ready.into_iter().chain(shape.delayed))
        .collect();
    let mut pipe = redis::pipe();
    let left = count.saturating_sub(pushed.values().sum());
    for (n, payload) in recorded.iter().cycle().take(left).enumerate() {
        // The same recording many times over: each needs an identity of its own, as every real job has one.
        let text = String::from_utf8(payload.clone()).unwrap();
        let own = renamed(&text, n);
        pipe.rpush(format!("queues:{queue}"), &own).ignore();
        pipe.rpush(format!("queues:{queue}:notify"), 1).ignore();
        *pushed.entry(own.into_bytes()).or_default() += 1;
    }
    pipe.query::<()>(&mut redis.connection()).unwrap();
    pushed
}

/// The payload with another `uuid`, of the same length, and no time limit that has passed since it was recorded.
fn renamed(payload: &str, n: usize) -> String {
    let at = payload.find("\"uuid\":\"").unwrap() + 8;
    let mut own = payload.to_owned();
    own.replace_range(at..at + 8, &format!("{n:08x}"));
    if let Some(start) = own.find("\"retryUntil\":1") {
        let start = start + 13;
        let digits = own[start..].find(|c: char| !c.is_ascii_digit()).unwrap();
        own.replace_range(start..start + digits, "4102444800");
    }
    own
}

fn counted(bodies: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for body in bodies {
        *counts.entry(body).or_default() += 1;
    }
    counts
}

#[test]
fn five_hundred_jobs_reach_the_http_handler_byte_for_byte() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  shapes:\n    concurrency: 10\n    numprocs: 2\n    handler: {{http: {{url: '{}/'}}}}\n",
        redis.url(),
        receiver.url()
    ));
    let pushed = push_all_shapes(&redis, "shapes", 500);
    let arrived = receiver.wait_for(500, SOON);
    wait_empty(&redis, &fleet);
    assert!(counted(arrived.into_iter().map(|request| request.body)) == pushed, "bytes differ");
    assert_eq!(queue_keys(&redis), Vec::<String>::new());
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn five_hundred_jobs_reach_the_shell_handler_byte_for_byte() {
    let redis = RedisServer::start();
    let place = Scratch::new();
    let keep = script(&place, "keep", &format!("exec cat > {}/body.$JOB_DELIVERY", place.path().display()));
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  shapes:\n    concurrency: 8\n    handler: {{shell: {{argv: [{}]}}}}\n",
        redis.url(),
        keep.display()
    ));
    let pushed = push_all_shapes(&redis, "shapes", 500);
    let bodies = || {
        std::fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("body."))
            .collect::<Vec<_>>()
    };
    eventually(SOON * 2, "500 bodies", || (bodies().len() >= 500).then_some(()));
    wait_empty(&redis, &fleet);
    let arrived = counted(bodies().into_iter().map(|path| std::fs::read(path).unwrap()));
    assert!(arrived == pushed, "bytes differ");
    assert_eq!(queue_keys(&redis), Vec::<String>::new());
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_wrong_prefix_is_noticed_and_the_right_one_named() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    Php::on(&redis).prefix("laravel-database-").produce("mail", JobKind::Plain, 2);
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail: {{handler: {{http: {{url: '{}/'}}}}}}\n",
        redis.url(),
        receiver.url()
    ));
    let hint = "found `laravel-database-queues:mail` with 2 jobs; set `prefix: laravel-database-`";
    eventually(SOON, "the hint", || fleet.log().contains(hint).then_some(()));
    let probe = fleet.qfleet(&["check", "--probe"]);
    assert_eq!(probe.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&probe.stdout).contains(hint), "{probe:?}");
    assert_eq!(fleet.stop(), 0);
}
