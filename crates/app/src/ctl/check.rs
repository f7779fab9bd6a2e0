//! `check`: whether the manifest is valid, what a reload would do, and whether what it names answers.

use std::path::Path;

use qfleet_api::ClientError;
use qfleet_manifest::problem::Problem;
use qfleet_manifest::settings::{Manifest, Work};
use qfleet_model::command::Command;
use serde::Serialize;

use super::print::Printer;
use super::{Asking, places, probe, programs};
use crate::args::{Check, Options};
use crate::exit::Exit;
use crate::manifest_file;
use crate::world::Machine;

/// A problem as `--json` prints it.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    severity: &'static str,
    file: &'a str,
    line: usize,
    column: usize,
    at: &'a str,
    what: &'a str,
    hint: &'a Option<String>,
}

pub(super) async fn run(asking: &Asking, args: &Check, options: &Options) -> Result<Exit, ClientError> {
    let printer = asking.printer;
    let file = match places::manifest(options, &Machine) {
        Ok(file) => file,
        Err(why) => {
            printer.problem(&why);
            return Ok(Exit::BadManifest);
        }
    };
    let Some(manifest) = load(printer, &file) else { return Ok(Exit::BadManifest) };
    let mut exit = Exit::Done;
    if args.probe {
        for probe in probe::all(&manifest).await {
            if probe.problem.is_some() {
                exit = Exit::Failed;
            }
            printer.line(probe.line(printer.paint));
        }
    }
    if args.against_running {
        let plan = Command::Reload { dry_run: true, reset: false };
        return Ok(match programs::command(asking, plan).await? {
            Exit::Done => exit,
            other => other,
        });
    }
    Ok(exit)
}

/// Reads and judges the manifest, and says what there is to say about it.
fn load(printer: Printer, file: &Path) -> Option<Manifest> {
    let shown = file.display();
    match manifest_file::read(file) {
        Ok(manifest) => {
            if printer.json {
                printer.value(&listed("warning", &manifest.warnings));
            } else {
                manifest.warnings.iter().for_each(|warning| printer.note(&format!("warning: {warning}")));
                printer.line(format!("`{shown}` is valid: {}", summary(&manifest)));
            }
            Some(manifest)
        }
        Err(problems) => {
            if printer.json {
                printer.value(&listed("error", &problems.0));
            } else {
                printer.note(problems.to_string().trim_end());
                let count = problems.0.len();
                printer.problem(&format_args!(
                    "`{shown}` has {count} {}",
                    if count == 1 { "problem" } else { "problems" }
                ));
            }
            None
        }
    }
}

fn listed<'a>(severity: &'static str, problems: &'a [Problem]) -> Vec<Listed<'a>> {
    let one = |problem: &'a Problem| Listed {
        severity,
        file: &problem.file,
        line: problem.line,
        column: problem.column,
        at: &problem.at,
        what: &problem.what,
        hint: &problem.hint,
    };
    problems.iter().map(one).collect()
}

/// `3 queues, 1 pool, 2 programs`.
fn summary(manifest: &Manifest) -> String {
    let pools = manifest.groups.iter().filter(|group| matches!(group.work, Work::Pool(_))).count();
    let programs = manifest.groups.iter().filter(|group| matches!(group.work, Work::Program { .. })).count();
    let parts = [(manifest.lanes.len(), "queue"), (pools, "pool"), (programs, "program")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let words = parts.map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }));
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing to run".to_owned() } else { words.join(", ") }
}
