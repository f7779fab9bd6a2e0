//! The servers of this crate really do what their names say.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use qfleet_testkit::{Guarded, RedisCluster, RedisServer, Sentinels, eventually};

const SOON: Duration = Duration::from_secs(60);

fn set(server: &RedisServer, key: &str, value: &str) {
    redis::cmd("SET").arg(key).arg(value).query::<()>(&mut server.connection()).unwrap();
}

fn get(server: &RedisServer, key: &str) -> Option<String> {
    redis::cmd("GET").arg(key).query(&mut server.connection()).unwrap()
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_killed_server_with_append_only_comes_back_with_what_it_acknowledged() {
    let server = RedisServer::builder().append_only().start();
    set(&server, "kept", "yes");
    server.kill9();
    assert!(server.client().get_connection().is_err());
    server.restart();
    assert_eq!(get(&server, "kept").as_deref(), Some("yes"));
}

#[test]
fn a_plain_server_forgets_and_keeps_its_port() {
    let server = RedisServer::builder().tcp().start();
    let port = server.port();
    set(&server, "kept", "no");
    server.stop();
    server.restart();
    assert_eq!(get(&server, "kept"), None);
    let client = redis::Client::open(server.tcp_url()).unwrap();
    redis::cmd("PING").query::<()>(&mut client.get_connection().unwrap()).unwrap();
    assert_eq!(server.port(), port);
}

#[test]
fn a_frozen_server_answers_only_after_it_goes_on() {
    let server = RedisServer::start();
    let mut connection = server.connection();
    connection.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    server.pause();
    assert!(redis::cmd("PING").query::<()>(&mut connection).is_err());
    server.resume();
    assert_eq!(get(&server, "nothing"), None);
}

#[test]
fn a_password_is_asked_for() {
    let server = RedisServer::builder().password("s3cr:t/@").tcp().start();
    set(&server, "in", "yes");
    let right = redis::Client::open(server.tcp_url()).unwrap();
    assert_eq!(
        redis::cmd("GET").arg("in").query::<String>(&mut right.get_connection().unwrap()).unwrap(),
        "yes"
    );
    let without = redis::Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap();
    let refused = without
        .get_connection()
        .and_then(|mut open| redis::cmd("GET").arg("in").query::<Option<String>>(&mut open));
    assert!(refused.unwrap_err().to_string().contains("NOAUTH"));
}

#[test]
fn a_named_user_gets_in_and_nobody_else() {
    let server = RedisServer::builder().user("worker", "hunter2").start();
    let name: String = redis::cmd("ACL").arg("WHOAMI").query(&mut server.connection()).unwrap();
    assert_eq!(name, "worker");
    let nameless =
        redis::Client::open(format!("redis+unix://{}?pass=hunter2", server.socket().display())).unwrap();
    assert!(nameless.get_connection().is_err());
}

#[test]
fn tls_is_spoken_with_a_certificate_of_our_authority() {
    let server = RedisServer::builder().tls().password("p").start();
    let ping = |ca: &std::path::Path| {
        let output = Command::new("redis-cli")
            .args(["--tls", "-h", "localhost", "-p", &server.tls_port().to_string(), "--cacert"])
            .arg(ca)
            .args(["-a", "p", "--no-auth-warning", "PING"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(ping(&server.certificates().ca), "PONG");
    let stranger = RedisServer::builder().tls().start();
    assert_ne!(ping(&stranger.certificates().ca), "PONG");
}

#[test]
fn a_replica_follows_its_master_and_refuses_writes() {
    let master = RedisServer::builder().tcp().password("p").start();
    let replica = RedisServer::builder().password("p").replica_of(&master).start();
    set(&master, "colour", "green");
    eventually(SOON, "the key at the replica", || get(&replica, "colour"));
    let refused = redis::cmd("SET").arg("a").arg("b").query::<()>(&mut replica.connection());
    assert!(refused.unwrap_err().to_string().to_lowercase().contains("read only"));
}

#[test]
fn one_sentinel_swaps_the_roles_on_demand() {
    let sentinels = Sentinels::start(1);
    let before = sentinels.current_master().port();
    assert_eq!(before, sentinels.master().port());
    sentinels.fail_over();
    assert_eq!(sentinels.current_master().port(), sentinels.replica().port());
    set(sentinels.current_master(), "written", "at the new master");
}

#[test]
fn three_sentinels_replace_a_killed_master() {
    let sentinels = Sentinels::with_password(3, "p");
    set(sentinels.master(), "colour", "green");
    eventually(SOON, "the key at the replica", || get(sentinels.replica(), "colour"));
    let before = sentinels.master().port();
    sentinels.master().kill9();
    sentinels.wait_for_new_master(before);
    assert_eq!(sentinels.current_master().port(), sentinels.replica().port());
    assert_eq!(get(sentinels.current_master(), "colour").as_deref(), Some("green"));
}

#[test]
fn dropping_a_server_ends_it_and_removes_its_directory() {
    let server = RedisServer::start();
    let (pid, dir) = (server.pid(), server.dir().to_owned());
    assert!(is_alive(pid) && dir.exists());
    drop(server);
    assert!(!is_alive(pid) && !dir.exists());
}

/// By itself a look at a living child; [`children_die_with_a_killed_test_process`] runs it as the process to be killed.
#[test]
fn holds_a_child_until_killed() {
    let held = Guarded::spawn(Command::new("sleep").arg("600"));
    assert!(is_alive(held.pid()));
    if std::env::var_os("QFLEET_TESTKIT_HOLD").is_some() {
        println!("child {}", held.pid());
        std::thread::sleep(Duration::from_secs(600));
    }
}

#[test]
fn children_die_with_a_killed_test_process() {
    let mut other = Guarded::spawn(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holds_a_child_until_killed", "--nocapture"])
            .env("QFLEET_TESTKIT_HOLD", "1")
            .stdout(Stdio::piped()),
    );
    let lines = BufReader::new(other.child().stdout.take().unwrap()).lines();
    let child: u32 = lines
        .map(Result::unwrap)
        .find_map(|line| line.split_once("child ").and_then(|(_, pid)| pid.trim().parse().ok()))
        .unwrap();
    assert!(is_alive(child));
    // The child has a process group of its own, so this kills the holder alone.
    other.kill9();
    eventually(SOON, "the end of the child", || (!is_alive(child)).then_some(()));
}

#[test]
fn the_end_of_a_child_is_reported_with_its_status() {
    let mut ends = Guarded::spawn(Command::new("sh").args(["-c", "exit 7"]));
    assert_eq!(ends.wait(SOON).code(), Some(7));
    let mut killed = Guarded::spawn(Command::new("sleep").arg("600"));
    assert!(killed.ended().is_none());
    killed.kill9();
    assert_eq!(killed.ended().unwrap().signal(), Some(9));
}

#[test]
fn a_cluster_moves_slots_and_replaces_a_killed_master() {
    let cluster = RedisCluster::start(3, 1);
    let set =
        |key: &str| redis::cmd("SET").arg(key).arg(1).query::<()>(&mut cluster.connection(key)).unwrap();
    for key in ["{a}1", "{a}2", "{b}", "{c}"] {
        set(key);
    }
    let before = cluster.owner("{a}1").port();
    let to = cluster.nodes()[..3].iter().find(|node| node.port() != before).unwrap();
    cluster.move_slot("{a}1", to);
    assert_eq!(cluster.owner("{a}2").port(), to.port());
    cluster.wait_until_well();
    assert_eq!(cluster.keys("*"), ["{a}1", "{a}2", "{b}", "{c}"]);
    cluster.wait_for_replicas("{a}1");
    to.kill9();
    let after = cluster.owner("{a}1").port();
    assert_ne!(after, to.port());
    cluster.wait_until_well();
    assert_eq!(cluster.keys("*"), ["{a}1", "{a}2", "{b}", "{c}"]);
}
