//! `check`: whether the manifest is valid, what a reload would do, and whether what it names answers.

use qfleet_api::ClientError;
use qfleet_manifest::problem::{Problem, Problems};
use qfleet_manifest::settings::{Manifest, Work};
use qfleet_manifest::stop_limit::too_short;
use qfleet_model::command::{Command, ProcessResult, Reply};
use serde::Serialize;

use super::print::Printer;
use super::probe::{self, Probe};
use super::{Asking, places, render};
use crate::args::{Check, Options};
use crate::exit::Exit;
use crate::manifest_file;
use crate::stop_limit;
use crate::world::Machine;

/// Everything that was found, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Findings<'a> {
    file: &'a str,
    valid: bool,
    problems: Vec<Listed<'a>>,
    probes: &'a [Probe],
    changes: Option<&'a [ProcessResult]>,
}

/// A problem or a warning.
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
    let shown = file.display().to_string();
    let manifest = match manifest_file::read(&file) {
        Ok(manifest) => warned(manifest, &shown, args),
        Err(problems) => {
            refused(printer, &shown, &problems);
            return Ok(Exit::BadManifest);
        }
    };
    let probes = if args.probe { probe::all(&manifest).await } else { Vec::new() };
    let changes = if args.against_running { Some(plan(asking).await?) } else { None };
    let probed = probes.iter().all(|probe| probe.ok);
    if printer.json {
        let problems = listed("warning", &manifest.warnings);
        let changes = changes.as_deref();
        printer.value(&Findings { file: &shown, valid: true, problems, probes: &probes, changes });
    } else {
        manifest.warnings.iter().for_each(|warning| printer.note(&format!("warning: {warning}")));
        printer.line(format!("`{shown}` is valid: {}", summary(&manifest)));
        probes.iter().for_each(|probe| printer.line(probe.line(printer.paint)));
        match changes.as_deref() {
            Some([]) => printer.line("a reload would change nothing"),
            Some(changes) => printer.text(&render::results(changes, printer.paint)),
            None => {}
        }
    }
    Ok(if probed { Exit::Done } else { Exit::Failed })
}

/// Adds what its surroundings say about a manifest that is valid by itself.
fn warned(mut manifest: Manifest, file: &str, args: &Check) -> Manifest {
    let limit = args.stop_limit.map(stop_limit::asked).map(Ok).or_else(stop_limit::of_environment);
    let warning = match limit {
        Some(Ok(limit)) => too_short(&manifest, file, &limit),
        Some(Err(why)) => Some(Problem::of_file(file, why)),
        None => None,
    };
    manifest.warnings.extend(warning);
    manifest
}

/// What a reload of the running daemon would do with its own manifest file.
async fn plan(asking: &Asking) -> Result<Vec<ProcessResult>, ClientError> {
    let reload = Command::Reload { dry_run: true, reset: false };
    Ok(asking.client.post::<Reply>("command", &reload).await?.results)
}

fn refused(printer: Printer, file: &str, problems: &Problems) {
    if printer.json {
        let problems = listed("error", &problems.0);
        return printer.value(&Findings { file, valid: false, problems, probes: &[], changes: None });
    }
    printer.note(problems.to_string().trim_end());
    let count = problems.0.len();
    printer
        .problem(&format_args!("`{file}` has {count} {}", if count == 1 { "problem" } else { "problems" }));
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
    let schedules = manifest.groups.iter().filter(|group| matches!(group.work, Work::Schedule(_))).count();
    let parts =
        [(manifest.lanes.len(), "queue"), (pools, "pool"), (programs, "program"), (schedules, "schedule")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let words = parts.map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }));
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nothing to run".to_owned() } else { words.join(", ") }
}
