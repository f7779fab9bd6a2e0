//! `logs` of a group: where the output of its processes goes.

use crate::keys;
use crate::logs::Logs;
use crate::per_process::OneProcess;
use crate::value::Value;

pub(crate) fn read(value: &Value<'_>) -> Option<Logs> {
    let section = value.section(&keys::LOGS)?;
    let base = Logs::default();
    let discard = [
        ("none", (false, false)),
        ("stdout", (true, false)),
        ("stderr", (false, true)),
        ("both", (true, true)),
        ("false", (false, false)),
        ("true", (true, true)),
    ];
    let (discard_stdout, discard_stderr) =
        section.read("discard", |value| value.word(&discard, &[])).unwrap_or((false, false));
    Some(Logs {
        file: section.read("file", read_file),
        stderr_file: section.read("stderr-file", read_file),
        max_size: section.read("max-size", |value| value.size(4096..=1 << 40)),
        keep: section.read("keep", |value| value.number(0..=10_000)),
        output: section.read("output", Value::flag).unwrap_or(base.output),
        discard_stdout,
        discard_stderr,
    })
}

/// An absolute path in which some names in braces stand for the process.
fn read_file(value: &Value<'_>) -> Option<String> {
    let path = value.absolute_path()?;
    let text = path.to_str()?.to_owned();
    if text.starts_with("/dev/") || text.starts_with("/proc/") {
        value.problem_with_hint(
            "must be a file of its own",
            "everything goes to our own output anyway; remove it, or write `discard`",
        );
        return None;
    }
    let filled = OneProcess { group: "", name: "", number: 0 }.fill(&text);
    if let Some((_, rest)) = filled.split_once('{') {
        let name = rest.split('}').next().unwrap_or_default();
        value.problem_with_hint(
            format!("`{{{name}}}` stands for nothing"),
            "there are `{process_name}`, `{group_name}`, `{process_num}` and `{process_num:02}`",
        );
        return None;
    }
    Some(text)
}
