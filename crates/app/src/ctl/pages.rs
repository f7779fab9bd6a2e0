//! Completion scripts and manual pages, made from the command line's own description.

use std::io;
use std::path::Path;

use clap::CommandFactory;

use super::print::Printer;
use crate::args::{Cli, Completions, Man};
use crate::exit::Exit;

/// `completions`.
pub(super) fn completions(printer: Printer, args: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(&Cli::command()), "qfleet", &mut script);
    let _ = printer.bytes(&script);
    Exit::Done
}

/// `man`.
pub(super) fn man(printer: Printer, args: &Man) -> Exit {
    let pages = match pages() {
        Ok(pages) => pages,
        Err(error) => {
            printer.problem(&format_args!("the manual cannot be written: {error}"));
            return Exit::Failed;
        }
    };
    let Some(directory) = &args.out else {
        pages.iter().for_each(|(_, page)| drop(printer.bytes(page)));
        return Exit::Done;
    };
    match write_all(directory, &pages) {
        Ok(()) => {
            printer.line(format!("{} pages in `{}`", pages.len(), directory.display()));
            Exit::Done
        }
        Err(error) => {
            printer.problem(&format_args!("cannot write to `{}`: {error}", directory.display()));
            Exit::Failed
        }
    }
}

fn write_all(directory: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    pages.iter().try_for_each(|(name, page)| std::fs::write(directory.join(name), page))
}

/// Every page with its file's name, `qfleet.1` first.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    Ok(pages)
}

fn collect(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone());
    let name = man.get_filename();
    man.render(&mut page)?;
    pages.push((name, page));
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| collect(command, pages))
}

/// The command line without what people never type; completion scripts would offer it.
fn shown(command: &clap::Command) -> clap::Command {
    let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new("qfleet").args(command.get_arguments()).subcommands(visible)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_visible_subcommand_has_a_page() {
        let pages = pages().unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "qfleet.1");
        for name in
            ["qfleet-run.1", "qfleet-status.1", "qfleet-failed.1", "qfleet-failed-retry.1", "qfleet-man.1"]
        {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("child") || name.contains("help")), "{names:?}");
        assert!(pages.iter().all(|(_, page)| page.starts_with(b".ie ") && page.len() > 500));
    }

    #[test]
    fn completions_offer_what_people_type_and_nothing_else() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown(&Cli::command()), "qfleet", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["restart", "dry-run", "prune", "against-running", "socket"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            assert!(!script.contains("child"), "{shell}");
        }
    }
}
