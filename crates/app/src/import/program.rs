//! `[program:x]`: every setting under the manifest's name for it.

use super::artisan::{self, Line};
use super::daemon::Base;
use super::expand::{Names, is_open};
use super::ini::{Section, Setting};
use super::notes::{Notes, Place};
use super::section::Reading;
use super::yaml::{Entry, Value};
use super::{variables, words};

/// The manifest has no more processes in a group.
const MOST_PROCESSES: i64 = 1_000;

/// Words that have a meaning in commands.
const TAKEN: &[&str] = &["all", "supervisor", "qfleet"];

/// A program, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) comments: Vec<String>,
    pub(super) entries: Vec<Entry>,
    /// What of Laravel it runs.
    pub(super) line: Option<Line>,
}

/// What a program gets from around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) base: &'a Base,
    /// Name of its `[group:…]`.
    pub(super) group: Option<&'a str>,
    /// What that group says of its place in the order.
    pub(super) priority: Option<&'a str>,
    pub(super) host: &'a str,
}

/// Reads a program. It becomes several when its processes differ by their number.
pub(super) fn read(section: &Section, around: Around<'_>, notes: &mut Notes) -> Vec<Program> {
    let (_, name) = section.kind();
    if section.get("command").is_none() {
        notes.problem(&section.place, format_args!("[{}]: `command` is missing", section.name));
        return Vec::new();
    }
    let names = names(section, around, notes);
    let whole = Reading::new(section, names.clone());
    let count = number(&whole, "numprocs", notes).unwrap_or(1);
    let first = number(&whole, "numprocs_start", notes).unwrap_or(0);
    if count == 0 {
        whole.remark("numprocs", "a program without processes is left out", notes);
        return Vec::new();
    }
    let numbered =
        |key: &str| section.get(key).is_some_and(|setting| setting.value.contains("%(process_num"));
    let differ = count > 1 && ["command", "environment", "directory"].into_iter().any(numbered);
    let fitting = fitting_name(name);
    if fitting != name {
        notes.remark(&section.place, format_args!("[{}] is called `{fitting}`", section.name));
    }
    if !differ {
        let one =
            One { reading: Reading::new(section, with_number(&names, first)), around, alone: count == 1 };
        check_name(&one.reading, &fitting, (count > 1).then_some(first), notes);
        return vec![one.program(fitting, notes)];
    }
    let last = first + count - 1;
    let plain = format!("{fitting}_{first:02}");
    whole.remark(
        "numprocs",
        &format!(
            "its processes differ by `%(process_num)…`, so each is a program of its own: `{plain}` to `{fitting}_{last:02}`, without `{fitting}:*`"
        ),
        notes,
    );
    let programs = (first..=last).map(|number| {
        let one = One { reading: Reading::new(section, with_number(&names, number)), around, alone: true };
        let mut program = one.program(format!("{fitting}_{number:02}"), notes);
        if number > first {
            program.comments.clear();
            program.entries.iter_mut().for_each(|entry| entry.comments.clear());
        }
        program
    });
    programs.collect()
}

fn number(reading: &Reading<'_>, key: &str, notes: &mut Notes) -> Option<i64> {
    let text = reading.number(key, MOST_PROCESSES, notes)?;
    if is_open(&text) {
        reading.remark(key, "depends on the environment; names are written as for several processes", notes);
        return (key == "numprocs").then_some(2);
    }
    text.parse().ok().filter(|number| *number >= 0)
}

/// What may stand in `%(…)s`, but for the number of the process.
fn names(section: &Section, around: Around<'_>, notes: &mut Notes) -> Names {
    let (_, name) = section.kind();
    let mut names = Names::default();
    let count = section.get("numprocs").map_or("1", |setting| setting.value.as_str());
    names.values.extend([
        ("program_name", name.to_owned()),
        ("group_name", around.group.unwrap_or(name).to_owned()),
        ("host_node_name", around.host.to_owned()),
        ("numprocs", count.to_owned()),
    ]);
    names.variables = around.base.environment.iter().cloned().collect();
    let uses_host = section.settings.iter().any(|setting| setting.value.contains("%(host_node_name)"));
    if uses_host {
        let what = format_args!("[{}]: `%(host_node_name)s` is written as `{}`", section.name, around.host);
        notes.remark(&section.place, what);
    }
    names
}

fn with_number(names: &Names, number: i64) -> Names {
    let mut names = names.clone();
    names.values.insert("process_num", number.to_string());
    names
}

/// A name the manifest takes.
pub(super) fn fitting_name(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut out: String = name.chars().take(60).map(|c| if fits(c) { c } else { '_' }).collect();
    if !out.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        out.insert(0, '_');
    }
    if TAKEN.contains(&out.as_str()) {
        out.push('_');
    }
    out
}

