//! Daemons that somebody started with odd things inherited.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qfleet_testkit::{Guarded, Scratch, eventually};

use crate::support::{Fleet, QFLEET, SOON, children_of, text};

/// Executes its arguments with signals blocked, as some service managers and languages start their children.
const BLOCKED_SIGNALS: &str = "import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD})
os.execv(sys.argv[1], sys.argv[1:])";

/// Executes its arguments with an output that takes a few lines and that nobody ever reads.
const UNREAD_OUTPUT: &str = "import os, sys
reader, writer = os.pipe()
os.set_inheritable(reader, True)
os.dup2(writer, 1)
os.dup2(writer, 2)
os.execv(sys.argv[1], sys.argv[1:])";

/// Executes its arguments with a mask that takes nothing, or everything, from new files.
const MASK: &str = "import os, sys
os.umask(int(sys.argv[1], 8))
os.execv(sys.argv[2], sys.argv[2:])";

#[test]
fn files_of_a_daemon_started_with_any_mask_are_its_own_to_write_and_nobody_elses() {
    for (mask, folder, file) in [("0", 0o755, 0o644), ("077", 0o700, 0o600), ("777", 0o700, 0o600)] {
        let mut fleet = Fleet::start_through(
            &["python3", "-c", MASK, mask],
            "programs:\n  a: {command: \"sh -c 'umask; exec sleep 1000'\", startsecs: 0}\nlogging: {dir: '{dir}/logs'}\n",
        );
        let log = fleet.dir.join("logs/a.log");
        eventually(SOON, "a line in the log", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("0022")).then_some(())
        });
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(log.parent().unwrap()), mode(&log)), (folder, file), "started with {mask}");
        let ledgers = mode(&fleet.dir.join("q.sock.slots"));
        assert_eq!(ledgers, 0o711, "started with {mask}: workers of other users pass through to their own");
        assert_eq!(fleet.stop(), 0);
    }
}

#[test]
fn a_socket_at_which_somebody_else_listens_is_left_to_them() {
    let place = Scratch::new();
    let socket = place.join("q.sock");
    let others = UnixListener::bind(&socket).unwrap();
    let manifest =
        place.write("fleet.yaml", format!("programs: {{}}\ncontrol: {{socket: {}}}\n", socket.display()));
    let mut run = Command::new(QFLEET);
    run.arg("run").arg("-c").arg(&manifest).env_remove("QFLEET_SOCKET").stdin(Stdio::null());
    let refused = run.output().unwrap();
    let said = text(&refused.stderr) + &text(&refused.stdout);
    assert_eq!(refused.status.code(), Some(73), "{said}");
    assert!(said.contains("another program listens at"), "{said}");
    UnixStream::connect(&socket).expect("it is theirs still");
    // One that nobody serves any more is in nobody's way.
    drop(others);
    run.stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = Guarded::spawn(&mut run);
    eventually(SOON, "the daemon's socket", || UnixStream::connect(&socket).ok());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

#[test]
fn signals_that_the_starter_had_blocked_do_not_keep_the_daemon_from_reaping_and_ending() {
    let mut fleet = Fleet::start_through(
        &["python3", "-c", BLOCKED_SIGNALS],
        "programs:\n  once: {command: 'true', startsecs: 0, autorestart: false}\n  steady: {command: sleep 1000}\n",
    );
    fleet.wait_state("once", "EXITED");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn an_output_that_nobody_reads_holds_up_neither_commands_nor_restarts() {
    let mut fleet = Fleet::start_through(
        &["python3", "-c", UNREAD_OUTPUT],
        "programs:
  flood: {command: \"sh -c 'yes line | head -c 300000; sleep 1000'\", startsecs: 0}
  crash: {command: \"sh -c 'echo x >>{dir}/starts; sleep 1.1; exit 1'\", startsecs: 0}
  steady: {command: sleep 1000, startsecs: 0}
",
    );
    // The flood has filled the pipe, and each of these writes lines of the daemon's own.
    eventually(SOON, "the end of the flood", || {
        let pid = i32::try_from(fleet.process("flood")["pid"].as_i64()?).unwrap();
        (children_of(pid).len() == 1).then_some(())
    });
    for _ in 0..10 {
        fleet.ok(&["restart", "--now", "steady"]);
    }
    let starts = || fleet.dir.read("starts").lines().count();
    let before = starts();
    eventually(SOON, "a restart of what crashes", || (starts() > before).then_some(()));
    let asked = Instant::now();
    assert_eq!(fleet.stop(), 0);
    assert!(asked.elapsed() < Duration::from_secs(60), "ended after {:?}", asked.elapsed());
}

#[test]
fn a_daemon_without_descriptors_for_all_says_what_to_raise_and_goes_on_answering() {
    let mut fleet = Fleet::start_through(
        &["sh", "-c", "ulimit -n 60; exec \"$@\"", "sh"],
        "programs:\n  many: {command: sleep 1000, numprocs: 30, startsecs: 0}\n",
    );
    let told = eventually(SOON, "a process too many", || {
        fleet.status().iter().find_map(|process| {
            let said = process["description"].as_str()?;
            said.contains("Too many open files").then(|| said.to_owned())
        })
    });
    assert!(told.contains("raise the limit of open files (`LimitNOFILE=`"), "{told}");
    eventually(SOON, "some for which there is room", || {
        fleet.status().iter().any(|process| process["state"] == "RUNNING").then_some(())
    });
    assert_eq!(fleet.stop(), 0);
}
