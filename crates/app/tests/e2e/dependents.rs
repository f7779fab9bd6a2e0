//! What depends on each other, asked for by hand.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use qfleet_testkit::eventually;

use crate::support::{Fleet, SOON, text};

/// So long a turn of replacement holds up the next one.
const TURN: Duration = Duration::from_secs(30);

/// A port that nobody has now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A queue in a Redis of the same fleet, and what depends on that queue.
fn fleet() -> Fleet {
    let port = free_port();
    Fleet::start_and_wait(&format!(
        "redis: redis://127.0.0.1:{port}
connections: {{a: {{driver: laravel, prefix: \"\"}}}}
queues:
  slow:
    numprocs: 2
    handler: {{shell: \"echo begun >> {{dir}}/begun; sleep 1; echo done >> {{dir}}/done\"}}
    depends-on: [redis]
programs:
  redis:
    command: redis-server --port {port} --save \"\" --dir {{dir}}
    ready: {{tcp: \"127.0.0.1:{port}\"}}
    startsecs: 0
  last: {{command: sleep 1000, startsecs: 0, depends-on: [slow]}}
"
    ))
}

#[test]
fn a_restart_of_all_at_once_drains_a_queue_before_its_redis_goes_and_brings_everything_back() {
    let mut fleet = fleet();
    let names = ["redis", "slow:slow_00", "slow:slow_01", "last"];
    let before = names.map(|name| fleet.pid_of(name));
    fleet.ok(&["push", "slow", "Job@fire"]);
    eventually(SOON, "the job to run", || fleet.dir.join("begun").exists().then_some(()));
    let said = fleet.ok(&["restart", "--now", "all"]);
    for (name, before) in names.iter().zip(before) {
        assert!(said.contains(&format!("{name}: restarted")), "{said}");
        assert_eq!(fleet.state(name), "RUNNING");
        assert_ne!(fleet.pid_of(name), before, "{name}");
    }
    assert_eq!(fleet.dir.read("done").trim(), "done", "the job was finished: {}", fleet.log());
    let log = fleet.log();
    let at = |name: &str, pid: i32, what: &str| {
        let wanted = [what, &format!("process={name} "), &format!("pid={pid}")].map(str::to_owned);
        let found = log.lines().position(|line| wanted.iter().all(|word| format!("{line} ").contains(word)));
        found.unwrap_or_else(|| panic!("{wanted:?}: {log}"))
    };
    let [redis, slow, _, last] = before;
    assert!(at("last", last, "ended") < at("slow:slow_00", slow, "being replaced"), "{log}");
    assert!(at("slow:slow_00", slow, "ended") < at("redis", redis, "being replaced"), "{log}");
    let [redis, slow, _, last] = names.map(|name| fleet.pid_of(name));
    assert!(at("redis", redis, "running") < at("slow:slow_00", slow, "running"), "{log}");
    assert!(at("slow:slow_00", slow, "running") < at("last", last, "running"), "{log}");
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn a_restart_that_would_wait_for_what_is_stopped_says_so_instead() {
    let mut fleet = fleet();
    fleet.ok(&["stop", "redis"]);
    let begun = Instant::now();
    for command in [["restart", "slow", "last"].as_slice(), &["restart", "--now", "slow", "last"]] {
        let output = fleet.qfleet(command);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("waiting for `redis`, which is STOPPED"), "{said}");
        assert!(said.contains("last: ERROR"), "{said}");
    }
    // Nobody who waits without end has a turn, which the next one would have to wait for.
    assert!(begun.elapsed() < TURN, "{:?}", begun.elapsed());
    let described = fleet.process("last")["description"].as_str().unwrap().to_owned();
    assert_eq!(described, "waiting for `slow`, which waits for `redis`, which is STOPPED");
    fleet.ok(&["start", "redis"]);
    fleet.wait_all_running();
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn a_restart_while_a_queue_becomes_smaller_is_no_failure() {
    let mut fleet = Fleet::start_and_wait(
        "programs:
  many: {command: [sh, -c, 'trap : TERM; until test -e {dir}/go; do sleep 0.05; done'], numprocs: 3, startsecs: 0}
",
    );
    fleet.ok(&["scale", "many=2"]);
    assert_eq!(fleet.state("many:many_02"), "STOPPING");
    std::thread::scope(|scope| {
        let restart = scope.spawn(|| fleet.ok(&["restart", "many"]));
        fleet.wait_state("many:many_00", "STOPPING");
        fleet.dir.write("go", "");
        let said = restart.join().unwrap();
        assert!(said.contains("many:many_00: restarted"), "{said}");
        assert!(said.contains("many:many_02: being removed"), "{said}");
    });
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}