/// Says how processes are called from now on, where that differs.
fn check_name(reading: &Reading<'_>, name: &str, first: Option<i64>, notes: &mut Notes) {
    let Some(said) = reading.text("process_name", notes) else { return };
    let new = first.map_or_else(|| name.to_owned(), |first| format!("{name}_{first:02}"));
    if said != new {
        let shown = if first.is_some() { format!("{name}:{new}") } else { new };
        reading.remark("process_name", &format!("`{name}:{said}` is called `{shown}`"), notes);
    }
}

/// A program that is being read, all its processes alike.
struct One<'s> {
    reading: Reading<'s>,
    around: Around<'s>,
    /// It has one process.
    alone: bool,
}

impl One<'_> {
    fn program(mut self, name: String, notes: &mut Notes) -> Program {
        let section = self.reading.section;
        let environment = self.environment(notes);
        self.reading.names.variables.extend(environment.iter().cloned());
        let mut entries = Vec::new();
        for setting in &section.settings {
            let item = match setting.key.as_str() {
                "environment" => as_section(&environment),
                _ => self.item(setting, notes),
            };
            let comments = setting.comments.clone();
            let trailing = setting.trailing.clone().filter(|_| item.is_some());
            let item = item.map(|(key, value)| (key.to_owned(), value));
            entries.push(Entry { comments, item, trailing });
        }
        self.add_from_around(&mut entries, &environment);
        entries.push(Entry::comments(section.after.clone()));
        entries.retain(|entry| entry.item.is_some() || !entry.comments.is_empty());
        let line = self.reading.text("command", notes).and_then(|line| artisan::read(&line));
        Program { name, place: section.place.clone(), comments: section.comments.clone(), entries, line }
    }

    /// Variables of all programs, and its own over them.
    fn environment(&self, notes: &mut Notes) -> Vec<(String, String)> {
        let mut all = self.around.base.environment.clone();
        let Some(text) = self.reading.text("environment", notes) else { return all };
        match variables::read(&text) {
            Ok(own) => {
                all.retain(|(name, _)| own.iter().all(|(other, _)| other != name));
                all.extend(own);
            }
            Err(why) => {
                let title = self.reading.title("environment");
                notes.problem(self.reading.place("environment"), format_args!("{title}: {why}"));
            }
        }
        all
    }

    /// What `[supervisord]` and the group say, where the program says nothing itself.
    fn add_from_around(&self, entries: &mut Vec<Entry>, environment: &[(String, String)]) {
        let base = self.around.base;
        let said = |key: &str| self.reading.section.get(key).is_some();
        let priority = self.around.priority.filter(|priority| !said("priority") && *priority != "999");
        let priority = priority.map(|priority| ("priority", Value::Plain(priority.to_owned())));
        let cwd = base.directory.clone().filter(|_| !said("directory"));
        let umask = base.umask.filter(|_| !said("umask"));
        let more = [
            priority,
            cwd.map(|cwd| ("cwd", Value::Text(cwd))),
            umask.map(|umask| ("umask", Value::Text(format!("{umask:03o}")))),
            as_section(environment).filter(|_| !said("environment")),
        ];
        entries.extend(more.into_iter().flatten().map(|(key, value)| Entry::new(key, value)));
    }

    /// One setting under its new name; `None` when it says what holds anyway, or cannot be carried over.
    fn item(&self, setting: &Setting, notes: &mut Notes) -> Option<(&'static str, Value)> {
        let (reading, key) = (&self.reading, setting.key.as_str());
        let unless = |text: String, usual: &str| (text != usual).then_some(Value::Plain(text));
        match key {
            "command" => Some(("command", self.command(notes)?)),
            "numprocs" if self.alone => None,
            "numprocs" => Some(("numprocs", unless(reading.number(key, MOST_PROCESSES, notes)?, "1")?)),
            "numprocs_start" if self.alone => None,
            "numprocs_start" => {
                Some(("numprocs-start", unless(reading.number(key, 1_000_000, notes)?, "0")?))
            }
            "priority" => Some(("priority", unless(self.priority(notes)?, "999")?)),
            "autostart" => Some(("autostart", unless(reading.flag(key, notes)?.to_string(), "true")?)),
            "startsecs" => Some(("startsecs", unless(reading.seconds(key, notes)?, "1s")?)),
            "startretries" => Some(("startretries", unless(reading.number(key, 1_000_000, notes)?, "3")?)),
            "stopwaitsecs" => Some(("stop-wait", unless(reading.seconds(key, notes)?, "30s")?)),
            "autorestart" => Some(("autorestart", self.autorestart(notes)?)),
            "exitcodes" => Some(("exitcodes", self.exitcodes(notes)?)),
            "stopsignal" => Some(("stop-signal", self.stop_signal(notes)?)),
            "user" => Some(("user", Value::Text(reading.text(key, notes)?))),
            "directory" => Some(("cwd", self.directory(setting, notes)?)),
            "umask" => Some(("umask", Value::Text(format!("{:03o}", reading.octal(key, notes)?)))),
            "redirect_stderr" => {
                reading.flag(key, notes)?.then(|| ("redirect-stderr", Value::Plain("true".to_owned())))
            }
            _ => {
                self.without_counterpart(key, notes);
                None
            }
        }
    }

    fn without_counterpart(&self, key: &str, notes: &mut Notes) {
        let reading = &self.reading;
        match key {
            "process_name" => {}
            "stopasgroup" | "killasgroup" => {
                if reading.flag(key, notes) == Some(false) {
                    reading.remark(key, "signals always go to the whole process group", notes);
                }
            }
            "serverurl" => {
                if reading.text(key, notes).is_some_and(|url| !url.eq_ignore_ascii_case("auto")) {
                    reading.remark(key, "processes are not told where the control socket is; set a variable of your own in `environment`", notes);
                }
            }
            _ if key.starts_with("stdout_") || key.starts_with("stderr_") => {}
            _ => reading.remark(key, "is not known, and supervisord ignores it too", notes),
        }
    }

    fn command(&self, notes: &mut Notes) -> Option<Value> {
        let text = self.reading.text("command", notes)?;
        let line = if text.contains(['"', '\'']) { text } else { text.replace('\n', " ") };
        let Some(words) = words::split(&line).filter(|words| !words.is_empty()) else {
            let title = self.reading.title("command");
            notes.problem(self.reading.place("command"), format_args!("{title}: names no program, or has a quote that is not closed (a ` ;` or ` #` begins a comment even in quotes)"));
            return None;
        };
        if words::is_simple(&line) {
            return Some(Value::Text(line));
        }
        Some(Value::List(words.into_iter().map(Value::Text).collect()))
    }

    /// The group's place in the order counts first.
    fn priority(&self, notes: &mut Notes) -> Option<String> {
        let own = self.reading.number("priority", 1_000_000, notes)?;
        match self.around.priority {
            Some(group) if group != own => {
                let what = format!(
                    "the priority {group} of its group is written; {own} was its place inside the group"
                );
                self.reading.remark("priority", &what, notes);
                Some(group.to_owned())
            }
            _ => Some(own),
        }
    }

    fn autorestart(&self, notes: &mut Notes) -> Option<Value> {
        if self.reading.text("autorestart", notes)?.eq_ignore_ascii_case("unexpected") {
            return None;
        }
        Some(Value::Plain(self.reading.flag("autorestart", notes)?.to_string()))
    }

    fn exitcodes(&self, notes: &mut Notes) -> Option<Value> {
        let text = self.reading.text("exitcodes", notes)?;
        let codes: Vec<&str> = text.split(',').map(str::trim).filter(|code| !code.is_empty()).collect();
        if let Some(odd) = codes.iter().find(|code| code.parse::<u8>().is_err() && !is_open(code)) {
            let title = self.reading.title("exitcodes");
            notes.problem(self.reading.place("exitcodes"), format_args!("{title}: `{odd}` is no exit code"));
            return None;
        }
        let plain = |code: &&str| {
            Value::Plain(code.parse::<u8>().map_or((*code).to_owned(), |code| code.to_string()))
        };
        (codes != ["0"]).then(|| Value::List(codes.iter().map(plain).collect()))
    }

    fn stop_signal(&self, notes: &mut Notes) -> Option<Value> {
        let text = self.reading.text("stopsignal", notes)?;
        if is_open(&text) {
            return Some(Value::Text(text));
        }
        match qfleet_manifest::signals::number(&text).map(qfleet_manifest::signals::name) {
            Some(Some("TERM")) => None,
            Some(Some(name)) => Some(Value::Plain(name.to_owned())),
            _ => {
                self.reading.remark(
                    "stopsignal",
                    &format!("`{text}` is no signal here; TERM is sent"),
                    notes,
                );
                None
            }
        }
    }

    fn directory(&self, setting: &Setting, notes: &mut Notes) -> Option<Value> {
        let text = self.reading.expanded(setting, notes)?;
        if text.starts_with('/') || is_open(&text) {
            return Some(Value::Text(text));
        }
        let base = self.around.base.directory.clone().unwrap_or_else(|| setting.here.clone());
        let absolute = format!("{}/{}", base.trim_end_matches('/'), text.trim_start_matches("./"));
        self.reading.remark(
            "directory",
            &format!("`{text}` is not absolute; `{absolute}` is written"),
            notes,
        );
        Some(Value::Text(absolute))
    }
}

fn as_section(environment: &[(String, String)]) -> Option<(&'static str, Value)> {
    let entries = environment.iter().map(|(name, value)| Entry::new(name, Value::Text(value.clone())));
    (!environment.is_empty()).then(|| ("environment", Value::Map(entries.collect())))
}
