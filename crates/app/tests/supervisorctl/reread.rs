//! A changed manifest: what is told about it, and what becomes of it.

use crate::client::Ctl;
use crate::support::Fleet;

const BEFORE: &str = "programs:
  inc: {command: sleep 1000, autostart: false}
  manual: {command: sleep 1000, startsecs: 0}
  worker: {command: sleep 1000, numprocs: 3, startsecs: 0}
  same: {command: sleep 1000, startsecs: 0}
";

const AFTER: &str = "programs:
  inc2: {command: sleep 1000, autostart: false}
  manual2: {command: sleep 1000, startsecs: 0}
  worker: {command: sleep 1000, numprocs: 4, startsecs: 0}
  same: {command: sleep 1000, startsecs: 0}
";

#[test]
fn only_groups_that_differ_are_touched() {
    let mut fleet = Fleet::start(BEFORE);
    for name in ["manual", "same", "worker:worker_02"] {
        fleet.wait_state(name, "RUNNING");
    }
    let ctl = Ctl::unix(&fleet);
    let same = fleet.pid_of("same");
    fleet.rewrite(AFTER);
    let lines = [
        "inc: disappeared",
        "inc2: available",
        "manual: disappeared",
        "manual2: available",
        "worker: changed",
    ];
    ctl.says(&["reread"], &lines, 0);
    ctl.says(&["reread"], &lines, 0);
    let avail = ctl.mentions(&["avail"], "manual2                          avail     auto", 0);
    assert!(!avail.lines().any(|line| line.starts_with("manual ")), "{avail}");
    fleet.wait_state("manual", "RUNNING");
    let (said, code) = ctl.run(&["update"]);
    let mut said: Vec<&str> = said.lines().collect();
    said.sort_unstable();
    let expected = [
        "inc2: added process group",
        "inc: removed process group",
        "inc: stopped",
        "manual2: added process group",
        "manual: removed process group",
        "manual: stopped",
        "worker: stopped",
        "worker: updated process group",
    ];
    assert_eq!((said.as_slice(), code), (expected.as_slice(), 0));
    for name in ["manual2", "worker:worker_00", "worker:worker_03"] {
        fleet.wait_state(name, "RUNNING");
    }
    assert_eq!(fleet.pid_of("same"), same);
    let names: Vec<String> =
        fleet.status().iter().map(|process| process["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names[..2], ["inc2", "manual2"], "in the manifest's order: {names:?}");
    ctl.says(&["reread"], &["No config updates to processes"], 0);
    assert!(fleet.ok(&["reload"]).contains("nothing"), "the manifest is wholly in force");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_broken_manifest_changes_nothing() {
    let mut fleet = Fleet::start_and_wait(BEFORE.replace("autostart: false", "startsecs: 0").as_str());
    let ctl = Ctl::unix(&fleet);
    let before: Vec<_> = fleet.status().iter().map(|process| process["pid"].clone()).collect();
    fleet.rewrite("programs:\n  same: {comand: sleep 1000}\n");
    let said = ctl.mentions(&["reread"], "ERROR: CANT_REREAD: ", 1);
    assert!(said.contains("did you mean `command`?"), "{said}");
    ctl.mentions(&["update"], "CANT_REREAD", 1);
    ctl.mentions(&["reload"], "CANT_REREAD", 1);
    let after: Vec<_> = fleet.status().iter().map(|process| process["pid"].clone()).collect();
    assert_eq!(before, after);
    assert_eq!(fleet.stop(), 0);
}
