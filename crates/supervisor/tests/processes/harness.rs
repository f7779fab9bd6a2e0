//! Runs each case in a process of its own, with its output in a file that the case can read.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Name and body of a case.
pub type Case = (&'static str, fn());

/// Longest wait for anything that should happen soon.
pub const LIMIT: Duration = Duration::from_secs(120);
const CASE_LIMIT: Duration = Duration::from_secs(600);
const AT_ONCE: usize = 4;
/// Names the file with a case's own output.
const OUTPUT: &str = "QFLEET_TEST_OUTPUT";

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
    let output = tempfile::NamedTempFile::new().unwrap();
    let mut case = Command::new(std::env::current_exe().unwrap())
        .args(["--case", name])
        .env(OUTPUT, output.path())
        .stdin(Stdio::null())
        .stdout(output.reopen().unwrap())
        .stderr(fs::OpenOptions::new().append(true).open(output.path()).unwrap())
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
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = String::from_utf8_lossy(&fs::read(output.path()).unwrap()).into_owned();
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("{status}\n{text}")),
        None => Err(format!("still running after {CASE_LIMIT:?}\n{text}")),
    }
}

/// Runs one case in this process.
pub fn run_here(cases: &[Case], name: &str) -> ExitCode {
    let (_, body) = cases.iter().find(|(known, _)| *known == name).unwrap();
    body();
    ExitCode::SUCCESS
}

/// What this case has printed so far.
pub fn own_output() -> String {
    let path = PathBuf::from(std::env::var_os(OUTPUT).unwrap());
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
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
