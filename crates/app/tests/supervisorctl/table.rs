//! The conformance table, row by row, over the socket and over TCP.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use qfleet_testkit::{Scratch, eventually, free_port};

use crate::client::{Ctl, PASSWORD, wait_said};
use crate::support::{Fleet, SOON, script, text};

const PROGRAMS: &str = "programs:
  cat: {command: cat, startsecs: 0}
  chatty: {command: \"sh -c 'echo 0123456789abcdefghij; echo oops >&2; exec sleep 1000'\", startsecs: 0}
  done: {command: 'true', startsecs: 0, autorestart: never}
  fails: {command: \"sh -c 'exit 1'\", autostart: false, startretries: 1}
  manual: {command: sleep 1000, autostart: false, startsecs: 0}
  missing: {command: '{bin}/missing', autostart: false}
  nolog: {command: sleep 1000, redirect-stderr: true, startsecs: 0}
  notexec: {command: '{bin}/notexec', autostart: false}
  worker: {command: sleep 1000, numprocs: 2, startsecs: 0, priority: 50}
";

fn fleet(more: &str) -> Fleet {
    let bin = Scratch::new();
    script(&bin, "missing", "exec sleep 1000");
    let notexec = script(&bin, "notexec", "exec sleep 1000");
    let programs = PROGRAMS.replace("{bin}", &bin.path().display().to_string());
    let fleet = Fleet::start(&format!("{programs}{more}"));
    // They were there when the manifest was read.
    fs::remove_file(bin.join("missing")).unwrap();
    fs::set_permissions(&notexec, fs::Permissions::from_mode(0o644)).unwrap();
    // The directory stays as long as the test's process lives.
    std::mem::forget(bin);
    for name in ["cat", "chatty", "nolog", "worker:worker_00", "worker:worker_01"] {
        fleet.wait_state(name, "RUNNING");
    }
    fleet.wait_state("done", "EXITED");
    fleet
}

#[test]
fn over_the_socket() {
    let fleet = fleet("");
    let ctl = Ctl::unix(&fleet);
    whole_table(fleet, &ctl);
}

#[test]
fn over_the_socket_with_the_newest_client() {
    let fleet = fleet("");
    let Some(ctl) = Ctl::unix(&fleet).newest() else { return };
    whole_table(fleet, &ctl);
}

#[test]
fn over_tcp_with_a_password() {
    let port = free_port();
    let control = format!(
        "\ncontrol:\n  socket: '{{dir}}/q.sock'\n  listen: 127.0.0.1:{port}\n  auth: {{username: admin, password: '{PASSWORD}'}}\n"
    );
    let fleet = fleet(&control);
    let wrong = Ctl::at(&format!("http://127.0.0.1:{port}"), Some("wrong"));
    for words in [["status"], ["pid"], ["avail"], ["version"], ["reread"]] {
        wrong.mentions(&words, "Server requires authentication", 1);
    }
    let nobody = Ctl::at(&format!("http://127.0.0.1:{port}"), None);
    nobody.mentions(&["start", "manual"], "Server requires authentication", 1);
    assert_eq!(fleet.state("manual"), "STOPPED");
    whole_table(fleet, &Ctl::tcp(port));
}

fn whole_table(fleet: Fleet, ctl: &Ctl) {
    looking(&fleet, ctl);
    steering(ctl);
    logs(ctl);
    groups(ctl);
    ending(fleet, ctl);
}

fn looking(fleet: &Fleet, ctl: &Ctl) {
    ctl.says(&["version"], &[env!("CARGO_PKG_VERSION")], 0);
    ctl.says(&["pid"], &[&fleet.pid().to_string()], 0);
    let status = ctl.mentions(&["status"], "cat                              RUNNING   pid ", 3);
    for line in [
        "done                             EXITED    ",
        "manual                           STOPPED   Not started",
        "worker:worker_00                 RUNNING   pid ",
        ", uptime 0:0",
    ] {
        assert!(status.contains(line), "{line:?} is missing in\n{status}");
    }
    let names: Vec<&str> = status.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.is_sorted() && names.len() == 10, "{names:?}");
    ctl.mentions(&["status", "cat", "chatty"], "RUNNING", 0);
    ctl.mentions(&["status", "manual"], "STOPPED", 3);
    ctl.says(&["status", "nope"], &["nope: ERROR (no such process)"], 4);
    ctl.says(&["status", "nope:*"], &["nope: ERROR (no such group)"], 4);
    let workers = ctl.mentions(&["status", "worker:*"], "worker:worker_01", 0);
    assert_eq!(workers.lines().count(), 2, "{workers}");
    ctl.mentions(&["status", "worker"], "worker: ERROR (no such process)", 4);
    ctl.says(&["pid", "cat"], &[&fleet.pid_of("cat").to_string()], 0);
    ctl.says(&["pid", "done"], &["0"], 7);
    ctl.says(&["pid", "nope"], &["No such process nope"], 1);
    ctl.mentions(&["avail", "x"], "Error: avail accepts no arguments", 1);
    let avail = ctl.mentions(&["avail"], "worker:worker_01", 0);
    assert!(avail.contains("cat                              in use    auto      999:999\n"), "{avail}");
    assert!(avail.contains("manual                           in use    manual    999:999\n"), "{avail}");
    assert!(avail.contains("worker:worker_00                 in use    auto      50:50\n"), "{avail}");
}

fn steering(ctl: &Ctl) {
    ctl.mentions(&["start"], "start <name>", 2);
    ctl.says(&["start", "cat"], &["cat: ERROR (already started)"], 0);
    ctl.says(&["start", "nope"], &["nope: ERROR (no such process)"], 1);
    ctl.says(&["start", "nope:*"], &["nope: ERROR (no such group)"], 2);
    ctl.says(&["start", "missing"], &["missing: ERROR (no such file)"], 1);
    ctl.says(&["start", "notexec"], &["notexec: ERROR (file is not executable)"], 1);
    ctl.says(&["start", "fails"], &["fails: ERROR (spawn error)"], 7);
    ctl.says(&["start", "manual"], &["manual: started"], 0);
    ctl.says(&["start", "worker:*"], &[], 0);
    ctl.mentions(&["stop"], "stop <name>", 1);
    ctl.says(&["stop", "manual"], &["manual: stopped"], 0);
    ctl.says(&["stop", "manual"], &["manual: ERROR (not running)"], 0);
    ctl.says(&["stop", "nope:*"], &["nope: ERROR (no such group)"], 1);
    ctl.says(&["stop", "nope"], &["nope: ERROR (no such process)"], 1);
    ctl.says(
        &["restart", "worker:worker_01"],
        &["worker:worker_01: stopped", "worker:worker_01: started"],
        0,
    );
    ctl.says(
        &["restart", "worker:*"],
        &[
            "worker:worker_00: stopped",
            "worker:worker_01: stopped",
            "worker:worker_00: started",
            "worker:worker_01: started",
        ],
        0,
    );
    ctl.says(&["restart", "nope"], &["nope: ERROR (no such process)", "nope: ERROR (no such process)"], 1);
    ctl.says(&["signal", "BOGUS", "cat"], &["cat: ERROR (bad signal name)"], 1);
    ctl.says(
        &["signal", "BOGUS", "worker:*"],
        &["worker:worker_00: ERROR (bad signal name)", "worker:worker_01: ERROR (bad signal name)"],
        1,
    );
    let all = ctl.mentions(&["signal", "BOGUS", "all"], "cat: ERROR (bad signal name)", 1);
    assert!(!all.contains("Fault"), "told of each process, not of all as one: {all}");
    ctl.says(&["signal", "CONT", "manual"], &["manual: ERROR (not running)"], 7);
    ctl.says(&["signal", "0", "cat"], &["cat: signalled"], 0);
    let all = ctl.mentions(&["signal", "CONT", "all"], "cat: signalled", 0);
    assert!(all.starts_with("worker:worker_00: signalled") && !all.contains("manual"), "by priority: {all}");
    ctl.says(
        &["signal", "sigcont", "worker:*"],
        &["worker:worker_00: signalled", "worker:worker_01: signalled"],
        0,
    );
}

fn logs(ctl: &Ctl) {
    ctl.says(&["tail", "nope"], &["nope: ERROR (no such process name)"], 1);
    ctl.says(&["tail", "nolog", "stderr"], &["nolog: ERROR (no log file)"], 1);
    ctl.says(&["tail", "-11", "chatty"], &["abcdefghij", ""], 0);
    ctl.says(&["tail", "-20", "chatty"], &["123456789abcdefghij", ""], 0);
    ctl.says(&["tail", "chatty", "stderr"], &["oops", ""], 0);
    ctl.mentions(&["tail", "chatty", "neither"], "Error: bad channel 'neither'", 1);
    ctl.mentions(&["tail", "-f", "nope"], "Cannot read, status code 404", 0);
    ctl.mentions(&["maintail", "-8000"], "asked over", 0);
    ctl.says(&["clear", "worker:*"], &["worker:None: ERROR (no such process)"], 1);
    ctl.says(&["clear", "nope"], &["nope: ERROR (no such process)"], 1);
    ctl.says(&["clear", "chatty"], &["chatty: cleared"], 0);
    ctl.says(&["tail", "chatty"], &[""], 0);
    ctl.mentions(&["clear", "all"], "worker:worker_01: cleared", 0);
}

fn groups(ctl: &Ctl) {
    ctl.says(&["reread"], &["No config updates to processes"], 0);
    ctl.says(&["update"], &[], 0);
    ctl.says(&["update", "nope"], &["ERROR: no such group: nope"], 1);
    ctl.says(&["add", "cat"], &["ERROR: process group already active"], 0);
    ctl.says(&["add", "nope"], &["ERROR: no such process/group: nope"], 1);
    ctl.says(&["remove", "cat"], &["ERROR: process/group still running: cat"], 1);
    ctl.says(&["remove", "nope"], &["ERROR: no such process/group: nope"], 1);
    ctl.says(&["remove", "manual"], &["manual: removed process group"], 0);
    ctl.says(&["status", "manual"], &["manual: ERROR (no such process)"], 4);
    ctl.says(&["reread"], &["manual: available"], 0);
    ctl.says(&["add", "manual"], &["manual: added process group"], 0);
    ctl.mentions(&["status", "manual"], "STOPPED   Not started", 3);
    ctl.says(&["fg", "nope"], &["ERROR: bad process name supplied"], 1);
    ctl.says(&["fg", "manual"], &["ERROR: process not running"], 1);
    ctl.mentions(&["levitate"], "*** Unknown syntax: levitate", 1);
}

/// Shuts down a fleet of which one program takes its time.
fn ending(mut fleet: Fleet, ctl: &Ctl) {
    let again = "programs:\n  slow: {command: \"sh -c 'trap : TERM; echo deaf; while :; do sleep 0.1; done'\", stop-wait: 600s, startsecs: 0}\n";
    fleet.rewrite(&format!("{again}\ncontrol: {{socket: '{{dir}}/q.sock'}}\n"));
    ctl.mentions(&["update"], "slow: added process group", 0);
    wait_said(&fleet, "slow", "deaf");
    ctl.says(&["shutdown"], &["Shut down"], 0);
    ctl.says(&["shutdown"], &["ERROR: already shutting down"], 0);
    ctl.says(&["reload"], &["ERROR: already shutting down"], 1);
    ctl.mentions(&["status"], "SHUTDOWN_STATE", 1);
    ctl.mentions(&["start", "slow"], "SHUTDOWN_STATE", 1);
    for words in ["avail", "reread", "update"] {
        ctl.mentions(&[words], "shutting down", 1);
    }
    assert_eq!(fleet.state("slow"), "STOPPING", "our own client still shows it");
    fleet.signal(nix::sys::signal::Signal::SIGQUIT);
    assert_eq!(fleet.wait().code(), Some(75), "{}", fleet.log());
    eventually(SOON, "nobody to listen any more", || (ctl.run(&["pid"]).1 != 0).then_some(()));
}

#[test]
fn without_a_daemon() {
    let dir = Scratch::new();
    let ctl = Ctl::at(&format!("unix://{}/none.sock", dir.path().display()), None);
    ctl.mentions(&["status"], "no such file", 4);
    ctl.mentions(&["start", "x"], "no such file", 7);
    let ctl = Ctl::at(&format!("http://127.0.0.1:{}", free_port()), None);
    ctl.mentions(&["status"], "refused connection", 4);
    ctl.mentions(&["start", "x"], "refused connection", 4);
}

#[test]
fn a_program_that_asks_for_input_gets_none_and_waits() {
    let fleet = fleet("");
    let cat = fleet.process("cat");
    assert_eq!(cat["state"], "RUNNING");
    assert_eq!(cat["exit"], serde_json::Value::Null, "it has never ended: {}", text(fleet.log().as_bytes()));
}
