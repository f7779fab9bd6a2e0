//! Plain programs: supervisord's states and restart rules.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::eventually;

use crate::support::{Fleet, SOON, is_alive, text};

#[test]
fn a_program_lives_through_every_state() {
    let mut fleet = Fleet::start(
        "programs:
  steady: {command: sleep 1000, startsecs: 0.2}
  manual: {command: sleep 1000, autostart: false, startsecs: 0}
  once: {command: \"sh -c 'sleep 0.3; exit 3'\", autorestart: unexpected, exitcodes: [3], startsecs: 0}
  broken: {command: \"sh -c 'echo cannot go on >&2; exit 1'\", startretries: 1, startsecs: 1}
",
    );
    fleet.wait_state("steady", "RUNNING");
    fleet.wait_state("once", "EXITED");
    assert_eq!(fleet.process("once")["exit"]["code"], 3);
    fleet.wait_state("broken", "FATAL");
    let manual = fleet.process("manual");
    assert_eq!(
        (manual["state"].as_str(), manual["description"].as_str()),
        (Some("STOPPED"), Some("Not started"))
    );
    assert_eq!(fleet.qfleet(&["status"]).status.code(), Some(3), "something is not up");
    assert_eq!(fleet.qfleet(&["status", "steady"]).status.code(), Some(0));

    assert!(fleet.ok(&["tail", "broken", "stderr"]).contains("cannot go on"));
    assert!(fleet.ok(&["start", "manual"]).contains("manual: started"));
    assert!(fleet.ok(&["start", "manual"]).contains("manual"), "starting what runs is fine");
    let pid = fleet.pid_of("steady");
    assert_eq!(fleet.ok(&["pid", "steady"]).trim(), pid.to_string());
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually(SOON, "another process for the killed one", || {
        let process = fleet.process("steady");
        (process["state"] == "RUNNING" && process["pid"] != pid).then_some(())
    });
    fleet.ok(&["signal", "KILL", "manual"]);
    eventually(SOON, "a restart after the signal", || {
        (fleet.process("manual")["state"] == "RUNNING").then_some(())
    });
    fleet.ok(&["stop", "steady", "manual"]);
    assert_eq!(fleet.state("steady"), "STOPPED");
    assert_eq!(fleet.qfleet(&["start", "nonsense"]).status.code(), Some(1));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_stubborn_program_and_its_children_are_ended() {
    let mut fleet = Fleet::start_and_wait(
        "programs:
  stubborn: {command: \"sh -c 'trap : TERM; sleep 1000 & echo child $!; while :; do sleep 1000; done'\", stop-wait: 500ms, startsecs: 0.2}
",
    );
    let child: i32 = eventually(SOON, "the child's number", || {
        fleet.ok(&["tail", "stubborn"]).split("child ").nth(1)?.trim().lines().next()?.parse().ok()
    });
    assert!(is_alive(child));
    fleet.ok(&["stop", "stubborn"]);
    assert_eq!(fleet.process("stubborn")["exit"]["signal"], "KILL");
    eventually(SOON, "the grandchild to be gone", || (!is_alive(child)).then_some(()));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn output_carries_the_name_and_a_flood_blocks_nobody() {
    let mut fleet = Fleet::start(
        "programs:
  talker: {command: \"sh -c 'echo to out; echo to err >&2; sleep 1000'\", startsecs: 0}
  flood: {command: \"sh -c 'until test -e {dir}/go; do sleep 0.02; done; yes | head -c 50000000; exec sleep 1000'\", startsecs: 0}
",
    );
    // Who floods us costs others lines, too, if they speak at the same time.
    eventually(SOON, "prefixed lines", || {
        let log = fleet.log();
        (log.lines().any(|line| line.contains("talker") && line.ends_with("to out"))
            && log.lines().any(|line| line.contains("talker") && line.ends_with("to err")))
        .then_some(())
    });
    fleet.dir.write("go", "");
    eventually(SOON, "the flood to have been read to its end", || {
        let command = std::fs::read(format!("/proc/{}/cmdline", fleet.pid_of("flood"))).ok()?;
        text(&command).starts_with("sleep\0").then_some(())
    });
    assert!(fleet.ok(&["tail", "flood"]).len() <= 64 * 1024);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn five_hundred_programs_start_and_stop_quickly() {
    let started = std::time::Instant::now();
    let mut fleet =
        Fleet::start_and_wait("programs:\n  many: {command: sleep 1000, numprocs: 500, startsecs: 0}\n");
    let up = started.elapsed();
    let stopping = std::time::Instant::now();
    assert_eq!(fleet.stop(), 0);
    let down = stopping.elapsed();
    println!("500 programs: up after {up:?}, down after {down:?} (debug build)");
    assert!(up < SOON && down < SOON);
}

#[test]
fn an_essential_program_takes_the_fleet_with_it_and_the_exit_code_says_why() {
    let others = "  other: {command: sleep 1000, startsecs: 0}\n";
    for (more, code) in [
        ("command: \"sh -c 'sleep 0.2; exit 0'\", startsecs: 0, autorestart: unexpected", 0),
        ("command: \"sh -c 'sleep 0.2; exit 3'\", startsecs: 0, autorestart: never", 76),
        ("command: /no/such/program, startretries: 0", 76),
    ] {
        let mut fleet = Fleet::start(&format!("programs:\n  main: {{{more}, essential: true}}\n{others}"));
        assert_eq!(fleet.wait().code(), Some(code), "{more}\n{}", fleet.log());
        let said =
            if code == 0 { "has done its work: the fleet ends" } else { "has failed for good: `main` " };
        assert!(fleet.log().contains(said), "{}", fleet.log());
    }
}
