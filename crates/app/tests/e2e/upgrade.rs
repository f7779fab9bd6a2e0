//! Another program takes the daemon's place, under load and when it goes wrong.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::{Answer, Gate, Receiver, RedisServer, Scratch, eventually};
use serde_json::Value;

use crate::support::{Fleet, Pace, QFLEET, SOON, is_alive, payload, push, text, wait_empty};

const ROUNDS: usize = 10;

/// Between two questions for the status.
const POLL: Duration = Duration::from_millis(50);

/// What is promised.
const ANSWER: Duration = Duration::from_secs(1);

/// Prints its numbered lines, now and then with a pause in the middle of one.
const TICKER: &str = "i=0; while :; do i=$((i+1)); printf 'tick '; sleep 0.01; echo $i; done";

/// A number of lines for every process of this name, as written to our own output.
fn ticks(fleet: &Fleet) -> Vec<usize> {
    let log = fleet.log();
    let lines = log.lines().filter_map(|line| line.strip_prefix("ticker | tick "));
    // The last one may have been cut off by its end.
    lines
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().unwrap_or_else(|_| panic!("torn: {number:?}")))
        .collect()
}

#[track_caller]
fn no_line_is_lost_or_doubled(fleet: &Fleet) {
    let ticks = ticks(fleet);
    assert!(ticks.len() > 1, "{}", fleet.log());
    let expected: Vec<usize> = (1..=ticks.len()).collect();
    assert!(ticks == expected, "{ticks:?}");
    let file = fleet.dir.read("logs/ticker.log");
    let in_file: Vec<usize> =
        file.lines().filter_map(|line| line.strip_prefix("tick ")?.parse().ok()).collect();
    assert!(in_file == (1..=in_file.len()).collect::<Vec<_>>(), "{in_file:?}");
}

/// Pids by name, of processes that have one.
fn pids(list: &[Value]) -> BTreeMap<String, i64> {
    let named = |process: &Value| Some((process["name"].as_str()?.to_owned(), process["pid"].as_i64()?));
    list.iter().filter_map(named).collect()
}

/// Does something ten times over while jobs come in and somebody looks at the status all the time. `keeps`: no process may
/// be replaced by it.
fn ten_times_under_load(keeps: bool, act: impl Fn(&Fleet, usize)) {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_millis(20)));
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    numprocs: 3\n    concurrency: 5\n    handler: {{http: {{url: '{}/'}}}}\n\
         programs:\n  ticker: {{command: [sh, -c, \"{TICKER}\"]}}\nlogging: {{dir: '{{dir}}/logs'}}\n",
        redis.url(),
        receiver.url()
    ));
    let before = pids(&fleet.status());
    let done = AtomicBool::new(false);
    let pace = Pace::watch();
    let jobs = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut jobs = 0;
            while !done.load(Ordering::SeqCst) {
                push(&redis, "mail", [payload(jobs, "")]);
                jobs += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            jobs
        });
        let sampler = scope.spawn(|| {
            let (mut samples, mut slowest) = (0, Duration::ZERO);
            // What is done may be done before somebody has looked.
            while samples < 3 || !done.load(Ordering::SeqCst) {
                let asked = Instant::now();
                let list = fleet.status();
                slowest = slowest.max(asked.elapsed());
                assert_eq!(list.len(), 4, "every slot is listed: {list:?}");
                if keeps {
                    assert_eq!(pids(&list), before);
                }
                samples += 1;
                std::thread::sleep(POLL);
            }
            (samples, slowest)
        });
        // Whatever fails in here, the others must end.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..ROUNDS).for_each(|round| act(&fleet, round));
        }));
        done.store(true, Ordering::SeqCst);
        let (samples, slowest) = sampler.join().unwrap();
        assert!(acted.is_ok(), "{}", fleet.log());
        let allowed = pace.allows(ANSWER);
        assert!(slowest < allowed, "the slowest of {samples} answers took {slowest:?}, not {allowed:?}");
        producer.join().unwrap()
    });
    receiver.wait_for(jobs, SOON);
    wait_empty(&redis, &fleet);
    let mut ids: Vec<String> =
        receiver.requests().iter().map(|request| request.header("Job-Id").unwrap().to_owned()).collect();
    assert_eq!(ids.len(), jobs, "no job ran twice");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), jobs, "no job was lost");
    no_line_is_lost_or_doubled(&fleet);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn ten_upgrades_under_load_disturb_no_job_no_process_and_no_line() {
    let descriptors = std::sync::Mutex::new(Vec::new());
    ten_times_under_load(true, |fleet, _| {
        let said = fleet.ok(&["upgrade"]);
        assert!(said.contains(": 4 processes were kept"), "{said}");
        // Whoever asks while we count is a descriptor, too.
        let count = || fs::read_dir(format!("/proc/{}/fd", fleet.pid())).unwrap().count();
        let fewest = (0..20).map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            count()
        });
        descriptors.lock().unwrap().push(fewest.min().unwrap());
    });
    let descriptors = descriptors.into_inner().unwrap();
    assert!(descriptors[ROUNDS - 1] <= descriptors[0] + 1, "descriptors leak: {descriptors:?}");
}

