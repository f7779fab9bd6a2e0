//! One binary, three parts chosen by subcommand: the daemon, its children, and the short commands.

mod args;
mod ctl;
mod exit;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Task};
use crate::exit::Exit;

fn main() -> ExitCode {
    let Cli { options, task } = Cli::parse();
    match task {
        Task::Run | Task::Child => Exit::Internal.into(),
        Task::Control(command) => ctl::run(command, &options).into(),
    }
}
