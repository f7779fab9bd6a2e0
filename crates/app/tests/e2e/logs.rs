//! Log files of the real binary: a disk without room, somebody who cuts a file off, and lines further back than memory.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use qfleet_testkit::eventually;

use crate::support::{Fleet, SOON};

/// Begins with a tiny disk at `{dir}/logs`; needs root, or a kernel that lets users make namespaces.
fn on_a_tiny_disk() -> Vec<&'static str> {
    let mut words = vec!["unshare", "--mount"];
    if !nix::unistd::Uid::effective().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    words.extend(["sh", "-c", "mkdir logs && mount -t tmpfs -o size=64k none logs && exec \"$@\"", "sh"]);
    words
}

#[test]
fn a_full_disk_blocks_nobody_and_what_is_missing_is_counted_when_there_is_room() {
    let manifest = "logging: {dir: '{dir}/logs'}\nprograms:\n  \
        talker: {command: [sh, -c, 'i=0; while :; do i=$((i+1)); printf \"line %500d\\n\" $i; echo $i >{dir}/said; sleep 0.002; done'], startsecs: 0}\n";
    let mut fleet = Fleet::start_through(&on_a_tiny_disk(), manifest);
    eventually(SOON, "the disk to be full", || fleet.log().contains("cannot write").then_some(()));
    let said = || fs::read_to_string(fleet.dir.join("said")).ok()?.trim().parse::<u64>().ok();
    let before = eventually(SOON, "a number", said);
    eventually(SOON, "the program to go on", || (said()? > before + 20).then_some(()));
    // As the daemon sees it; the test is outside.
    let file =
        PathBuf::from(format!("/proc/{}/root{}", fleet.pid(), fleet.dir.join("logs/talker.log").display()));
    let full = fs::read_to_string(&file).unwrap();
    assert!(full.ends_with('\n'), "no part of a line stays");
    OpenOptions::new().write(true).open(&file).unwrap().set_len(0).unwrap();
    let after = eventually(SOON, "the file to be written again", || {
        let after = fs::read_to_string(&file).ok()?;
        after.contains("\nline ").then_some(after)
    });
    let first = after.lines().next().unwrap();
    assert!(first.starts_with("qfleet: ") && first.ends_with(" lines could not be written here"), "{first}");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn tail_reaches_back_into_the_file() {
    let manifest = "logging: {dir: '{dir}/logs'}\nprograms:\n  \
        talker: {command: [sh, -c, 'i=0; while [ $i -lt 9000 ]; do i=$((i+1)); echo line $i; done; exec sleep 1000'], startsecs: 0}\n";
    let mut fleet = Fleet::start_and_wait(manifest);
    eventually(SOON, "all lines", || {
        fleet.ok(&["tail", "-n", "1", "talker"]).contains("line 9000").then_some(())
    });
    let lines = fleet.ok(&["tail", "-n", "8000", "talker"]);
    assert_eq!((lines.lines().next(), lines.lines().count()), (Some("line 1001"), 8000));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_group_has_files_of_its_own_with_their_own_rotation() {
    let manifest = "logging: {dir: '{dir}/logs'}\nprograms:\n  \
        web:\n    numprocs: 2\n    startsecs: 0\n    command: [sh, -c, 'echo out; echo err >&2; exec sleep 1000']\n    \
        logs: {file: '{dir}/own/{group_name}-{process_num:02}.log', stderr-file: '{dir}/own/errors.log', output: false}\n  \
        quiet: {command: [sh, -c, 'echo unheard; exec sleep 1000'], startsecs: 0, logs: {discard: stdout}}\n  \
        loud: {command: [sh, -c, 'while :; do echo 0123456789012345678901234567890123456789; done'], startsecs: 0, logs: {file: '{dir}/own/loud.log', max-size: 8KiB, keep: 1, output: false}}\n";
    let mut fleet = Fleet::start_and_wait(manifest);
    let own = |name: &str| fs::read_to_string(fleet.dir.join("own").join(name)).unwrap_or_default();
    eventually(SOON, "the files", || {
        let both = own("web-00.log") == "out\n" && own("web-01.log") == "out\n";
        (both && own("errors.log") == "err\nerr\n").then_some(())
    });
    assert!(fleet.ok(&["tail", "quiet"]).contains("unheard"), "memory has it");
    eventually(SOON, "a rotated file", || fleet.dir.join("own/loud.log.1").exists().then_some(()));
    fleet.ok(&["stop", "loud"]);
    assert!(!fleet.dir.join("own/loud.log.2").exists());
    let rotated = own("loud.log.1");
    assert!(rotated.len() <= 8192 && rotated.lines().all(|line| line.len() == 40), "between lines");
    let log = fleet.log();
    assert!(!log.contains("| out") && !log.contains("unheard") && !log.contains("| 0123"), "{log}");
    assert!(!fleet.dir.join("logs/web.web_00.log").exists());
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn json_wraps_the_lines_of_children() {
    let manifest = "logging: {format: json}\nprograms:\n  \
        web: {command: [sh, -c, 'echo \"say \\\"hi\\\"\"; printf unfinished >&2; exec sleep 1000'], startsecs: 0}\n";
    let mut fleet = Fleet::start_and_wait(manifest);
    let line = |process: &str, stream: &str, message: &str| {
        fleet.log().lines().any(|line| {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return false };
            line["process"] == process && line["stream"] == stream && line["message"] == message
        })
    };
    eventually(SOON, "both lines", || {
        (line("web", "stdout", "say \"hi\"") && line("web", "stderr", "unfinished")).then_some(())
    });
    let log = fleet.log();
    let odd: Vec<&str> =
        log.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_err()).collect();
    assert!(odd.is_empty(), "every line is JSON: {odd:?}");
    assert_eq!(fleet.stop(), 0);
}