#[test]
fn ten_reloads_under_load_disturb_no_job_and_no_process() {
    ten_times_under_load(true, |fleet, round| {
        let manifest = fleet.dir.read("qfleet.yaml");
        let (from, to) = if round % 2 == 0 { (5, 6) } else { (6, 5) };
        let changed = manifest.replace(&format!("concurrency: {from}"), &format!("concurrency: {to}"));
        assert_ne!(changed, manifest);
        fleet.rewrite(&changed);
        fleet.ok(&["reload"]);
    });
}

#[test]
fn ten_rolling_restarts_under_load_lose_no_job_and_run_none_twice() {
    ten_times_under_load(false, |fleet, _| drop(fleet.ok(&["restart", "mail"])));
}

/// A script that is to be taken for a program.
fn wrapper(fleet: &Fleet, name: &str, body: &str) -> String {
    let path = fleet.dir.write(name, format!("#!/bin/bash\n{body}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// What a wrapper does when it is executed in the daemon's place, after the rehearsal.
fn in_place(fleet: &Fleet, name: &str, body: &str) -> String {
    let seen = fleet.dir.join(&format!("{name}.seen")).display().to_string();
    wrapper(fleet, name, &format!("if [ -e {seen} ]; then\n{body}\nfi\n: > {seen}\nexec {QFLEET} \"$@\""))
}

const IDLE: &str = "programs:\n  ticker: {command: [sh, -c, \"i=0; while :; do i=$((i+1)); printf 'tick '; sleep 0.01; echo $i; done\"]}\n  \
    idle: {command: sleep 1000}\n  stopped: {command: sleep 1000}\nlogging: {dir: '{dir}/logs'}\n";

#[test]
fn a_program_that_cannot_take_over_changes_nothing() {
    let mut fleet = Fleet::start_and_wait(IDLE);
    let (before, daemon) = (pids(&fleet.status()), fleet.pid());
    let image = fs::read_link(format!("/proc/{daemon}/exe")).unwrap();
    fleet.dir.write("data", "no program\n");
    let cases = [
        (wrapper(&fleet, "fails", "echo my own words >&2; exit 3"), "my own words"),
        (wrapper(&fleet, "silent", "exit 0"), "does not answer like qfleet"),
        (wrapper(&fleet, "killed", "kill -9 $$"), "KILL"),
        (wrapper(&fleet, "hangs", "sleep 1000"), "does not answer within"),
        (fleet.dir.join("data").display().to_string(), "cannot execute"),
        (fleet.dir.join("nowhere").display().to_string(), "cannot execute"),
        (fleet.dir.path().display().to_string(), "cannot execute"),
    ];
    for (program, words) in cases {
        let output = fleet.qfleet(&["upgrade", "--binary", &program]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{program}: {said}");
        assert!(said.contains(words) && said.contains("nothing was changed"), "{program}: {said}");
    }
    assert_eq!(pids(&fleet.status()), before);
    assert_eq!(fs::read_link(format!("/proc/{daemon}/exe")).unwrap(), image);
    fleet.ok(&["upgrade"]);
    no_line_is_lost_or_doubled(&fleet);
    assert_eq!(fleet.stop(), 0);
}

/// The descriptor of the control socket's listener that the daemon keeps; its server has a younger copy.
fn listener(fleet: &Fleet) -> u32 {
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    // It was bound under another name, beside its own.
    let place = fleet.dir.path().display().to_string();
    // Connections have the name of their listener, and not its flag.
    let inodes: Vec<String> = table
        .lines()
        .filter(|line| line.split_whitespace().nth(3) == Some("00010000"))
        .filter(|line| line.contains(&place) || line.ends_with(&format!(".{}.socket", fleet.pid())))
        .filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(6)?)))
        .collect();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", fleet.pid())).unwrap().flatten();
    let listening = descriptors.filter(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
    });
    listening.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).min().expect("a listener")
}

