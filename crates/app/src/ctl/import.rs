//! `import`: supervisord's configuration as a manifest on standard output, and what was not carried over on standard error.

use super::print::Printer;
use crate::args::Import;
use crate::exit::Exit;
use crate::import::{Imported, Problem, gather, import};

pub(super) fn run(printer: Printer, args: &Import) -> Exit {
    let host = host_name();
    let read = gather(&args.file, &host).map_err(|problem| vec![problem]);
    match read.and_then(|sources| import(&sources, args.handler.as_ref(), &host)) {
        Ok(imported) => {
            tell(printer, &imported);
            printer.text(&imported.yaml);
            Exit::Done
        }
        Err(problems) => {
            refused(printer, &problems);
            Exit::Failed
        }
    }
}

fn tell(printer: Printer, imported: &Imported) {
    let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    if !imported.remarks.is_empty() {
        printer.note("not carried over, or different from now on:");
        imported.remarks.iter().for_each(|remark| printer.note(&format!("  {remark}")));
    }
    if !imported.could_be_queues.is_empty() {
        let names = imported.could_be_queues.join("`, `");
        printer.note(&format!(
            "`queue:work` runs as a program: `{names}`; `--handler URL` makes queues of them"
        ));
    }
    let mut parts = vec![count(imported.queues, "queue"), count(imported.programs, "program")];
    if imported.schedules > 0 {
        parts.push(count(imported.schedules, "schedule"));
    }
    printer.note(&parts.join(", "));
}

fn refused(printer: Printer, problems: &[Problem]) {
    problems.iter().for_each(|problem| printer.note(&problem.to_string()));
    printer.problem(&"nothing was imported; supervisord would refuse this file, too");
}

/// This machine's name, as `%(host_node_name)s` has it.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
