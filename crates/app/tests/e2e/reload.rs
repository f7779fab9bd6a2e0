//! A new manifest for a running fleet: only what changed is touched.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use qfleet_testkit::{Answer, Receiver, RedisServer, Scratch, eventually};

use crate::support::{Fleet, QFLEET, SOON, payload, push, text};

#[test]
fn reload_adds_removes_and_changes_and_leaves_the_rest_alone() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let head = format!("redis: {{url: '{}'}}\n", redis.url());
    let queue = |name: &str, more: &str| {
        format!("  {name}:\n    handler: {{http: {{url: '{}/{name}'}}}}\n{more}", receiver.url())
    };
    let first = format!(
        "{head}queues:\n{}{}{}programs:\n  idle: {{command: sleep 1000, startsecs: 0}}\n",
        queue("kept", ""),
        queue("grows", "    numprocs: 1\n"),
        queue("goes", "")
    );
    let mut fleet = Fleet::start_and_wait(&first);
    let (kept, grows, idle) =
        (fleet.pid_of("kept:kept_00"), fleet.pid_of("grows:grows_00"), fleet.pid_of("idle"));

    fleet.rewrite("queues: {broken");
    let refused = fleet.qfleet(&["reload"]);
    assert_ne!(refused.status.code(), Some(0));
    assert!(text(&refused.stderr).contains("qfleet.yaml"), "{}", text(&refused.stderr));
    assert_eq!(fleet.pid_of("kept:kept_00"), kept, "a broken manifest changes nothing");

    fleet.rewrite(&format!(
        "{head}queues:\n{}{}{}programs:\n  idle: {{command: sleep 2000, startsecs: 0}}\n",
        queue("kept", "    tries: 7\n"),
        queue("grows", "    numprocs: 3\n"),
        queue("comes", "")
    ));
    let plan = fleet.ok(&["reload", "--dry-run"]);
    for word in ["comes", "goes", "grows", "idle"] {
        assert!(plan.contains(word), "{plan}");
    }
    assert_eq!(fleet.status().len(), 4, "a dry run changes nothing");
    fleet.ok(&["reload"]);
    eventually(SOON, "the new shape", || {
        let list = fleet.status();
        let up = list.iter().all(|process| process["state"] == "RUNNING");
        (up && list.len() == 6 && list.iter().all(|process| process["group"] != "goes")).then_some(())
    });
    assert_eq!(fleet.pid_of("kept:kept_00"), kept, "numbers change without a restart");
    assert_eq!(fleet.pid_of("grows:grows_00"), grows, "growing only adds");
    assert_ne!(fleet.pid_of("idle"), idle, "a changed command needs a new process");
    fleet.ok(&["stop", "kept"]);
    fleet.signal(Signal::SIGHUP);
    fleet.ok(&["reload"]);
    assert_eq!(fleet.state("kept:kept_00"), "STOPPED", "a stop survives a reload");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn another_limit_of_starts_holds_for_the_same_workers() {
    let redis = RedisServer::start();
    let receiver = Receiver::start(|_| Answer::ok());
    let manifest = |limit: &str| {
        format!(
            "redis: {{url: '{}'}}\nqueues:\n  mail:\n    numprocs: 2\n{limit}    handler: {{http: {{url: '{}'}}}}\n",
            redis.url(),
            receiver.url()
        )
    };
    let mut fleet = Fleet::start_and_wait(&manifest("    rate-limit: {max: 3, per: 600s}\n"));
    let pids = (fleet.pid_of("mail:mail_00"), fleet.pid_of("mail:mail_01"));
    push(&redis, "mail", (0..20).map(|number| payload(number, "")));
    receiver.wait_for(3, SOON);
    fleet.rewrite(&manifest("    rate-limit: {max: 8, per: 600s}\n"));
    let plan = fleet.ok(&["reload", "--dry-run"]);
    assert!(plan.contains("rate-limit 3 per 10m -> 8 per 10m") && !plan.contains("rolling"), "{plan}");
    fleet.ok(&["reload"]);
    receiver.wait_for(8, SOON);
    eventually(SOON, "no more than eight to start", || {
        let starts: u32 =
            redis::cmd("GET").arg("qfleet:limiter:mail").query(&mut redis.connection()).unwrap();
        (starts == 8).then_some(())
    });
    assert_eq!(receiver.count(), 8);
    fleet.rewrite(&manifest(""));
    fleet.ok(&["reload"]);
    receiver.wait_for(20, SOON);
    assert_eq!((fleet.pid_of("mail:mail_00"), fleet.pid_of("mail:mail_01")), pids);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn an_invalid_manifest_ends_with_78_and_shows_every_problem() {
    let place = Scratch::new();
    let file = place.write(
        "bad.yaml",
        "queues:\n  mail:\n    numproc: 2\n    timeout: soon\n    handler: {http: {url: 'http://127.0.0.1:1/'}}\n",
    );
    for command in ["check", "run"] {
        let output = std::process::Command::new(QFLEET).arg(command).arg("-c").arg(&file).output().unwrap();
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("bad.yaml:3:") && said.contains("numprocs"), "{said}");
        assert!(said.contains("bad.yaml:4:") && said.contains("soon"), "{said}");
    }
}