#[test]
fn a_program_that_finds_something_missing_puts_the_old_one_back() {
    let mut fleet = Fleet::start_and_wait(IDLE);
    let before = pids(&fleet.status());
    // Meanwhile nobody listens at all, and whoever waits for the upgrade asks several times.
    let closing = format!("exec {}>&-; sleep 0.5", listener(&fleet));
    let program = in_place(&fleet, "careless", &closing);
    let output = fleet.qfleet(&["upgrade", "--binary", &program]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}\n{}", fleet.log());
    assert!(said.contains("the new program could not take over"), "{said}");
    assert_eq!(pids(&fleet.status()), before, "every process lives");
    fleet.ok(&["upgrade"]);
    assert_eq!(pids(&fleet.status()), before);
    no_line_is_lost_or_doubled(&fleet);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn who_dies_and_what_is_written_and_asked_in_the_middle_is_noticed() {
    let mut fleet = Fleet::start_and_wait(IDLE);
    let (old, daemon) = (fleet.pid_of("idle"), fleet.pid());
    // Bash takes the daemon's place for a while. It reaps whoever ends, as no daemon is there.
    let ready = fleet.dir.join("ready").display().to_string();
    let program = in_place(&fleet, "slow", &format!(": > {ready}; sleep 1.5"));
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| fleet.ok(&["upgrade", "--binary", &program]));
        eventually(SOON, "the program to be in the daemon's place", || {
            fleet.dir.join("ready").exists().then_some(())
        });
        kill(Pid::from_raw(old), Signal::SIGKILL).unwrap();
        let listed = pids(&fleet.status());
        assert_ne!(listed.get("idle"), Some(&i64::from(old)), "whoever asks waits for the new one");
        assert!(upgrade.join().unwrap().contains("processes were kept"));
    });
    fleet.wait_all_running();
    assert_ne!(fleet.pid_of("idle"), old);
    assert_eq!(fleet.pid(), daemon);
    no_line_is_lost_or_doubled(&fleet);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn whoever_follows_the_output_of_a_process_gets_every_line_once() {
    let mut fleet = Fleet::start_and_wait(IDLE);
    let followed = fs::File::create(fleet.dir.join("followed")).unwrap();
    let mut command = std::process::Command::new(QFLEET);
    command.args(["tail", "-f", "-n", "100000", "ticker", "--socket"]).arg(fleet.dir.join("q.sock"));
    command.stdin(std::process::Stdio::null()).stdout(followed);
    let mut tail = qfleet_testkit::Guarded::spawn(&mut command);
    let lines = || fleet.dir.read("followed").lines().count();
    eventually(SOON, "the first lines", || (lines() > 0).then_some(()));
    for _ in 0..3 {
        let before = lines();
        fleet.ok(&["upgrade"]);
        eventually(SOON, "lines after the upgrade", || (lines() > before + 10).then_some(()));
    }
    assert!(tail.ended().is_none(), "it goes on");
    let text = fleet.dir.read("followed");
    let whole = &text[..=text.rfind('\n').unwrap()];
    let numbers: Vec<usize> =
        whole.lines().map(|line| line.strip_prefix("tick ").unwrap().parse().unwrap()).collect();
    let expected: Vec<usize> = (numbers[0]..numbers[0] + numbers.len()).collect();
    assert!(numbers == expected, "{numbers:?}");
    tail.kill9();
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_word_to_end_in_the_middle_is_not_lost() {
    let mut fleet = Fleet::start_and_wait(IDLE);
    let ready = fleet.dir.join("ready").display().to_string();
    let program = in_place(&fleet, "slow", &format!(": > {ready}; sleep 1"));
    std::thread::scope(|scope| {
        scope.spawn(|| fleet.qfleet(&["upgrade", "--binary", &program]));
        eventually(SOON, "the program to be in the daemon's place", || {
            fleet.dir.join("ready").exists().then_some(())
        });
        fleet.signal(Signal::SIGTERM);
    });
    assert_eq!(fleet.wait().code(), Some(0), "{}", fleet.log());
    no_line_is_lost_or_doubled(&fleet);
}

#[test]
fn killed_right_after_an_upgrade_it_leaves_what_it_always_leaves() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok().after(Duration::from_secs(2)));
    let mut fleet = Fleet::start_and_wait(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    numprocs: 2\n    tries: 3\n    handler: {{http: {{url: '{}/'}}}}\n\
         programs:\n  idle: {{command: sleep 1000}}\n",
        redis.url(),
        receiver.url()
    ));
    push(&redis, "mail", (0..2).map(|n| payload(n, "")));
    receiver.wait_for(2, SOON);
    let idle = fleet.pid_of("idle");
    fleet.ok(&["upgrade"]);
    fleet.kill9();
    eventually(SOON, "the program to end with the daemon", || (!is_alive(idle)).then_some(()));
    push(&redis, "mail", (2..4).map(|n| payload(n, "")));
    fleet.start_another();
    let all = receiver.wait_for(4, SOON);
    wait_empty(&redis, &fleet);
    assert_eq!(all.len(), 4, "each job runs once");
    fleet.wait_all_running();
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn what_operators_said_and_what_is_under_way_goes_on() {
    let redis = RedisServer::start();
    let upgraded = Gate::new();
    let receiver = Receiver::start({
        let upgraded = upgraded.clone();
        move |_| Answer::ok().behind(&upgraded)
    });
    let mut fleet = Fleet::start(&format!(
        "redis: {{url: '{}'}}\nqueues:\n  mail:\n    numprocs: 2\n    handler: {{http: {{url: '{}/'}}}}\n\
         programs:\n  \
         many: {{command: sleep 1000, numprocs: 2}}\n  stopped: {{command: sleep 1000}}\n  \
         broken: {{command: [sh, -c, 'exit 1'], startretries: 100, autostart: false}}\n  \
         variables: {{command: [sh, -c, 'env | grep -v ^QFLEET_TREE= | sort > {{dir}}/env.new; mv {{dir}}/env.new {{dir}}/env; exec sleep 1000']}}\n",
        redis.url(),
        receiver.url()
    ));
    for name in ["mail:mail_00", "mail:mail_01", "many:many_00", "many:many_01", "stopped", "variables"] {
        fleet.wait_state(name, "RUNNING");
    }
    fleet.ok(&["stop", "stopped"]);
    fleet.ok(&["scale", "many=3"]);
    eventually(SOON, "its variables", || fleet.dir.join("env").exists().then_some(()));
    let variables = fleet.dir.read("env");
    fs::remove_file(fleet.dir.join("env")).unwrap();
    let _ = fleet.qfleet(&["start", "broken"]);
    push(&redis, "mail", (0..2).map(|n| payload(n, "")));
    receiver.wait_for(2, SOON);
    let workers = ["mail:mail_00", "mail:mail_01"].map(|name| fleet.pid_of(name));
    std::thread::scope(|scope| {
        let restart = scope.spawn(|| fleet.qfleet(&["restart", "mail"]));
        eventually(SOON, "the rolling restart to begin", || {
            (fleet.state("mail:mail_00") == "STOPPING").then_some(())
        });
        // A second one at once is refused or comes after, and never in between.
        let both = [0, 1].map(|_| scope.spawn(|| fleet.qfleet(&["upgrade"])));
        let both = both.map(|upgrade| upgrade.join().unwrap().status.code());
        assert!(both.contains(&Some(0)), "{both:?}\n{}", fleet.log());
        let restart = restart.join().unwrap();
        assert!(text(&restart.stderr).contains("goes on"), "{}", text(&restart.stderr));
        upgraded.open();
    });
    eventually(SOON, "the rolling restart to go on to its end", || {
        let list = pids(&fleet.status());
        let replaced = |name: &str, old: i32| list.get(name).is_some_and(|pid| *pid != i64::from(old));
        (replaced("mail:mail_00", workers[0]) && replaced("mail:mail_01", workers[1])).then_some(())
    });
    receiver.wait_for(2, SOON);
    assert_eq!(fleet.state("stopped"), "STOPPED");
    fleet.wait_state("many:many_02", "RUNNING");
    assert!(["BACKOFF", "STARTING"].contains(&fleet.state("broken").as_str()), "still tried again");
    fleet.ok(&["restart", "variables"]);
    eventually(SOON, "the variables of its successor", || fleet.dir.join("env").exists().then_some(()));
    assert_eq!(fleet.dir.read("env"), variables);
    fleet.ok(&["reload", "--dry-run"]);
    wait_empty(&redis, &fleet);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
}

#[test]
fn a_signal_upgrades_too_and_the_service_manager_hears_of_it() {
    let place = Scratch::new();
    let manager = UnixDatagram::bind(place.join("notify")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let variable = format!("NOTIFY_SOCKET={}", place.join("notify").display());
    let mut fleet = Fleet::start_through(&["env", &variable], IDLE);
    let heard = |word: &str| {
        let mut bytes = [0; 4096];
        loop {
            let length = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{word}: {error}"));
            if text(&bytes[..length]).contains(word) {
                return;
            }
        }
    };
    heard("READY=1");
    fleet.wait_all_running();
    let before = pids(&fleet.status());
    fleet.signal(Signal::SIGUSR2);
    heard("RELOADING=1");
    heard("READY=1");
    eventually(SOON, "the log to tell", || fleet.log().contains("upgraded from").then_some(()));
    assert_eq!(pids(&fleet.status()), before);
    assert_eq!(fleet.stop(), 0);
    heard("STOPPING=1");
}
