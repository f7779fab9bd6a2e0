//! The move from supervisord in one afternoon: its own file, imported, run, and looked at with its own client.

use std::process::{Command, Stdio};

use qfleet_testkit::{Guarded, Scratch, eventually};

use crate::client::Ctl;
use crate::support::{Fleet, QFLEET, SOON, text};

const CONF: &str = "
[unix_http_server]
file={dir}/s.sock
chmod=0700

[supervisord]
logfile=/dev/null
pidfile={dir}/s.pid
nodaemon=true
environment=COLOUR=\"deep, 'blue'\"

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

; what sells
[program:shop]
command=sleep 1000
startsecs=0

[program:worker]
command=/bin/sh -c \"echo colour $COLOUR; exec sleep 1000\"
process_name=%(program_name)s_%(process_num)02d
numprocs=3
numprocs_start=1
startsecs=0

[program:manual]
command=sleep 1000
autostart=false
";

fn import(file: &std::path::Path, more: &[&str]) -> std::process::Output {
    Command::new(QFLEET).arg("import").arg(file).args(more).stdin(Stdio::null()).output().unwrap()
}

/// Names and states, in the client's order.
fn listed(status: &str) -> Vec<(String, String)> {
    let words =
        status.lines().map(|line| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>());
    words.filter_map(|words| Some((words.first()?.clone(), words.get(1)?.clone()))).collect()
}

#[test]
fn the_same_client_sees_the_same_processes() {
    let dir = Scratch::new();
    let place = dir.path().display().to_string();
    let conf = dir.write("supervisord.conf", CONF.replace("{dir}", &place));

    let mut command = Command::new("supervisord");
    command.arg("-c").arg(&conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut original = Guarded::spawn(command.current_dir(dir.path()));
    let ctl = Ctl::at(&format!("unix://{place}/s.sock"), None);
    let all_up = |ctl: &Ctl| {
        eventually(SOON, "all but one to be RUNNING", || {
            let (said, _) = ctl.run(&["status"]);
            (said.matches(" RUNNING ").count() == 4).then(|| listed(&said))
        })
    };
    let before = all_up(&ctl);
    original.signal(nix::sys::signal::Signal::SIGTERM);
    original.wait(SOON);

    let output = import(&conf, &[]);
    let (yaml, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(
        (output.status.code(), said.lines().last()),
        (Some(0), Some("0 queues, 3 programs")),
        "{said}"
    );
    assert!(yaml.contains(&format!("socket: {place}/s.sock")) && yaml.contains("# what sells"), "{yaml}");
    let mut fleet = Fleet::start(&yaml.replace(&format!("{place}/s.sock"), "{dir}/q.sock"));
    let ctl = Ctl::unix(&fleet);
    assert_eq!(all_up(&ctl), before);
    eventually(SOON, "the variable to arrive", || {
        fleet.ok(&["tail", "worker:worker_02"]).contains("colour deep, 'blue'").then_some(())
    });
    fleet.ok(&["check"]);
    assert_eq!(fleet.stop(), 0);
}

#[test]
fn what_cannot_be_read_is_told_and_nothing_is_written() {
    let dir = Scratch::new();
    for (conf, part) in [
        ("[program:a]\nnumprocs=2", "bad.conf:1: [program:a]: `command` is missing"),
        ("nonsense", "bad.conf:1: `nonsense` is neither"),
    ] {
        let output = import(&dir.write("bad.conf", conf), &[]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && output.stdout.is_empty() && said.contains(part), "{said}");
    }
    let output = import(&dir.join("none.conf"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("none.conf` cannot be read: "), "{}", text(&output.stderr));
}

#[test]
fn a_pattern_that_finds_a_pipe_or_half_the_disk_does_not_hang() {
    let dir = Scratch::new();
    nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (files, part) in [
        ("p*", "pipe` cannot be read: it is no plain file"),
        ("/*", "it is no plain file"),
        // Whatever is there: a word about it, or nothing found, and soon.
        ("/*/*/*/*/*", ""),
    ] {
        let conf = dir.write("s.conf", format!("[include]\nfiles={files}\n[program:a]\ncommand=true\n"));
        let output = import(&conf, &[]);
        let said = text(&output.stderr);
        assert!(said.contains(part) && matches!(output.status.code(), Some(0 | 1)), "{files}: {said}");
    }
}
