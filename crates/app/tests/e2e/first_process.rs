//! As process 1 of a container: reaps strangers, and ends with a meaningful exit code.

use std::process::{Command, Stdio};

use qfleet_testkit::{Guarded, Scratch, eventually};

use crate::support::{QFLEET, SOON};

/// A PID namespace of its own; needs root, or a kernel that lets users make namespaces.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !nix::unistd::Uid::effective().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
}

#[test]
fn strangers_are_reaped_and_term_drains() {
    let dir = Scratch::new();
    let place = dir.path().display();
    // The program leaves a child behind that ends after it: an orphan for process 1.
    dir.write(
        "qfleet.yaml",
        format!(
            "programs:\n  \
             leaver: {{command: \"sh -c '(sleep 0.2; exit 7) & sleep 0.1'\", autorestart: false, startsecs: 0}}\n  \
             watcher: {{command: \"sh -c 'while :; do ps -eo stat,comm > {place}/ps.new; mv {place}/ps.new {place}/ps; sleep 0.1; done'\", startsecs: 0}}\n\
             control: {{socket: {place}/q.sock}}\n"
        ),
    );
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = unshare();
    command.args([QFLEET, "run", "-c"]).arg(dir.join("qfleet.yaml"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut fleet = Guarded::spawn(&mut command);

    let state = |name: &str| {
        let output = Command::new(QFLEET)
            .args(["status", "--json", "--socket"])
            .arg(dir.join("q.sock"))
            .output()
            .unwrap();
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        list.as_array()?.iter().find(|process| process["name"] == name)?["state"].as_str().map(str::to_owned)
    };
    eventually(SOON, "the leaver to end", || (state("leaver")? == "EXITED").then_some(()));
    // Long after the orphan's end no zombie is left.
    eventually(SOON, "a process list without zombies, with the orphan gone", || {
        let list = std::fs::read_to_string(dir.join("ps")).ok()?;
        (list.contains("qfleet") && !list.lines().any(|line| line.starts_with('Z'))).then_some(())
    });
    let upgrade =
        Command::new(QFLEET).args(["upgrade", "--socket"]).arg(dir.join("q.sock")).output().unwrap();
    assert!(upgrade.status.success(), "{upgrade:?}\n{}", dir.read("log"));
    let shutdown =
        Command::new(QFLEET).args(["shutdown", "--socket"]).arg(dir.join("q.sock")).output().unwrap();
    assert!(shutdown.status.success(), "{shutdown:?}\n{}", dir.read("log"));
    let status = fleet.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", dir.read("log"));
}
