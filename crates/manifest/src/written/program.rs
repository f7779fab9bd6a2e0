//! A program: a plain supervised command.

use std::time::Duration;

use crate::keys;
use crate::section::Section;
use crate::settings::Autorestart;
use crate::value::Value;
use crate::written::process::{self, ProcessWritten};

/// What a program has beyond its processes.
pub(crate) struct ProgramWritten {
    pub(crate) argv: Vec<String>,
    pub(crate) numprocs_start: u32,
    pub(crate) startsecs: Duration,
    pub(crate) autorestart: Autorestart,
    pub(crate) exitcodes: Vec<i32>,
    pub(crate) stop_signal: i32,
    pub(crate) redirect_stderr: bool,
    pub(crate) process: ProcessWritten,
}

pub(crate) fn read(value: &Value<'_>) -> Option<ProgramWritten> {
    let section = value.section(&keys::PROGRAM)?;
    if section.get("command").is_none() {
        section.missing("command", "what to execute, like `command: php artisan reverb:start`");
    }
    without_expansions(&section);
    Some(ProgramWritten {
        argv: section.read("command", read_command).unwrap_or_default(),
        numprocs_start: section.read("numprocs-start", |value| value.number(0..=1_000_000)).unwrap_or(0),
        startsecs: section.read("startsecs", read_startsecs).unwrap_or(Duration::from_secs(1)),
        autorestart: section.read("autorestart", read_autorestart).unwrap_or(Autorestart::Unexpected),
        exitcodes: read_exitcodes(&section).unwrap_or_else(|| vec![0]),
        stop_signal: section.read("stop-signal", Value::signal).unwrap_or(15),
        redirect_stderr: section.read("redirect-stderr", Value::flag).unwrap_or(false),
        process: process::read(&section),
    })
}

/// Values of variables have none of supervisord's expansions.
pub(crate) fn without_expansions(section: &Section<'_>) {
    section.read("environment", |value| {
        let values = if value.is_map() { value.entries().unwrap_or_default() } else { Vec::new() };
        values.iter().for_each(|(_, value)| no_expansion_of_supervisord(value, value.written()));
        Some(())
    });
}

fn read_startsecs(value: &Value<'_>) -> Option<Duration> {
    value.duration(Duration::ZERO..=Duration::from_secs(86_400))
}

fn read_autorestart(value: &Value<'_>) -> Option<Autorestart> {
    use Autorestart::{Always, Never, Unexpected};
    let choices = [
        ("unexpected", Unexpected),
        ("always", Always),
        ("never", Never),
        ("true", Always),
        ("false", Never),
    ];
    value.word(&choices, &[])
}

pub(crate) fn read_exitcodes(section: &Section<'_>) -> Option<Vec<i32>> {
    let value = section.get("exitcodes")?;
    // supervisord's list is one text with commas.
    if value.written().contains(',') {
        value.problem_with_hint("several exit codes are a list", format!("write `[{}]`", value.written()));
        return None;
    }
    Some(value.list_or_one()?.iter().filter_map(|item| item.number(0..=255)).collect())
}

/// A line in shell-like words, or the words as a list. No shell is involved.
pub(crate) fn read_command(value: &Value<'_>) -> Option<Vec<String>> {
    if value.is_list() {
        let words: Option<Vec<String>> = value.list()?.iter().map(Value::text_or_number).collect();
        let words = words?;
        words.iter().for_each(|word| no_expansion_of_supervisord(value, word));
        if words.first().is_none_or(String::is_empty) {
            value.problem("names no program");
            return None;
        }
        return Some(words);
    }
    let line = value.text_or_number()?;
    no_expansion_of_supervisord(value, &line);
    let Some(words) = shlex::split(&line) else {
        value.problem_with_hint(
            "has a quote or `\\` that is not closed",
            "write the words as a list: `[php, artisan, …]`",
        );
        return None;
    };
    if words.first().is_none_or(String::is_empty) {
        value.problem("names no program");
        return None;
    }
    if let Some(word) = words.iter().find(|word| is_shell_syntax(word)) {
        value.warn(
            format!("no shell reads this line: `{word}` is passed to the program as it is"),
            "for a shell write `command: [sh, -c, \"exec …\"]`",
        );
    }
    Some(words)
}

fn is_shell_syntax(word: &str) -> bool {
    ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1", "2>"].contains(&word)
}

/// `%(ENV_HOME)s` and `%(process_num)02d` mean nothing here.
fn no_expansion_of_supervisord(value: &Value<'_>, text: &str) {
    for part in text.split("%(").skip(1) {
        let Some((name, _)) = part.split_once(')') else { continue };
        if let Some(variable) = name.strip_prefix("ENV_") {
            value.problem_with_hint(
                format!("`%({name})s` is supervisord's way"),
                format!("write `${{{variable}}}`"),
            );
        } else if ["process_num", "numprocs", "program_name", "group_name", "here", "host_node_name"]
            .contains(&name)
        {
            value.problem_with_hint(format!("`%({name})…` is supervisord's way"), "not yet in this version");
        }
    }
}
