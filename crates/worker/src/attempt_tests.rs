//! Handlers that do not keep their contract. Real ones do, so these are made for the purpose; all else is real.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use qfleet_manifest::handler::Handler as HandlerSettings;
use qfleet_manifest::queue::{Connection, FailedJobs, Lane, RedisSettings, RedisTarget};
use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::job::Format;
use qfleet_model::link::ToChild;
use qfleet_model::start::DrainLimit;
use qfleet_testkit::{RedisServer, Scratch};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;
use crate::begin;
use crate::handler::{Delivery, Handler};
use crate::lanes::{self, Lanes};
use crate::report::Speaker;
use crate::run::Parts;

/// Does what the name of a job says, once it has noted that it was begun.
#[derive(Debug)]
struct Wayward(Arc<Begun>);

#[derive(Debug, Default)]
struct Begun(AtomicBool);

#[async_trait]
impl Handler for Wayward {
    async fn handle(&self, delivery: Delivery) -> Ended {
        self.0.0.store(true, Ordering::Relaxed);
        match delivery.job.name.as_str() {
            "panics" => panic!("on purpose"),
            "deaf" => std::future::pending().await,
            _ => {
                let outcome = Outcome::Complete { result: None };
                Ended { outcome, health: Health::Good, status: None, notes: Vec::new() }
            }
        }
    }
}

fn settings(redis: &RedisServer) -> WorkerSettings {
    let target = RedisTarget::Unix { path: redis.socket() };
    let redis = RedisSettings { target, database: 0, username: None, password: None, ca_file: None };
    let connection = Connection {
        name: String::from("c"),
        driver: Format::Laravel,
        redis,
        prefix: String::new(),
        retry_after: Duration::from_secs(90),
        laravel_name: String::from("redis"),
        cluster_keys: false,
    };
    let lane = Lane {
        name: String::from("q"),
        connection: String::from("c"),
        queues: vec![String::from("q")],
        concurrency: 2,
        tuning: lanes::tests::tuning(),
        routes: Vec::new(),
        handler: Some(HandlerSettings::shell_line("true")),
        rate_limit: None,
        node: None,
    };
    WorkerSettings {
        group: String::from("q"),
        lanes: vec![lane],
        concurrency: 2,
        max_time: None,
        max_jobs: None,
        memory: None,
        sleep: Duration::from_millis(200),
        stop_wait: Duration::from_secs(30),
        kill_after: Duration::ZERO,
        connections: BTreeMap::from([(String::from("c"), connection)]),
        failed_jobs: FailedJobs::Redis,
        secret_variables: Vec::new(),
    }
}

fn push(redis: &RedisServer, id: &str, name: &str, timeout: u32) {
    let payload = format!(
        "{{\"uuid\":\"{id}\",\"displayName\":\"{name}\",\"job\":\"x\",\"timeout\":{timeout},\"data\":[],\"attempts\":0}}"
    );
    redis::cmd("RPUSH").arg("queues:q").arg(payload).exec(&mut redis.connection()).unwrap();
}

fn payloads(redis: &RedisServer) -> Vec<String> {
    let mut connection = redis.connection();
    let ready: Vec<String> =
        redis::cmd("LRANGE").arg("queues:q").arg(0).arg(-1).query(&mut connection).unwrap();
    let delayed: Vec<String> =
        redis::cmd("ZRANGE").arg("queues:q:delayed").arg(0).arg(-1).query(&mut connection).unwrap();
    let reserved: u64 = redis::cmd("ZCARD").arg("queues:q:reserved").query(&mut connection).unwrap();
    assert_eq!(reserved, 0, "nothing is left in hand");
    [ready, delayed].concat()
}

/// Runs a worker with the wayward handler, does something beside it, drains it, and gives its exit code.
fn work<F: Future<Output = ()>>(
    redis: &RedisServer,
    meanwhile: impl FnOnce(UnboundedSender<Event>, Arc<Begun>) -> F,
) -> i32 {
    let scratch = Scratch::new();
    let settings = settings(redis);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (events, happens) = unbounded_channel();
        let begun = Arc::<Begun>::default();
        let lanes = Lanes::new(&settings, |_, _| Ok(Arc::new(Wayward(Arc::clone(&begun))))).unwrap();
        let sources = begin::open_sources(&settings, &lanes, 7).unwrap();
        let ledger = begin::make_ledger(&settings, &lanes, &scratch.join("ledger"), 7).unwrap();
        let parts = Parts {
            settings,
            lanes,
            sources,
            ledger: Arc::new(ledger),
            speaker: Speaker::new(None),
            events: events.clone(),
            supervised: false,
        };
        let (code, ()) = tokio::join!(Worker::new(parts).work(happens), meanwhile(events, begun));
        assert!(!scratch.join("ledger").exists());
        code
    })
}

fn drain(events: &UnboundedSender<Event>, limit: DrainLimit) {
    events.send(Event::Told(ToChild::Drain { limit })).unwrap();
}

async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("it to come true in time");
}

#[test]
fn a_panic_costs_one_attempt_and_no_neighbour() {
    let redis = RedisServer::start();
    push(&redis, "bad", "panics", 0);
    push(&redis, "good", "works", 0);
    let failed = || {
        let count: u64 = redis::cmd("ZCARD").arg("qfleet:failed").query(&mut redis.connection()).unwrap();
        count == 1
    };
    let code = work(&redis, |events, _| async move {
        // Three tries, two of them beside others.
        until(failed).await;
        drain(&events, DrainLimit::JobsOwn);
    });
    assert_eq!(code, 0);
    assert_eq!(payloads(&redis), Vec::<String>::new());
    let mut class = redis::cmd("HGET");
    class.arg("qfleet:failed:bad").arg("class");
    assert_eq!(class.query::<String>(&mut redis.connection()).unwrap(), "crash");
}

#[test]
fn a_handler_that_does_not_stop_when_told_is_let_go_and_its_job_given_back() {
    let redis = RedisServer::start();
    push(&redis, "deaf", "deaf", 0);
    let begun = Instant::now();
    let code = work(&redis, |events, begun| async move {
        until(|| begun.0.load(Ordering::Relaxed)).await;
        drain(&events, DrainLimit::AtMost(Duration::from_millis(100)));
    });
    assert_eq!(code, 75);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let left = payloads(&redis);
    assert!(left.len() == 1 && left[0].contains("\"attempts\":0"), "{left:?}");
}

#[test]
fn a_handler_that_forgets_its_deadline_is_let_go_some_time_after() {
    let redis = RedisServer::start();
    push(&redis, "deaf", "deaf", 1);
    let again = || {
        let mut connection = redis.connection();
        let counters: Vec<String> = redis::cmd("KEYS").arg("qfleet:job:*").query(&mut connection).unwrap();
        !counters.is_empty()
    };
    let code = work(&redis, |events, _| async move {
        until(again).await;
        drain(&events, DrainLimit::AtMost(Duration::ZERO));
    });
    assert!(code == 0 || code == 75);
    let left = payloads(&redis);
    assert_eq!(left.len(), 1);
}
