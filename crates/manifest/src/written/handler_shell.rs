//! A shell handler: what to execute for each job, and what its exit codes mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::handler::{Body, ExitMeaning, ShellCommand, ShellHandler};
use crate::keys;
use crate::section::Section;
use crate::suggest::nearest;
use crate::value::Value;
use crate::written::handler::{read_body, read_gate, read_max_hold, read_max_result, read_timeout};
use crate::written::process::{self, LONGEST_STOP};

const BODIES: &[(&str, Body)] = &[("raw", Body::Raw), ("envelope", Body::Envelope)];

const PLACEHOLDERS: &[&str] = &["{id}", "{job_id}", "{queue}", "{name}", "{attempt}"];

const MEANINGS: &[(&str, ExitMeaning)] = &[
    ("complete", ExitMeaning::Complete),
    ("retry", ExitMeaning::Retry),
    ("snooze", ExitMeaning::Snooze),
    ("fail", ExitMeaning::Fail),
    ("discard", ExitMeaning::Discard),
];

/// `shell: {argv: […]}`, `shell: {shell: "…"}`, or only the line.
pub(crate) fn read(value: &Value<'_>) -> Option<ShellHandler> {
    if !value.is_map() && !value.is_empty() && !value.is_list() {
        let line = read_line(value)?;
        return Some(ShellHandler {
            endpoint: program_of(&line),
            command: ShellCommand::Line(line),
            ..ShellHandler::default()
        });
    }
    let section = value.section(&keys::SHELL)?;
    let mut shell = ShellHandler::default();
    read_surroundings(&section, &mut shell);
    read_limits(&section, &mut shell);
    let command = match section.one_of(["argv", "shell"]) {
        Some(("argv", value)) => read_argv(value, &shell).map(ShellCommand::Argv),
        Some((_, value)) => read_line(value).map(ShellCommand::Line),
        None if section.get("argv").is_none() => {
            section.missing("argv", "`argv: [program, argument]`, or `shell: \"a line for /bin/sh\"`");
            None
        }
        None => None,
    };
    shell.command = command?;
    let program = match &shell.command {
        ShellCommand::Argv(argv) => argv.first().cloned().unwrap_or_default(),
        ShellCommand::Line(line) => program_of(line),
    };
    shell.endpoint = read_gate(&section).unwrap_or(program);
    Some(shell)
}

fn read_surroundings(section: &Section<'_>, shell: &mut ShellHandler) {
    shell.body = read_body(section, BODIES);
    shell.cwd = section.read("cwd", Value::absolute_path);
    shell.umask = section.read("umask", process::read_umask);
    shell.nice = section.read("nice", |value| value.number(-20..=19));
    shell.limits = section.read("limits", process::read_limits).unwrap_or_default();
    shell.env = section.read("environment", Value::variables).unwrap_or_default();
    if let Some(value) = section.get("env") {
        if value.is_map() {
            if section.get("environment").is_some() {
                value.problem_at_key("`env` and `environment` both set variables; give one", None);
            }
            shell.env.extend(value.variables().unwrap_or_default());
        } else if let Some(inherit) = value.word(&[("clean", false), ("inherit", true)], &[]) {
            shell.inherit_env = inherit;
        }
    }
    shell.env_pass = section.read("env-pass", read_names).unwrap_or_default();
    if shell.inherit_env
        && let Some(value) = section.get("env-pass")
    {
        value.warn("has no effect: all variables are inherited", "it is for `env: clean`");
    }
}

fn read_limits(section: &Section<'_>, shell: &mut ShellHandler) {
    shell.timeout = read_timeout(section);
    if let Some(signal) = section.read("stop-signal", Value::signal) {
        shell.stop_signal = signal;
    }
    shell.kill_after = section.read("kill-after", |value| value.duration(Duration::ZERO..=LONGEST_STOP));
    if let Some(size) = section.read("max-output", |value| value.size(0..=1 << 40)) {
        shell.max_output = size;
    }
    shell.max_result = read_max_result(section);
    shell.max_hold = read_max_hold(section);
    shell.allow_scope = section.read("allow-scope", Value::flag).unwrap_or(false);
    shell.exit_codes = section.read("exit-codes", read_exit_codes).unwrap_or_default();
}

fn read_names(value: &Value<'_>) -> Option<Vec<String>> {
    Some(value.list_or_one()?.iter().filter_map(Value::line).collect())
}

