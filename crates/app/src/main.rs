//! One binary, three parts chosen by subcommand: the daemon, its children, and the short commands.

mod args;
mod child;
mod ctl;
mod daemon;
mod depth_watch;
mod exit;
mod given_doors;
mod handover;
mod import;
mod logging;
mod manifest_file;
mod prefixes;
mod stop_limit;
mod turn;
mod watch;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Task};

fn main() -> ExitCode {
    let Cli { options, task } = Cli::parse();
    match task {
        Task::Run => daemon::run(&options).into(),
        Task::Child => child::run(),
        Task::Control(command) => ctl::run(command, &options).into(),
    }
}
