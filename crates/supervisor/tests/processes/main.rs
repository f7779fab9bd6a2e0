//! The loop against the real system: real children, signals, output.
//!
//! Every case is a whole daemon in a process of its own: the supervisor has the main thread, the case asks and looks from
//! another one, as the doors do. The same binary also plays the children, so that "our own image" is what it is in the
//! real daemon: programs are really executed, and a small stand-in plays the worker's side of the link.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod child;
mod daemon;
mod harness;
mod options;
mod outside;
mod programs;
mod trees;
mod workers;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["child"] => child::play(),
        ["--case", name] => harness::run_here(&[cases(), outside::PARTS.to_vec()].concat(), name),
        _ => harness::run_all(&cases(), &arguments),
    }
}

fn cases() -> Vec<harness::Case> {
    [programs::CASES, options::CASES, workers::CASES, trees::CASES, outside::CASES].concat()
}
