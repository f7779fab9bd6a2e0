//! What this binary does when a case starts it as another process.
#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, thread};

use nix::libc;
use qfleet_model::frame::{self, Frames};
use qfleet_model::link::{FromChild, ToChild};
use qfleet_model::start::{Preparation, Role, Start};
use qfleet_os::job_child::JobChild;
use qfleet_os::lock::InstanceLock;
use qfleet_os::locked_map::LockedMap;
use qfleet_os::spawn::{Launch, OwnImage, launch};
use qfleet_os::{prepare, usage, users};

use crate::harness::{plain_env, read_line, read_to_end, runtime, script, start, start_role};

/// Prints its signal mask and dispositions. The shell itself looks, since other programs begin by changing their own.
pub const SIGNALS_OF_SHELL: &str = "while read -r line; do echo \"$line\"; done </proc/$$/status";

/// What [`SIGNALS_OF_SHELL`] printed says that nothing is blocked and nothing ignored, except 32 and 33, which belong to
/// the C library alone and come from whoever started the test.
pub fn assert_default_signals(status: &str) {
    for name in ["SigBlk:", "SigIgn:"] {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let set =
            u64::from_str_radix(line.unwrap_or_else(|| panic!("{name} in {status:?}")).trim(), 16).unwrap();
        assert_eq!(set & !(0b11 << 31), 0, "{name} {set:x}");
    }
}

/// Plays a role until its end.
pub fn play(role: &str, arguments: &[&str]) -> ExitCode {
    match (role, arguments) {
        ("prepared", []) => prepared(),
        ("exit", [code]) => return ExitCode::from(code.parse::<u8>().unwrap()),
        ("launching-daemon", [user]) => launching_daemon(user),
        ("short-daemon", [start]) => short_daemon(start),
        ("replaced-image", [other]) => replaced_image(other),
        ("print-signals-of-child", []) => print_signals_of_child(),
        ("worker-with-job", []) => worker_with_job(),
        ("map-writer", [path]) => map_writer(Path::new(path)),
        ("map-holder", [path]) => map_holder(Path::new(path)),
        ("lock-holder", [path]) => lock_holder(Path::new(path)),
        _ => panic!("unknown role {role} {arguments:?}"),
    }
    ExitCode::SUCCESS
}

/// What the real binary does as a child of the daemon.
fn prepared() {
    let link = prepare::take_link().unwrap();
    let Start { preparation, role, .. } = first_message(&link);
    if let Err(error) = prepare::prepare(&preparation, &link) {
        fail(&link, &error.into());
    }
    match role {
        Role::Program { argv } => {
            let env: Vec<_> = env::vars_os().collect();
            fail(&link, &prepare::execute(&argv, &env).into());
        }
        // Stands for a worker: measures itself, says that it is ready, and ends with 42 when the daemon is gone.
        Role::Worker { .. } => {
            println!("{}", usage::own_private_memory().unwrap());
            (&link).write_all(&frame::line(&FromChild::Ready).unwrap()).unwrap();
            read_to_end(link);
            std::process::exit(42);
        }
        Role::Once { .. } | Role::Recover { .. } => panic!("no case asks for this"),
    }
}

fn first_message(mut link: &UnixStream) -> Start {
    let mut frames = Frames::default();
    loop {
        if let Some(ToChild::Start(start)) = frames.next_message().unwrap() {
            return *start;
        }
        let mut bytes = [0; 4096];
        let read = link.read(&mut bytes).unwrap();
        if read == 0 {
            std::process::exit(41);
        }
        frames.feed(&bytes[..read]);
    }
}

fn fail(mut link: &UnixStream, message: &FromChild) -> ! {
    let _ = link.write_all(&frame::line(message).unwrap());
    std::process::exit(127);
}

/// A daemon with one program and one worker that waits to be killed; prints their numbers.
fn launching_daemon(user: &str) {
    let user = if user.is_empty() { None } else { Some(users::resolve(user, None).unwrap()) };
    let preparation = Preparation { user, parent_death: Some(libc::SIGTERM), ..Preparation::default() };
    let program = start(preparation, &script("echo up; exec sleep 1000"));
    read_line(&program.stdout);
    let worker = start_role(Preparation::default(), worker());
    read_line(&worker.link);
    println!("{} {}", program.pid, worker.pid);
    thread::park();
}

/// What makes a child go on as a worker; the stand-in here has no settings.
pub fn worker() -> Role {
    Role::Worker { settings: serde_json::Value::Null, ledger: "/".into(), after: Vec::new() }
}

/// A daemon that ends before its child has read what to do. A shell that outlives it holds the link and passes on `start`
/// as soon as a line arrives on standard input.
#[expect(clippy::zombie_processes, reason = "the shell outlives this process")]
fn short_daemon(start: &str) {
    let image = OwnImage::open().unwrap();
    let env = plain_env();
    let child = launch(&Launch {
        image: &image,
        args: &["--role", "prepared"],
        env: &env,
        name: "qfleet: orphan",
        input: false,
    })
    .unwrap();
    child.link.set_nonblocking(false).unwrap();
    let shell = Command::new("/bin/sh")
        .args(["-c", "read go; cat \"$0\"; read go", start])
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(child.link)))
        .spawn()
        .unwrap();
    println!("{} {}", child.pid, shell.id());
}

/// Has its own file replaced by another one, and launches a child all the same.
fn replaced_image(other: &str) {
    let image = OwnImage::open().unwrap();
    fs::rename(other, env::current_exe().unwrap()).unwrap();
    let launched = launch(&Launch {
        image: &image,
        args: &["--role", "exit", "0"],
        env: &plain_env(),
        name: "qfleet: same",
        input: false,
    });
    println!("{}", launched.unwrap().pid);
    // Our parent adopts and reaps it.
}

fn print_signals_of_child() {
    nix::sys::signal::SigSet::all().thread_block().unwrap();
    let child = start(Preparation::default(), &script(SIGNALS_OF_SHELL));
    print!("{}", read_to_end(child.stdout));
}

fn worker_with_job() {
    runtime().block_on(async {
        let argv = script("echo up; exec sleep 1000").map(Into::into).to_vec();
        let job = JobChild { argv, env: plain_env(), ..JobChild::default() }.spawn().unwrap();
        println!("{}", job.pid);
        std::future::pending::<()>().await;
        drop(job);
    });
}

/// Rewrites records as fast as it can until it is killed. Each has a state word and a body of 15 words.
fn map_writer(path: &Path) {
    let map = LockedMap::create(path, 4 * 128).unwrap();
    println!("up");
    for round in 1_u64.. {
        let record = usize::try_from(round % 4).unwrap() * 128;
        map.store(record, 0);
        map.write(record + 8, &round.to_ne_bytes().repeat(15));
        map.store(record, round);
    }
}

fn map_holder(path: &Path) {
    let map = LockedMap::create(path, 64).unwrap();
    println!("up");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    if line == "unlink\n" {
        map.unlink().unwrap();
    } else {
        thread::park();
    }
}

fn lock_holder(path: &Path) {
    let _lock = InstanceLock::take(path).unwrap();
    println!("up");
    thread::park();
}
