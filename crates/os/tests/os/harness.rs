//! Runs each case in a process of its own and sees to it that nothing is left behind; and the small tools cases share.
#![allow(clippy::print_stdout)]

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use qfleet_model::frame::{self, Frames};
use qfleet_model::link::{FromChild, ToChild};
use qfleet_model::start::{Preparation, Role, Start};
use qfleet_os::reap::{self, Ended};
use qfleet_os::spawn::{Launch, Launched, OwnImage, launch};
use qfleet_os::{signal, usage};

/// Name and body of a case.
pub type Case = (&'static str, fn());

/// Longest wait for anything that should happen at once.
pub const LIMIT: Duration = Duration::from_secs(120);
const CASE_LIMIT: Duration = Duration::from_secs(600);
const AT_ONCE: usize = 4;

/// Runs all cases whose name contains one of the words given; those that begin with a dash are not for us.
pub fn run_all(cases: &[Case], arguments: &[&str]) -> ExitCode {
    let words: Vec<&&str> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(**word));
    let wanted: Vec<&str> = cases.iter().map(|(name, _)| *name).filter(|name| wanted(name)).collect();
    if arguments.contains(&"--list") {
        wanted.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(name) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match run_apart(name) {
                        Ok(()) => println!("test {name} ... ok"),
                        Err(output) => {
                            println!("test {name} ... FAILED\n{output}");
                            failed.lock().unwrap().push(*name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("\n{} passed; {} failed {}\n", wanted.len() - failed.len(), failed.len(), failed.join(", "));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_apart(name: &str) -> Result<(), String> {
    // Not a pipe: a child that stays behind would keep it open.
    let mut output = tempfile::tempfile().unwrap();
    let mut case = Command::new(std::env::current_exe().unwrap())
        .args(["--case", name])
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        match case.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if begun.elapsed() > CASE_LIMIT => {
                case.kill().unwrap();
                case.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status}\n{text}")),
        None => Err(format!("still running after {CASE_LIMIT:?}\n{text}")),
    }
}

/// Runs one case in this process and ends whatever it left running.
pub fn run_here(cases: &[Case], name: &str) -> ExitCode {
    let (_, body) = cases.iter().find(|(known, _)| *known == name).unwrap();
    reap::become_subreaper().unwrap();
    let result = panic::catch_unwind(body);
    end_descendants();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn end_descendants() {
    loop {
        let living: Vec<i32> = children_of(own_pid());
        if living.is_empty() {
            return;
        }
        // Their children come to us and are found in the next round.
        living.iter().for_each(|pid| drop(signal::send(*pid, nix::libc::SIGKILL)));
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Children of a process that have not ended.
pub fn children_of(parent: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| usage::of(*pid).is_ok_and(|usage| usage.parent == parent && usage.state != 'Z'))
        .collect()
}

/// This process's number.
pub fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// Waits until `look` sees something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A role of this binary as a plain child process, with pipes.
pub fn role(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--role").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Environment of launched children.
pub fn plain_env() -> Vec<(OsString, OsString)> {
    vec![(OsString::from("PATH"), OsString::from("/usr/local/bin:/usr/bin:/bin"))]
}

/// Launches a child that prepares itself and then executes `argv`.
pub fn start(preparation: Preparation, argv: &[&str]) -> Launched {
    let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
    start_role(preparation, Role::Program { argv })
}

/// Launches a child that prepares itself and then does what `role` says.
pub fn start_role(preparation: Preparation, role: Role) -> Launched {
    let image = OwnImage::open().unwrap();
    let env = plain_env();
    let launched = launch(&Launch {
        image: &image,
        args: &["--role", "prepared"],
        env: &env,
        name: "qfleet: case",
        input: false,
    })
    .unwrap();
    tell(&launched.link, preparation, role);
    launched
}

/// Writes the first message.
pub fn tell(mut link: &UnixStream, preparation: Preparation, role: Role) {
    let start = Start { name: String::from("case:case_00"), preparation, role };
    link.write_all(&frame::line(&ToChild::Start(Box::new(start))).unwrap()).unwrap();
}

/// A shell script as arguments.
pub fn script(text: &str) -> [&str; 3] {
    ["/bin/sh", "-c", text]
}

/// Everything until the end of a stream.
pub fn read_to_end(stream: impl Into<OwnedFd>) -> String {
    let mut text = Vec::new();
    let mut file = fs::File::from(stream.into());
    while read_some(&mut file, &mut text) {}
    String::from_utf8(text).unwrap()
}

/// The next line of a stream, without its end.
pub fn read_line(stream: impl AsFd) -> String {
    let mut file = fs::File::from(stream.as_fd().try_clone_to_owned().unwrap());
    let mut text = Vec::new();
    let mut byte = Vec::new();
    while !text.ends_with(b"\n") {
        byte.clear();
        assert!(
            read_at_most(&mut file, &mut byte, 1),
            "the stream ended after {:?}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&byte);
    }
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

fn read_some(file: &mut fs::File, into: &mut Vec<u8>) -> bool {
    read_at_most(file, into, 65_536)
}

fn read_at_most(file: &mut fs::File, into: &mut Vec<u8>, most: usize) -> bool {
    let limit = PollTimeout::try_from(LIMIT).unwrap();
    let ready = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], limit).unwrap();
    assert!(ready > 0, "nothing to read for {LIMIT:?}");
    let mut bytes = vec![0; most];
    let read = file.read(&mut bytes).unwrap();
    into.extend_from_slice(&bytes[..read]);
    read > 0
}

/// What a child said on its link until it closed it.
pub fn heard(link: UnixStream) -> Vec<FromChild> {
    let mut frames = Frames::default();
    frames.feed(read_to_end(link).as_bytes());
    std::iter::from_fn(|| frames.next_message().unwrap()).collect()
}

/// Waits for the end of one child, reaping no other.
pub fn end_of(reaper: &reap::Reaper, pid: i32) -> Ended {
    until("the end of a child", || {
        reaper.peek_ended().unwrap().filter(|ended| ended.pid == pid).inspect(|ended| {
            reaper.release(ended.pid).unwrap();
        })
    })
}

/// A runtime as the daemon and the worker have one.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A reaper for cases that poll; the runtime that it belongs to must live as long.
pub fn reaper() -> (tokio::runtime::Runtime, reap::Reaper) {
    let runtime = runtime();
    let reaper = runtime.block_on(async { reap::Reaper::register().unwrap() });
    (runtime, reaper)
}
