//! Laravel's scheduler in its disguises: a loop around `schedule:run`, or `schedule:work`. What surely runs it once a minute
//! becomes a schedule of the manifest; everything else stays a program.

use super::artisan::{Line, Task};
use super::program::Program;
use super::yaml::{Entry, Value};
use super::{artisan, queue, words};

/// What runs each minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scheduled {
    /// The command in words.
    pub(super) argv: Vec<String>,
    /// It was put into the background, so that a slow run did not hold up the next one.
    pub(super) overlaps: bool,
}

/// What of a program its schedule keeps.
const KEPT: &[&str] =
    &["priority", "stop-wait", "stop-signal", "user", "cwd", "umask", "environment", "redirect-stderr"];

/// What a loop goes on for ever with.
const FOR_EVER: &[&str] = &["true", ":", "[ true ]", "[ 1 ]", "[[ true ]]", "/bin/true"];

/// Pauses of a minute.
const A_MINUTE: &[&str] = &["sleep 60", "sleep 60s", "sleep 1m", "/bin/sleep 60"];

/// Where output went that is captured from now on.
const TO_NOWHERE: &[&str] =
    &["2>&1", "1>> /dev/null", "1>/dev/null", ">> /dev/null", ">>/dev/null", "> /dev/null", ">/dev/null"];

/// Reads the script of a shell, if it is such a loop and nothing else.
pub(super) fn loop_of(script: &str) -> Option<Line> {
    let script = script.split_whitespace().collect::<Vec<_>>().join(" ");
    let (folder, script) = match script.strip_prefix("cd ").and_then(|rest| rest.split_once("&& ")) {
        Some((folder, rest)) => {
            let [folder] = words::split(folder)?.try_into().ok()?;
            (Some(folder), rest.to_owned())
        }
        None => (None, script),
    };
    let (condition, rest) = script.strip_prefix("while ")?.split_once(';')?;
    let rest = rest.trim().trim_end_matches(';').trim_end();
    let body = rest.strip_prefix("do ")?.strip_suffix("done")?.trim().trim_end_matches(';').trim();
    let (command, in_background) =
        match (FOR_EVER.contains(&condition.trim()), A_MINUTE.contains(&condition.trim())) {
            (true, _) => command_and_pause(body)?,
            (_, true) => foreground(body),
            _ => return None,
        };
    let mut line = artisan::run_in_loop(&without_output(command))?;
    if let Task::Schedule(Some(scheduled)) = &mut line.task {
        scheduled.overlaps = in_background;
    }
    line.cwd = line.cwd.or(folder);
    Some(line)
}

/// A command and a pause of a minute, in any order.
fn command_and_pause(body: &str) -> Option<(&str, bool)> {
    for pause in A_MINUTE {
        if let Some(before) = body.strip_suffix(pause) {
            let before = before.trim_end();
            let command = before.strip_suffix(';').or_else(|| before.ends_with('&').then_some(before))?;
            return Some(foreground(command));
        }
        if let Some(after) = body.strip_prefix(pause) {
            return Some(foreground(after.trim_start().strip_prefix(';')?));
        }
    }
    None
}

/// A command without what puts it into the background, and whether something did.
fn foreground(command: &str) -> (&str, bool) {
    let command = command.trim();
    let inner =
        command.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).map_or(command, str::trim);
    match inner.strip_suffix('&').filter(|rest| !rest.ends_with('&')) {
        Some(inner) => (inner.trim(), true),
        None => (inner, false),
    }
}

