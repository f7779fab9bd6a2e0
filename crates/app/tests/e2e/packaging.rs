//! What is shipped beside the binary is true: the example, the unit, the demonstration.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
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
fn the_socket_unit_is_valid_and_opens_the_daemons_usual_socket() {
    let unit = std::fs::read_to_string(repository().join("systemd/qfleet.socket")).unwrap();
    assert!(unit.lines().any(|line| line == "ListenStream=/run/qfleet/qfleet.sock"));
    let place = Scratch::new();
    let service = std::fs::read_to_string(repository().join("systemd/qfleet.service")).unwrap();
    place.write("qfleet.service", service.replace("/usr/local/bin/qfleet", QFLEET));
    let file = place.write("qfleet.socket", unit);
    let output = Command::new("systemd-analyze").arg("verify").arg(&file).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("qfleet."), "{said}");
}

#[test]
fn the_systemd_unit_grants_what_the_daemon_counts_on() {
    let unit = std::fs::read_to_string(repository().join("systemd/qfleet.service")).unwrap();
    let has = |setting: &str| unit.lines().any(|line| line == setting);
    // Nobody but the daemon is told to end, and it is heard when it asks for more time.
    assert!(has("KillMode=mixed") && has("Type=notify") && has("NotifyAccess=main"));
}

fn demonstration(place: &Scratch) -> Guarded {
    let log = std::fs::File::create(place.join("log")).unwrap();
    // A shell that begins with SIGINT ignored, as everything does that was started in the background, cannot change that.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=INT"])
        .arg(repository().join("deploy/demo/run.sh"))
        .arg(QFLEET)
        .env("TMPDIR", place.path())
        .stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    Guarded::spawn(&mut command)
}

#[test]
fn the_demonstration_leaves_nothing_behind_when_it_is_interrupted_too_early_or_twice() {
    for pauses in [&[20][..], &[150], &[400], &[2000, 100], &[2000, 1100]] {
        let place = Scratch::new();
        let mut demo = demonstration(&place);
        for pause in pauses {
            std::thread::sleep(Duration::from_millis(*pause));
            // As Ctrl-C does: to all of them.
            let _ended = killpg(Pid::from_raw(i32::try_from(demo.pid()).unwrap()), Signal::SIGINT);
        }
        demo.wait(SOON);
        let left: Vec<_> =
            std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["log"], "interrupted after {pauses:?} ms:\n{}", place.read("log"));
    }
}

#[test]
fn the_demonstration_handles_its_jobs_and_leaves_nothing_behind() {
    let place = Scratch::new();
    let mut demo = demonstration(&place);
    for sign in [
        "the fleet goes on",
        "App\\Mail\\Welcome",
        "attempt 3 -> 200",
        "attempt 1 -> 422",
        "thumbnail for job",
        "App\\Mail\\Refused",
    ] {
        let what = format!("`{sign}` of the demonstration");
        eventually(SOON, &what, || place.read("log").contains(sign).then_some(()));
    }
    demo.signal(Signal::SIGINT);
    let status = demo.wait(SOON);
    let log = place.read("log");
    assert!(status.success(), "{status}\n{log}");
    let left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["log"], "{log}");
}
