//! What surrounds the daemon: a service manager, a blocked output, its own violent death.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use qfleet_model::command::Command;
use qfleet_os::{signal, usage};
use qfleet_supervisor::Stream;

use crate::daemon::{daemon, daemon_with};
use crate::harness::{Case, until};

pub const CASES: &[Case] = &[
    ("the_service_manager_hears_how_it_is", the_service_manager_hears_how_it_is),
    ("a_blocked_output_blocks_no_child", a_blocked_output_blocks_no_child),
    ("nobody_survives_a_killed_daemon", nobody_survives_a_killed_daemon),
];

/// Daemons that cases start as processes of their own.
pub const PARTS: &[Case] = &[("part_flood", part_flood), ("part_family", part_family)];

fn the_service_manager_hears_how_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let hear = move |wanted: &str| {
        let mut bytes = [0; 1000];
        loop {
            let length = socket.recv(&mut bytes).expect(wanted);
            if String::from_utf8_lossy(&bytes[..length]).starts_with(wanted) {
                return;
            }
        }
    };
    let notify = path.display().to_string();
    let variables = [("NOTIFY_SOCKET", notify.as_str()), ("WATCHDOG_USEC", "200000")];
    let manifest = "programs: {one: {command: sleep 1000, startsecs: 0}, two: {command: \"false\"}}";
    let code = daemon_with(
        &variables,
        manifest,
        |_| (),
        move |tester| {
            hear("READY=1");
            hear("WATCHDOG=1");
            tester.ask(Command::Reload { dry_run: false, reset: false }).unwrap();
            hear("RELOADING=1");
            hear("READY=1");
            tester.shutdown();
            hear("STOPPING=1");
            hear("EXTEND_TIMEOUT_USEC=");
        },
    );
    assert_eq!(code, 0);
}

fn part_flood() {
    let manifest = std::env::var("QFLEET_TEST_MANIFEST").unwrap();
    daemon(&manifest, |tester| {
        tester.until_said("quiet", Stream::Stdout, "never");
    });
}

fn a_blocked_output_blocks_no_child() {
    let place = tempfile::tempdir().unwrap();
    let done = place.path().join("done");
    let lines = 300_000;
    let manifest = format!(
        "
programs:
  flood: {{command: \"sh -c 'seq -f %020g {lines}; touch {}; echo the end; exec sleep 1000'\", startsecs: 0}}
  quiet: {{command: sleep 1000}}
",
        done.display()
    );
    let mut daemon = part("part_flood", &manifest, Stdio::piped());
    until("the child to have written everything", || done.exists().then_some(()));
    let mut output = daemon.stdout.take().unwrap();
    let (mut text, mut bytes) = (String::new(), [0; 65_536]);
    while !text.contains("flood | the end") || !text.contains("lines were dropped") {
        let length = output.read(&mut bytes).unwrap();
        assert!(length > 0, "the output ended without saying what was dropped");
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        // The end itself may have been dropped; then the number says so.
        if text.contains("lines were dropped") {
            break;
        }
    }
    assert!(text.starts_with("flood | 00000000000000000001\n"));
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

fn part_family() {
    let manifest = std::env::var("QFLEET_TEST_MANIFEST").unwrap();
    daemon(&manifest, |tester| {
        tester.until_up();
        let pids: Vec<String> =
            tester.processes().iter().map(|process| process.pid.unwrap().to_string()).collect();
        std::fs::write(std::env::var("QFLEET_TEST_PIDS").unwrap(), pids.join(" ") + "\n").unwrap();
        tester.until_said("program", Stream::Stdout, "never");
    });
}

fn nobody_survives_a_killed_daemon() {
    let place = tempfile::tempdir().unwrap();
    let told = place.path().join("pids");
    let manifest = "
connections: {crm: {driver: laravel, redis: {url: redis://127.0.0.1:1/0}}}
queues: {messages: {connection: crm, handler: {http: {url: \"http://127.0.0.1:1/\"}}}}
programs: {program: {command: sleep 1000, startsecs: 0}}
";
    let mut daemon = part_with("part_family", manifest, Stdio::null(), Some(&told));
    let pids: Vec<i32> = until("the children", || {
        let text = std::fs::read_to_string(&told).ok().filter(|text| text.ends_with('\n'))?;
        Some(text.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
    });
    assert_eq!(pids.len(), 2);
    signal::send(i32::try_from(daemon.id()).unwrap(), 9).unwrap();
    daemon.wait().unwrap();
    let alive = |pid: &i32| usage::of(*pid).is_ok_and(|usage| usage.state != 'Z');
    until("the end of its children", || (!pids.iter().any(alive)).then_some(()));
}

fn part(name: &str, manifest: &str, stdout: Stdio) -> Child {
    part_with(name, manifest, stdout, None)
}

fn part_with(name: &str, manifest: &str, stdout: Stdio, pids: Option<&Path>) -> Child {
    let mut part = Process::new(std::env::current_exe().unwrap());
    part.args(["--case", name]).env("QFLEET_TEST_MANIFEST", manifest).stdin(Stdio::null()).stdout(stdout);
    if let Some(pids) = pids {
        part.env("QFLEET_TEST_PIDS", pids);
    }
    part.spawn().unwrap()
}
