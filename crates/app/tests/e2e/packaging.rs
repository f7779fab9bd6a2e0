//! What is shipped beside the binary is true: the example, the unit, the demonstration.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use qfleet_testkit::{Guarded, Scratch, eventually};

use crate::support::{QFLEET, SOON, text};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn the_systemd_unit_is_valid() {
    // systemd wants the executable to exist where the unit says.
    let unit = std::fs::read_to_string(repository().join("systemd/qfleet.service")).unwrap();
    let place = Scratch::new();
    let mended = place.write("qfleet.service", unit.replace("/usr/local/bin/qfleet", QFLEET));
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&mended)
        .output()
        .expect("systemd-analyze (`make test` installs it)");
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("qfleet.service:"), "{said}");
}

#[test]
fn the_demonstration_handles_its_jobs_and_leaves_nothing_behind() {
    let place = Scratch::new();
    let log = std::fs::File::create(place.join("log")).unwrap();
    let mut command = Command::new(repository().join("deploy/demo/run.sh"));
    command.arg(QFLEET).env("TMPDIR", place.path()).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let mut demo = Guarded::spawn(&mut command);
    let shown = eventually(SOON * 2, "the demonstration to show its jobs", || {
        let log = place.read("log");
        log.contains("the fleet goes on").then_some(log)
    });
    for sign in [
        "App\\Mail\\Welcome",
        "attempt 3 -> 200",
        "attempt 1 -> 422",
        "thumbnail for job",
        "App\\Mail\\Refused",
    ] {
        assert!(shown.contains(sign), "`{sign}` is missing in:\n{shown}");
    }
    demo.signal(Signal::SIGINT);
    let status = demo.wait(SOON);
    let log = place.read("log");
    assert!(status.success(), "{status}\n{log}");
    let left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["log"], "{log}");
}