fn read_line(value: &Value<'_>) -> Option<String> {
    let line = value.text()?;
    if line.trim().is_empty() {
        value.problem("must not be empty");
        return None;
    }
    if let Some(placeholder) = PLACEHOLDERS.iter().find(|placeholder| line.contains(*placeholder)) {
        value.warn(
            format!(
                "`{placeholder}` is not filled in here: a job's text must never become part of a shell line"
            ),
            "use the variables JOB_ID, JOB_NAME, JOB_QUEUE, JOB_ATTEMPT, or `argv`",
        );
    }
    Some(line)
}

/// The first word of a line that is not an assignment.
fn program_of(line: &str) -> String {
    let words = shlex::split(line).unwrap_or_default();
    let program = words.into_iter().find(|word| !word.contains('='));
    program.filter(|word| !word.is_empty()).unwrap_or_else(|| String::from("shell"))
}

/// The words, with the program as absolute path.
fn read_argv(value: &Value<'_>, shell: &ShellHandler) -> Option<Vec<String>> {
    if !value.is_list() {
        value.problem_with_hint(
            "must be a list",
            "like `argv: [php, job.php, \"{job_id}\"]`; a line is written `shell: \"…\"`",
        );
        return None;
    }
    let items = value.list()?;
    let words: Vec<String> = items.iter().filter_map(Value::text_or_number).collect();
    if words.len() != items.len() {
        return None;
    }
    let Some(program) = words.first().filter(|program| !program.is_empty()) else {
        value.problem("names no program");
        return None;
    };
    let (first, arguments) = (&items[0], &items[1..]);
    arguments.iter().zip(&words[1..]).for_each(|(item, word)| check_placeholders(item, word));
    if PLACEHOLDERS.iter().any(|placeholder| program.contains(placeholder)) {
        first.problem("the program cannot come from a job");
        return None;
    }
    let path = find_program(first, program, shell)?;
    let Some(path) = path.to_str().map(ToOwned::to_owned) else {
        first.problem("the program's path is not UTF-8");
        return None;
    };
    Some(std::iter::once(path).chain(words.into_iter().skip(1)).collect())
}

fn find_program(value: &Value<'_>, program: &str, shell: &ShellHandler) -> Option<PathBuf> {
    let path = shell.env.get("PATH").map(String::as_str);
    let found = value.context.world.find_program(program, path, shell.cwd.as_deref());
    match found {
        Ok(path) if Path::is_absolute(&path) => Some(path),
        Ok(_) => {
            value.problem_with_hint("is not an absolute path", "begin it with `/`");
            None
        }
        Err(why) => {
            value.problem(why);
            None
        }
    }
}

/// Braces of another meaning are fine; what looks like a misspelt placeholder is told.
fn check_placeholders(item: &Value<'_>, word: &str) {
    for part in word.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        let placeholder = format!("{{{name}}}");
        if PLACEHOLDERS.contains(&placeholder.as_str()) || name.is_empty() {
            continue;
        }
        let known = PLACEHOLDERS.iter().map(|known| known.trim_matches(['{', '}']));
        if let Some(near) = nearest(name, known) {
            item.warn(format!("`{placeholder}` is passed as it is"), format!("did you mean `{{{near}}}`?"));
        }
    }
}

/// `{3: discard, "20..29": fail}`.
fn read_exit_codes(value: &Value<'_>) -> Option<Vec<(u8, u8, ExitMeaning)>> {
    let mut out: Vec<(u8, u8, ExitMeaning)> = Vec::new();
    for (codes, value) in value.entries()? {
        let Some((first, last)) = range(&codes) else {
            value.problem_at_key(
                "must be an exit code or a range of them",
                Some("like `3` or `20..29`, up to 255"),
            );
            continue;
        };
        if out.iter().any(|(from, to, _)| first <= *to && *from <= last) {
            value.problem_at_key("these exit codes have a meaning already", None);
            continue;
        }
        if let Some(meaning) = value.word(MEANINGS, &[]) {
            out.push((first, last, meaning));
        }
    }
    Some(out)
}

fn range(text: &str) -> Option<(u8, u8)> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let code = |text: &str| crate::units::whole(text.trim()).ok().and_then(|code| u8::try_from(code).ok());
    let (first, last) = (code(first)?, code(last.strip_prefix('=').unwrap_or(last))?);
    (first <= last).then_some((first, last))
}
