//! What is handed over in an upgrade: doors with logins, the watchdog's time, and the state as other versions write it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qfleet_testkit::{Answer, Receiver, RedisServer, Scratch, eventually};
use serde_json::Value;

use crate::support::{Fleet, QFLEET, SOON, payload, push, script, text};

/// `admin:secret`.
const LOGIN: &str = "Authorization: Basic YWRtaW46c2VjcmV0\r\n";

/// Writes the file with the password before it becomes the daemon.
const WITH_PASSWORD: [&str; 4] =
    ["sh", "-c", "umask 077; echo secret > \"${QFLEET_CONFIG%/*}/password\"; exec \"$@\"", "sh"];

/// The status line of an answer over TCP.
fn asked(port: u16, login: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{login}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Pids by name, of processes that have one.
fn pids(fleet: &Fleet) -> BTreeMap<String, i64> {
    let named = |process: &Value| Some((process["name"].as_str()?.to_owned(), process["pid"].as_i64()?));
    fleet.status().iter().filter_map(named).collect()
}

/// A program that is taken for a new one, and takes its time when it has the daemon's place.
fn slow(fleet: &Fleet, seconds: f64) -> String {
    let seen = fleet.dir.join("seen");
    let (seen, ready) = (seen.display(), fleet.dir.join("ready").display().to_string());
    let body =
        format!("if [ -e {seen} ]; then : > {ready}; sleep {seconds}; fi\n: > {seen}\nexec {QFLEET} \"$@\"");
    script(&fleet.dir, "slow", &body).display().to_string()
}

/// Over upgrades by command and by signal, and in the middle of one, this door asks for a login.
fn the_door_asks_for_a_login_all_the_time(fleet: &Fleet, port: u16) {
    let both = || [asked(port, ""), asked(port, LOGIN)];
    let as_it_should_be = ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 200 OK"];
    assert_eq!(both(), as_it_should_be);
    let before = pids(fleet);
    fleet.ok(&["upgrade"]);
    assert_eq!(both(), as_it_should_be);
    let times = || fleet.log().matches("upgraded from").count();
    fleet.signal(Signal::SIGUSR2);
    eventually(SOON, "the upgrade by a signal", || (times() == 2).then_some(()));
    assert_eq!(both(), as_it_should_be);
    let program = slow(fleet, 1.0);
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| fleet.ok(&["upgrade", "--binary", &program]));
        eventually(SOON, "the program to be in the daemon's place", || {
            fleet.dir.join("ready").exists().then_some(())
        });
        assert_eq!(both(), as_it_should_be, "who asks meanwhile waits at the door");
        upgrade.join().unwrap();
    });
    assert_eq!(pids(fleet), before);
}