fn without_output(command: &str) -> String {
    let mut command = command.trim();
    while let Some(before) = TO_NOWHERE.iter().find_map(|to| command.strip_suffix(to)) {
        command = before.trim_end();
    }
    // Whatever else only a shell can do is refused where the words are read.
    format!("sh -c {}", quoted(command))
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The program as a schedule, if all it does is to run the scheduler each minute.
pub(super) fn of(program: &Program) -> Option<&Scheduled> {
    let Task::Schedule(scheduled) = &program.line.as_ref()?.task else { return None };
    let has = |key: &str| program.entries.iter().any(|entry| entry.key() == Some(key));
    scheduled.as_ref().filter(|_| !has("numprocs") && !has("autostart"))
}

/// The schedule. Settings of its process and comments are the program's.
pub(super) fn entry(program: &Program, scheduled: &Scheduled) -> Entry {
    let words = scheduled.argv.iter().cloned().map(Value::Text).collect();
    let is_plain = |word: &String| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./:,".contains(c))
    };
    let command = match scheduled.argv.iter().all(is_plain) {
        true => Value::Text(scheduled.argv.join(" ")),
        false => Value::List(words),
    };
    let mut inner =
        vec![Entry::new("cron", Value::Text("* * * * *".to_owned())), Entry::new("command", command)];
    if scheduled.overlaps {
        inner.push(Entry::new("overlap", Value::Plain("allow".to_owned())));
    }
    inner.extend(
        program.entries.iter().filter(|entry| entry.key().is_none_or(|key| KEPT.contains(&key))).cloned(),
    );
    if let Some(line) = &program.line {
        queue::add_from_line(&mut inner, line);
    }
    Entry {
        comments: program.comments.clone(),
        item: Some((program.name.clone(), Value::Map(inner))),
        trailing: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduled(line: &str) -> Option<(String, bool, Option<String>)> {
        let line = artisan::read(line)?;
        let Task::Schedule(Some(scheduled)) = line.task else { return None };
        Some((scheduled.argv.join(" "), scheduled.overlaps, line.cwd))
    }

    #[test]
    fn loops_around_the_scheduler_are_found_in_their_disguises() {
        for (line, command, overlaps, cwd) in [
            (
                r#"/bin/sh -c "while true; do php artisan schedule:run; sleep 60; done""#,
                "php artisan schedule:run",
                false,
                None,
            ),
            (
                r#"sh -c 'while [ true ]; do (php artisan schedule:run --verbose --no-interaction &); sleep 60; done'"#,
                "php artisan schedule:run --verbose --no-interaction",
                true,
                None,
            ),
            (
                r#"bash -c "while :; do php /srv/crm/artisan schedule:run --no-interaction & sleep 60; done""#,
                "php /srv/crm/artisan schedule:run --no-interaction",
                true,
                Some("/srv/crm"),
            ),
            (
                r#"bash -lc "cd /srv/crm && while sleep 60; do php artisan schedule:run >> /dev/null 2>&1; done""#,
                "php artisan schedule:run",
                false,
                Some("/srv/crm"),
            ),
            (
                r#"sh -c "while true; do sleep 60; php artisan schedule:run; done""#,
                "php artisan schedule:run",
                false,
                None,
            ),
            (
                r#"sh -c "while true ; do php -d memory_limit=512M artisan schedule:run; sleep 1m; done;""#,
                "php -d memory_limit=512M artisan schedule:run",
                false,
                None,
            ),
            ("php artisan schedule:work", "php artisan schedule:run", false, None),
            (
                "/usr/bin/php8.3 /srv/crm/artisan schedule:work --verbose",
                "/usr/bin/php8.3 /srv/crm/artisan schedule:run --verbose",
                false,
                Some("/srv/crm"),
            ),
        ] {
            let expected =
                (!command.is_empty()).then(|| (command.to_owned(), overlaps, cwd.map(str::to_owned)));
            assert_eq!(scheduled(line), expected, "{line}");
        }
    }

    #[test]
    fn what_may_be_something_else_stays_a_program() {
        for line in [
            r#"sh -c "while true; do php artisan schedule:run; sleep 30; done""#,
            r#"sh -c "while true; do php artisan schedule:run; php artisan other; sleep 60; done""#,
            r#"sh -c "while true; do php artisan schedule:run | tee log; sleep 60; done""#,
            r#"sh -c "while true; do php artisan schedule:run >> /var/log/x 2>&1; sleep 60; done""#,
            r#"sh -c "while test -f /run/on; do php artisan schedule:run; sleep 60; done""#,
            r#"sh -c "for i in 1 2 3; do php artisan schedule:run; sleep 60; done""#,
            r#"sh -c "while true; do php artisan schedule:run; done""#,
            r#"sh -c "while true; do php artisan schedule:work; sleep 60; done""#,
            r#"sh -c "while true; do php $APP/artisan schedule:run; sleep 60; done""#,
            "php artisan schedule:run",
            "php artisan schedule:work --run-output-file=/var/log/x",
        ] {
            assert_eq!(scheduled(line), None, "{line}");
        }
    }
}
