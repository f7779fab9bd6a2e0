//! A program: a plain supervised command.

use std::time::Duration;

use crate::keys;
use crate::probes::{Health, Ready};
use crate::section::Section;
use crate::settings::Autorestart;
use crate::value::Value;
use crate::written::probes;
use crate::written::process::{self, ProcessWritten, STOP_WAIT, check_form};

/// What a program has beyond its processes.
pub(crate) struct ProgramWritten {
    pub(crate) argv: Vec<String>,
    pub(crate) numprocs_start: u32,
    pub(crate) startsecs: Duration,
    pub(crate) autorestart: Autorestart,
    pub(crate) exitcodes: Vec<i32>,
    pub(crate) stop: StopWritten,
    pub(crate) stop_as_group: bool,
    pub(crate) kill_as_group: bool,
    pub(crate) redirect_stderr: bool,
    pub(crate) ready: Option<Ready>,
    pub(crate) health: Option<Health>,
    pub(crate) memory: Option<u64>,
    pub(crate) process: ProcessWritten,
}

/// How a program is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StopWritten {
    pub(crate) signal: i32,
    /// Further signals, each so long after the first.
    pub(crate) again: Vec<(Duration, i32)>,
    /// From the first signal to SIGKILL, when each of several says how long it is waited for.
    pub(crate) whole_wait: Option<Duration>,
}

const TERM: i32 = 15;

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
        stop: read_stop(&section),
        stop_as_group: section.read("stop-as-group", Value::flag).unwrap_or(true),
        kill_as_group: section.read("kill-as-group", Value::flag).unwrap_or(true),
        redirect_stderr: section.read("redirect-stderr", Value::flag).unwrap_or(false),
        ready: section.read("ready", probes::read_ready),
        health: section.read("health", probes::read_health),
        memory: section
            .read("memory", |value| process::switchable(value, |value| value.size(1024 * 1024..=1 << 50)))
            .flatten(),
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

/// One signal, or a list of `{signal, wait}`.
fn read_stop(section: &Section<'_>) -> StopWritten {
    let plain = |signal| StopWritten { signal, again: Vec::new(), whole_wait: None };
    let Some(value) = section.get("stop-signal") else { return plain(TERM) };
    if !value.is_list() {
        return plain(value.signal().unwrap_or(TERM));
    }
    read_steps(section, value).unwrap_or_else(|| plain(TERM))
}

fn read_steps(section: &Section<'_>, value: &Value<'_>) -> Option<StopWritten> {
    let items = value.list()?;
    let steps: Vec<Section<'_>> =
        items.iter().map(|item| item.section(&keys::STOP_STEP)).collect::<Option<_>>()?;
    if steps.is_empty() {
        value.problem_with_hint(
            "names no signal",
            "write `TERM`, or `[{signal: TERM, wait: 20s}, {signal: QUIT}]`",
        );
        return None;
    }
    let mut signals = Vec::new();
    let mut after = Duration::ZERO;
    let mut whole = None;
    for (at, step) in steps.iter().enumerate() {
        if step.get("signal").is_none() {
            step.missing("signal", "like `{signal: TERM, wait: 20s}`");
        }
        let signal = step.read("signal", Value::signal)?;
        signals.push((after, signal));
        let wait = step.read("wait", |value| value.duration(Duration::ZERO..=process::LONGEST_STOP));
        let is_last = at + 1 == steps.len();
        match (wait, step.get("wait"), section.get("stop-wait")) {
            (Some(_), _, Some(other)) if is_last => other.problem_at_key(
                "`stop-wait` and the `wait` of the last signal are the same limit; give one",
                None,
            ),
            (Some(wait), ..) => after = after.saturating_add(wait),
            (None, None, own) if is_last => {
                let own = own.and_then(|value| value.duration(Duration::ZERO..=process::LONGEST_STOP));
                after = after.saturating_add(own.unwrap_or(STOP_WAIT));
            }
            (None, None, _) => step.missing("wait", "how long this signal is waited for before the next one"),
            (None, Some(_), _) => return None,
        }
        whole = Some(after);
    }
    let ((_, first), again) = signals.split_first()?;
    Some(StopWritten { signal: *first, again: again.to_vec(), whole_wait: whole })
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
        words.iter().for_each(|word| {
            no_expansion_of_supervisord(value, word);
            check_form(value, word);
        });
        if words.first().is_none_or(String::is_empty) {
            value.problem("names no program");
            return None;
        }
        return Some(words);
    }
    let line = value.text_or_number()?;
    no_expansion_of_supervisord(value, &line);
    check_form(value, &line);
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
            continue;
        }
        let hint = match name {
            "process_num" => "write `{process_num}`, or `{process_num:02}` for two digits",
            "program_name" | "group_name" => "write `{group_name}`",
            "process_name" => "write `{process_name}`",
            "numprocs" | "here" | "host_node_name" => "write what it stands for",
            _ => continue,
        };
        value.problem_with_hint(format!("`%({name})…` is supervisord's way"), hint);
    }
}