#[test]
fn a_second_daemon_at_the_same_socket_ends_with_73() {
    let mut fleet = Fleet::start_and_wait("programs:\n  idle: {command: sleep 1000, startsecs: 0}\n");
    let second = std::process::Command::new(QFLEET)
        .args(["run", "-c"])
        .arg(fleet.dir.join("qfleet.yaml"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(73), "{}", text(&second.stderr));
    assert_eq!(fleet.state("idle"), "RUNNING", "and disturbs nobody");
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_manifest_cut_to_nothing_or_read_from_a_pipe_ends_no_process() {
    let mut fleet = Fleet::start_and_wait("programs:\n  steady: {command: sleep 1000, startsecs: 0}\n");
    let steady = fleet.pid_of("steady");
    let file = fleet.dir.join("qfleet.yaml");
    let refused = |part: &str| {
        let output = fleet.qfleet(&["reload"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(78) && said.contains(part), "{said}");
        assert_eq!(fleet.pid_of("steady"), steady);
    };
    for nothing in ["", "\n\n", "# what is left of a long file\n"] {
        std::fs::write(&file, nothing).unwrap();
        refused("is empty; for a fleet without processes write `programs: {}`");
    }
    std::fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Nobody writes into it: whoever opens it would wait, and everybody behind him.
    refused("is no plain file, so it cannot be read again");
    refused("is no plain file, so it cannot be read again");
    std::fs::remove_file(&file).unwrap();
    refused("cannot be read: No such file");
    fleet.rewrite("programs: {}\n");
    assert!(fleet.ok(&["reload"]).contains("steady: removed"));
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn a_file_that_never_answers_keeps_the_daemon_from_nothing() {
    let programs = "programs:\n  steady: {command: sleep 1000, startsecs: 0}\n";
    let mut fleet = Fleet::start_and_wait(programs);
    let pipe = fleet.dir.join("password");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let secret = format!("redis: {{url: 'redis://127.0.0.1:1/0', password-file: '{}'}}\n", pipe.display());
    fleet.rewrite(&format!("{secret}{programs}"));
    fleet.signal(Signal::SIGHUP);
    // Opened for somebody who waits for it, and then nothing is ever written.
    let writer = eventually(SOON, "the daemon to read it", || {
        OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).ok()
    });
    assert_eq!(fleet.state("steady"), "RUNNING");
    let shown = format!("`{}`", pipe.display());
    for most in [SOON, Duration::from_secs(5)] {
        let began = Instant::now();
        let output = fleet.qfleet(&["reload"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(&shown) && said.contains("does not answer"), "{said}");
        assert!(began.elapsed() < most, "who comes later is told at once");
    }
    let status = fleet.qfleet(&["status"]);
    let status = text(&status.stdout) + &text(&status.stderr);
    let told = format!("reading {shown} has not ended for");
    assert!(status.contains(&told) && fleet.log().contains(&told), "{status}");
    let steady = fleet.pid_of("steady");
    fleet.ok(&["upgrade"]);
    fleet.rewrite(&format!("{programs}  more: {{command: sleep 1000, startsecs: 0}}\n"));
    assert!(fleet.ok(&["reload"]).contains("more: added"), "{}", fleet.log());
    assert_eq!(fleet.pid_of("steady"), steady);
    drop(writer);
    // The end does not wait for it, either.
    fleet.rewrite(&format!("{secret}{programs}"));
    fleet.signal(Signal::SIGHUP);
    let writer = eventually(SOON, "the daemon to read it", || {
        OpenOptions::new().write(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).ok()
    });
    let began = Instant::now();
    assert_eq!(fleet.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    drop(writer);
}
