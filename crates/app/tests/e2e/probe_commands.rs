//! Probes that are commands: they run as the program they are about, say what they found, and leave nobody behind.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qfleet_testkit::eventually;

use crate::support::{Fleet, SOON, is_alive, lines};

/// Something that is up at once. Scripts of probes are not there before a test writes them, and so probes fail.
const PROGRAM: &str = "command: sleep 1000, startsecs: 0";

fn told(fleet: &Fleet, name: &str) -> String {
    fleet.process(name)["description"].as_str().unwrap().to_owned()
}

#[track_caller]
fn wait_told(fleet: &Fleet, name: &str, what: &str) {
    eventually(SOON, what, || told(fleet, name).contains(what).then_some(()));
}

#[test]
fn it_runs_as_its_program_does_and_says_what_it_found() {
    let mut fleet = Fleet::start(&format!(
        "programs:
  web:
    command: sleep 1000
    startsecs: 0
    cwd: {{dir}}
    environment: {{COLOUR: 'green{{process_num}}', QFLEET_PROBED_PID: mine}}
    numprocs: 2
    umask: '077'
    ready: {{command: [sh, check, 'a b{{process_num:02}}'], interval: 50ms}}
  after: {{{PROGRAM}, depends-on: [web]}}
  absent: {{{PROGRAM}, ready: {{command: [/not/there]}}}}
"
    ));
    wait_told(&fleet, "web:web_00", "not ready yet: `sh`: ended with exit code");
    fleet.dir.write("check", "echo first >&2; echo 'no rules yet' >&2; exit 3");
    wait_told(&fleet, "web:web_00", "not ready yet: `sh`: ended with exit code 3: no rules yet");
    wait_told(
        &fleet,
        "absent",
        "not ready yet: `/not/there`: cannot execute /not/there: there is no such file",
    );
    assert_eq!(told(&fleet, "after"), "waiting for `web`");
    let check = "echo \"$PWD $COLOUR $QFLEET_PROBED_PID $(umask) $1 $QFLEET_PROCESS_NAME\" > found.$1
        read from_nowhere || exit 0";
    fleet.dir.write("check", check);
    fleet.wait_state("after", "RUNNING");
    for number in [0, 1] {
        let process = format!("web:web_0{number}");
        let found = fleet.dir.read(&format!("found.a b0{number}"));
        let (dir, pid) = (fleet.dir.path().display(), fleet.pid_of(&process));
        assert_eq!(found, format!("{dir} green{number} {pid} 0077 a b0{number} {process}\n"));
    }
    assert!(!fleet.log().contains("no rules yet"), "what a probe says is shown, not logged");
    assert_eq!(fleet.stop(), 0);
}

/// A probe that never answers, and which somebody leaves for good.
const HANGS: &str = "
setsid sh -c 'setsid sh -c \"echo \\$\\$ >> pids; exec sleep 1000\" & exit' >/dev/null 2>&1
trap '' TERM
echo $$ >> pids
while :; do sleep 0.05; done
";

fn pids(fleet: &Fleet) -> Vec<i32> {
    lines(fleet, "pids").iter().map(|pid| pid.parse().unwrap()).collect()
}

#[track_caller]
fn all_gone(fleet: &Fleet) {
    eventually(SOON, "nobody of a probe to be left", || {
        pids(fleet).iter().all(|pid| !is_alive(*pid)).then_some(())
    });
}

#[test]
fn one_that_takes_too_long_is_ended_with_all_it_started_and_counts_as_a_failure() {
    for way in [&[] as &[&str], &["env", "QFLEET_CGROUP=off"]] {
        let mut fleet = Fleet::start_through(
            way,
            &format!(
                "programs:
  web: {{{PROGRAM}, autostart: false, cwd: '{{dir}}', health: {{command: sh hangs, interval: 50ms, timeout: 2s, failures: 3}}}}
"
            ),
        );
        fleet.dir.write("hangs", HANGS);
        fleet.ok(&["start", "web"]);
        let first = fleet.pid_of("web");
        eventually(SOON, "another process", || {
            let process = fleet.process("web");
            (process["state"] == "RUNNING" && process["pid"] != first).then_some(())
        });
        assert!(
            fleet.log().contains("unhealthy: `sh`: no answer within 2s, 3 times in a row; it is replaced"),
            "{}",
            fleet.log()
        );
        fleet.ok(&["stop", "web"]);
        all_gone(&fleet);
        assert!(pids(&fleet).len() >= 3, "each was under way");
        assert_eq!(fleet.stop(), 0);
    }
}

#[test]
fn none_outlives_the_daemon_and_none_is_forgotten_over_an_upgrade() {
    let manifest = format!(
        "programs:
  web: {{{PROGRAM}, cwd: '{{dir}}', ready: {{command: sh hangs, interval: 50ms, timeout: 1h, within: 1h}}}}
"
    );
    let mut fleet = Fleet::start(&manifest);
    fleet.dir.write("hangs", HANGS);
    let begun = |fleet: &Fleet, count: usize| {
        eventually(SOON, "a probe to be under way", || (pids(fleet).len() >= count).then_some(()));
    };
    begun(&fleet, 2);
    let pid = fleet.pid_of("web");
    let before = pids(&fleet);
    fleet.ok(&["upgrade"]);
    eventually(SOON, "that of the earlier program to be gone", || {
        before.iter().all(|pid| !is_alive(*pid)).then_some(())
    });
    begun(&fleet, 4);
    assert_eq!((fleet.pid_of("web"), fleet.state("web").as_str()), (pid, "STARTING"));
    fleet.dir.write("hangs", "exit 0");
    fleet.kill9();
    fleet.start_another();
    fleet.wait_state("web", "RUNNING");
    all_gone(&fleet);
    fleet.dir.write("hangs", HANGS);
    let count = pids(&fleet).len();
    kill(Pid::from_raw(fleet.pid_of("web")), Signal::SIGKILL).unwrap();
    begun(&fleet, count + 2);
    assert_eq!(fleet.stop(), 0, "{}", fleet.log());
    assert!(pids(&fleet).iter().all(|pid| !is_alive(*pid)), "gone before the daemon is");
}
