//! Where the answers of short commands go, and what is said when they cannot.

use std::io::Write;
use std::process::{Command, Stdio};

use qfleet_testkit::Scratch;

use crate::support::{QFLEET, text};

#[test]
fn an_answer_that_a_full_disk_cuts_off_is_a_failure() {
    for args in [&["version"][..], &["man"], &["completions", "bash"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(QFLEET).args(args).stdin(Stdio::null()).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(text(&output.stderr).contains("cannot write to standard output: No space left"), "{args:?}");
    }
}

#[test]
fn a_broken_manifest_is_mentioned_when_the_socket_it_may_name_is_not_found() {
    let place = Scratch::new();
    place.write("qfleet.yaml", "control: {socket: /run/mine.sock}\nprograms:\n\tbroken\n");
    let status = |name: &str| {
        let mut command = Command::new(QFLEET);
        command
            .args(["status"])
            .current_dir(place.path())
            .env_remove("QFLEET_SOCKET")
            .env_remove("QFLEET_CONFIG");
        command.env("XDG_RUNTIME_DIR", place.join(name)).output().unwrap()
    };
    let output = status("none");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("./qfleet.yaml:3:") && said.contains("tabs"), "{said}");
}

#[test]
fn a_manifest_that_comes_through_a_pipe_is_checked_as_it_is() {
    let mut command = Command::new(QFLEET);
    command.args(["check", "-c", "/dev/stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut check = command.spawn().unwrap();
    check.stdin.take().unwrap().write_all(b"programs: {reverb: {command: sleep 1000}}\n").unwrap();
    let output = check.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "`/dev/stdin` is valid: 1 program\n");
}
