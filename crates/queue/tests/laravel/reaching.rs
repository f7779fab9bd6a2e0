//! Every way to a Redis: TCP, TLS, a unix socket, users, passwords, databases, Sentinel.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::queue::{RedisSettings, RedisTarget};
use qfleet_manifest::secret::Secret;
use qfleet_model::outcome::Verdict;
use qfleet_queue::driver::{QueueDriver, Settled};
use qfleet_queue::error::QueueError;
use qfleet_testkit::{RedisServer, Sentinels};

use crate::contract::{OTHER, settle, take, take_one};
use crate::rig::{PREFIX, connection, open};

fn plain(target: RedisTarget) -> RedisSettings {
    RedisSettings { target, database: 0, username: None, password: None, ca_file: None }
}

fn tcp(port: u16, tls: bool) -> RedisTarget {
    RedisTarget::Tcp { host: "localhost".into(), port, tls }
}

fn driver(settings: RedisSettings) -> Arc<dyn QueueDriver> {
    open(connection(settings), 1)
}

/// A job goes in, is slept for, taken and finished.
async fn works(settings: RedisSettings) {
    let driver = driver(settings);
    let payload = br#"{"uuid":"u","job":"x","attempts":0}"#;
    driver.push(OTHER, "other", payload, None).await.unwrap();
    driver.wait(&[OTHER], Duration::from_secs(20)).await.unwrap();
    let job = take_one(&*driver, OTHER).await;
    assert_eq!(settle(&*driver, &job, Verdict::Complete { result: None }).await, Settled::Done);
}

/// Why a turn was not possible.
async fn fails(settings: RedisSettings) -> String {
    let driver = driver(settings);
    let turn =
        driver.turn(&[], &[qfleet_queue::driver::Ask { lane: OTHER, at_most: 1 }], driver.mark()).await;
    let Err(QueueError::Unreachable(why)) = turn else { panic!("{turn:?}") };
    why
}

#[tokio::test]
async fn tcp_and_a_unix_socket() {
    let server = RedisServer::builder().tcp().start();
    works(plain(tcp(server.port(), false))).await;
    works(plain(RedisTarget::Unix { path: server.socket() })).await;
    let why = fails(plain(RedisTarget::Unix { path: server.dir().join("nothing") })).await;
    assert!(why.contains("redis+unix:///") && why.contains("No such file"), "{why}");
}

#[tokio::test]
async fn a_password_and_a_user() {
    let server = RedisServer::builder().tcp().password("s3cr:t/@").start();
    let mut settings = plain(tcp(server.port(), false));
    let why = fails(settings.clone()).await;
    assert!(why.contains("unauthenticated"), "{why}");
    settings.password = Some(Secret::new("wrong-guess"));
    let why = fails(settings.clone()).await;
    assert!(why.contains("does not accept the user and password") && !why.contains("wrong-guess"), "{why}");
    settings.password = Some(Secret::new("s3cr:t/@"));
    works(settings).await;

    let server = RedisServer::builder().user("worker", "pass/word").start();
    let mut settings = plain(RedisTarget::Unix { path: server.socket() });
    settings.username = Some("worker".into());
    settings.password = Some(Secret::new("pass/word"));
    works(settings.clone()).await;
    settings.username = Some("nobody".into());
    assert!(!fails(settings).await.contains("pass/word"));
}

#[tokio::test]
async fn another_database() {
    let server = RedisServer::start();
    let mut settings = plain(RedisTarget::Unix { path: server.socket() });
    settings.database = 3;
    let there = driver(settings.clone());
    there.push(OTHER, "other", br#"{"uuid":"u","job":"x","attempts":0}"#, None).await.unwrap();
    let mut redis = server.connection();
    redis::cmd("SELECT").arg(3).exec(&mut redis).unwrap();
    let length: u32 = redis::cmd("LLEN").arg(format!("{PREFIX}queues:other")).query(&mut redis).unwrap();
    assert_eq!(length, 1);
    assert!(
        take(&*driver(plain(RedisTarget::Unix { path: server.socket() })), OTHER, 1).await.jobs.is_empty()
    );
    assert_eq!(take(&*there, OTHER, 1).await.jobs.len(), 1);
}

#[tokio::test]
async fn tls_is_verified() {
    let server = RedisServer::builder().tls().start();
    let mut settings = plain(tcp(server.tls_port(), true));
    // Nobody in the system's list vouches for it.
    let why = fails(settings.clone()).await;
    assert!(why.contains("certificate"), "{why}");
    settings.ca_file = Some(server.certificates().ca.clone());
    works(settings.clone()).await;
    settings.target = RedisTarget::Tcp { host: "127.0.0.1".into(), port: server.tls_port(), tls: true };
    works(settings.clone()).await;
    settings.ca_file = Some(PathBuf::from("/nowhere/ca.pem"));
    let lanes = Vec::new();
    let opened =
        qfleet_queue::open(&qfleet_queue::OpenSettings { connection: connection(settings), lanes, tag: 1 });
    assert!(opened.unwrap_err().to_string().contains("`/nowhere/ca.pem`"));
}

#[tokio::test]
async fn sentinels_name_the_master() {
    let sentinels = Sentinels::with_password(1, "topsecret");
    let address = sentinels.addresses().remove(0);
    let (host, port) = address.split_once(':').unwrap();
    let target = |master: &str| RedisTarget::Sentinel {
        sentinels: vec![(host.to_owned(), port.parse().unwrap())],
        master: master.into(),
        tls: false,
    };
    let mut settings = plain(target(sentinels.name()));
    settings.password = Some(Secret::new("topsecret"));
    works(settings.clone()).await;
    settings.target = target("stranger");
    let why = fails(settings).await;
    assert!(why.contains("`stranger`") && !why.contains("topsecret"), "{why}");
}

#[tokio::test]
async fn a_user_with_the_needed_rights_only() {
    let server = RedisServer::start();
    let rights = [
        "resetkeys",
        "~app_database_*",
        "-@all",
        "+@read",
        "+@write",
        "+@scripting",
        "+@connection",
        "-client",
        "-keys",
        "on",
        ">pw",
    ];
    redis::cmd("ACL").arg("SETUSER").arg("worker").arg(&rights).exec(&mut server.connection()).unwrap();
    let mut settings = plain(RedisTarget::Unix { path: server.socket() });
    settings.username = Some("worker".into());
    settings.password = Some(Secret::new("pw"));
    works(settings.clone()).await;
    // Called off without the right to call off: the connection goes instead, and comes back.
    let worker = driver(settings.clone());
    for _ in 0..3 {
        let wait = worker.wait(&[OTHER], Duration::from_secs(20));
        assert!(tokio::time::timeout(Duration::from_millis(60), wait).await.is_err());
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    works(settings).await;
    // Without the right to reserve, a queue is refused before anything is taken.
    redis::cmd("ACL").arg("SETUSER").arg("worker").arg("-zadd").exec(&mut server.connection()).unwrap();
    worker.push(OTHER, "other", br#"{"uuid":"u","job":"x","attempts":0}"#, None).await.unwrap();
    let turn = take(&*worker, OTHER, 1).await;
    assert!(turn.jobs.is_empty());
    assert!(turn.broken[0].1.contains("can't run this command"), "{:?}", turn.broken);
    let left: u32 =
        redis::cmd("LLEN").arg(format!("{PREFIX}queues:other")).query(&mut server.connection()).unwrap();
    assert_eq!(left, 1);
}
