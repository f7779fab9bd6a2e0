//! The crate against the real system: real children, signals, limits, kills.
//!
//! Every case runs in a process of its own, on its main thread: reaping, signal handlers, descriptors and the request to
//! die with a parent belong to a process, and cases that shared one would take each other's children. The same binary also
//! plays the children, so that "our own image" is what it is in the daemon.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod children;
mod descriptors;
mod files;
mod harness;
mod jobs;
mod preparation;
mod roles;
mod service;
mod stopping;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--role", role, ref rest @ ..] => roles::play(role, rest),
        ["--case", name] => harness::run_here(&cases(), name),
        _ => harness::run_all(&cases(), &arguments),
    }
}

fn cases() -> Vec<harness::Case> {
    [
        children::CASES,
        preparation::CASES,
        stopping::CASES,
        jobs::CASES,
        files::CASES,
        descriptors::CASES,
        service::CASES,
    ]
    .concat()
}