#[test]
fn a_tcp_door_with_logins_stays_open_and_closed_to_strangers() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut fleet = Fleet::start_through(
        &WITH_PASSWORD,
        &format!(
            "programs: {{idle: {{command: sleep 1000, startsecs: 0}}}}
control: {{socket: {{dir}}/q.sock, listen: \"127.0.0.1:{port}\", auth: {{username: admin, password-file: {{dir}}/password}}}}\n"
        ),
    );
    fleet.wait_all_running();
    the_door_asks_for_a_login_all_the_time(&fleet, port);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn doors_that_were_handed_over_stay_open_and_closed_to_strangers() {
    let starter = [&WITH_PASSWORD[..], &crate::activation::starter("unix=q.sock,tcp=127.0.0.1")].concat();
    let mut fleet = Fleet::start_through(
        &starter,
        "programs: {idle: {command: sleep 1000, startsecs: 0}}
control: {socket: {dir}/q.sock, listen: \"127.0.0.1:1\", auth: {username: admin, password-file: {dir}/password}}\n",
    );
    fleet.wait_all_running();
    let port = fleet.dir.read("port").parse().unwrap();
    the_door_asks_for_a_login_all_the_time(&fleet, port);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
    assert!(fleet.dir.join("q.sock").exists(), "its file belongs to who has made it");
}

#[test]
fn the_watchdog_hears_of_the_daemon_in_time_over_an_upgrade() {
    const LIMIT: Duration = Duration::from_secs(4);
    let place = Scratch::new();
    let manager = UnixDatagram::bind(place.join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let variables = format!(
        "export WATCHDOG_PID=$$ WATCHDOG_USEC={} NOTIFY_SOCKET={}; exec \"$@\"",
        LIMIT.as_micros(),
        place.join("notify").display()
    );
    let mut fleet = Fleet::start_through(
        &["sh", "-c", &variables, "sh"],
        "programs: {idle: {command: sleep 1000, startsecs: 0}}\n",
    );
    fleet.wait_all_running();
    let (pings, done) = (Mutex::new(Vec::new()), Mutex::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 4096];
            while !*done.lock().unwrap() {
                if let Ok(length) = manager.recv(&mut bytes)
                    && text(&bytes[..length]).lines().any(|line| line == "WATCHDOG=1")
                {
                    pings.lock().unwrap().push(Instant::now());
                }
            }
        });
        let count = || pings.lock().unwrap().len();
        let another = |what: &str| {
            let before = count();
            eventually(SOON, what, || (count() > before).then_some(()));
        };
        another("a first ping");
        another("a second ping");
        // The next one is due in a while: what the daemon says on its way has to make up for it.
        std::thread::sleep(LIMIT * 3 / 8);
        let program = slow(&fleet, 3.0);
        fleet.ok(&["upgrade", "--binary", &program]);
        for _ in 0..2 {
            fleet.ok(&["upgrade"]);
            another("a ping after the upgrade");
        }
        *done.lock().unwrap() = true;
    });
    let pings = pings.into_inner().unwrap();
    let longest = pings.windows(2).map(|two| two[1] - two[0]).max().unwrap();
    assert!(longest < LIMIT, "{longest:?} between two pings");
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

/// Changes the state that is handed over as a later version would write it, then becomes ours.
const NEWER: &str = r#"
import json, os, sys
kind, program, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
handed = os.environ["QFLEET_HANDED_OVER"]
state = 0 if handed == "rehearsal" else int(handed.split(",")[0])
written = json.loads(os.pread(state, os.fstat(state).st_size, 0))
supervisor = written["supervisor"]
fleet = supervisor["fleet"]
if kind == "fields":
    structures = [written, written["outside"], supervisor, fleet, *supervisor["children"], *supervisor["captures"]]
    for one in structures + [*fleet["groups"].values(), *fleet["slots"].values()]:
        one["of-a-later-version"] = {"with": ["more", 7]}
elif kind == "format":
    written["format"] += 1
elif kind == "word":
    next(iter(fleet["slots"].values()))["state"] = {"Hibernating": {"until": 7}}
text = json.dumps(written).encode()
os.ftruncate(state, 0)
os.pwrite(state, text, 0)
os.lseek(state, 0, os.SEEK_SET)
os.execv(program, [program, *arguments])
"#;

#[test]
fn the_state_of_a_later_version_is_understood_or_refused_with_nothing_lost() {
    let mut fleet = Fleet::start_and_wait(
        "programs:
  idle: {command: sleep 1000, numprocs: 2, startsecs: 0}
  stopped: {command: sleep 1000, startsecs: 0}
",
    );
    let newer = fleet.dir.write("newer.py", NEWER).display().to_string();
    fleet.ok(&["stop", "stopped"]);
    fleet.ok(&["scale", "idle=3"]);
    fleet.wait_state("idle:idle_02", "RUNNING");
    let before = pids(&fleet);
    let by = |kind: &str| {
        let body = format!("exec python3 {newer} {kind} {QFLEET} \"$@\"");
        let program = script(&fleet.dir, kind, &body).display().to_string();
        fleet.qfleet(&["upgrade", "--binary", &program])
    };
    for (kind, words) in
        [("format", "it is in format 2, this program knows 1"), ("word", "unknown variant `Hibernating`")]
    {
        let output = by(kind);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{kind}: {said}");
        assert!(said.contains("cannot read the running daemon's state") && said.contains(words), "{said}");
        assert!(said.contains("nothing was changed"), "{said}");
        assert_eq!(pids(&fleet), before, "{kind}");
    }
    let output = by("fields");
    assert!(output.status.success(), "{}\n{}", text(&output.stderr), fleet.log());
    fleet.ok(&["upgrade"]);
    assert_eq!(pids(&fleet), before);
    assert_eq!(fleet.state("stopped"), "STOPPED");
    let described = fleet.process("idle:idle_00")["description"].as_str().unwrap().to_owned();
    assert!(described.ends_with("scaled 3, manifest 2"), "{described}");
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

/// Where a state is to be stored that the tests of later versions read; see `crates/app/tests/states`.
const STORE: &str = "QFLEET_STORE_STATE";

#[test]
fn a_fleet_in_the_middle_of_everything_can_be_written_down_and_read() {
    let redis = RedisServer::builder().tcp().start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_secs(2)));
    let mut fleet = Fleet::start(&format!(
        "redis: {{url: '{}'}}
queues:
  mail: {{numprocs: 2, handler: {{http: {{url: '{}/'}}}}}}
  backlog: {{numprocs: {{min: 1, max: 3}}, handler: {{shell: \"true\"}}, depends-on: [idle]}}
  one: {{handler: {{shell: \"true\"}}}}
  other: {{handler: {{shell: \"true\"}}}}
pools:
  small: {{queues: [one, other]}}
programs:
  idle: {{command: [sh, -c, 'printf half; exec sleep 1000'], startsecs: 0}}
  many: {{command: sleep 1000, numprocs: 2, startsecs: 0, environment: {{NUMBER: \"{{process_num}}\"}}}}
  stopped: {{command: sleep 1000, startsecs: 0}}
  broken: {{command: [sh, -c, 'exit 1'], startretries: 100}}
  missing: {{command: sleep 1000, cwd: '{{dir}}/nowhere', startretries: 0}}
  ready: {{command: sleep 1000, ready: {{notify: true, within: 10m}}, stop-signal: [{{signal: TERM, wait: 20s}}, {{signal: QUIT, wait: 5s}}]}}
  after: {{command: sleep 1000, depends-on: [ready]}}
  once: {{command: [sh, -c, 'exit 0'], autorestart: never, startsecs: 0}}
schedules:
  nightly: {{cron: \"0 3 * * *\", timezone: Europe/Paris, command: \"true\", overlap: queue}}
logging: {{dir: '{{dir}}/logs'}}
",
        redis.tcp_url(),
        receiver.url(),
    ));
    for name in ["mail:mail_00", "mail:mail_01", "small:small_00", "backlog:backlog_00", "idle", "stopped"] {
        fleet.wait_state(name, "RUNNING");
    }
    fleet.wait_state("missing", "FATAL");
    fleet.wait_state("once", "EXITED");
    fleet.ok(&["stop", "stopped"]);
    fleet.ok(&["scale", "many=3"]);
    push(&redis, "mail", (0..2).map(|n| payload(n, "")));
    receiver.wait_for(2, SOON);
    let state = std::thread::scope(|scope| {
        scope.spawn(|| fleet.qfleet(&["restart", "mail"]));
        eventually(SOON, "the rolling restart to begin", || {
            (fleet.state("mail:mail_00") == "STOPPING").then_some(())
        });
        // Whoever is asked whether it could take over gets all of it.
        let file = fleet.dir.join("state");
        let reader = format!("cat > {0}.new; mv {0}.new {0}; exit 1", file.display());
        let program = script(&fleet.dir, "reader", &reader).display().to_string();
        assert_eq!(fleet.qfleet(&["upgrade", "--binary", &program]).status.code(), Some(1));
        fleet.dir.read("state")
    });
    let state = state
        .replace(&fleet.dir.path().display().to_string(), "/run/qfleet")
        .replace(QFLEET, "/usr/bin/qfleet");
    let state: Value = serde_json::from_str(&state).unwrap();
    let fleet_of = &state["supervisor"]["fleet"];
    assert!(fleet_of["slots"].as_object().unwrap().len() > 10, "{fleet_of}");
    assert!(fleet_of["groups"].as_object().unwrap().values().any(|group| !group["rollout"].is_null()));
    if let Some(path) = std::env::var_os(STORE) {
        std::fs::write(path, format!("{state}\n")).unwrap();
    }
    fleet.ok(&["upgrade"]);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}
