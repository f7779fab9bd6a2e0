//! The settings of a program, each under the manifest's name for it.

use super::expand::is_open;
use super::ini::Setting;
use super::notes::Notes;
use super::program::{Around, MOST_PROCESSES, Program};
use super::section::Reading;
use super::yaml::{Entry, Value};
use super::{artisan, logs, variables, words};

/// A program that is being read, all its processes alike.
pub(super) struct One<'s> {
    pub(super) reading: Reading<'s>,
    pub(super) around: Around<'s>,
    /// It has one process.
    pub(super) alone: bool,
}

impl One<'_> {
    /// The program under this name.
    pub(super) fn program(mut self, name: String, notes: &mut Notes) -> Program {
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
        if let Some(logs) = logs::of_program(&self.reading, self.alone, notes) {
            entries.push(Entry::new("logs", logs));
        }
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
            "stopasgroup" => Some(("stop-as-group", self.only_when_off(key, notes)?)),
            "killasgroup" => Some(("kill-as-group", self.only_when_off(key, notes)?)),
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

    /// `true` is what holds anyway; what the file does not say is left so, because it is better.
    fn only_when_off(&self, key: &str, notes: &mut Notes) -> Option<Value> {
        (!self.reading.flag(key, notes)?).then(|| Value::Plain("false".to_owned()))
    }

    fn without_counterpart(&self, key: &str, notes: &mut Notes) {
        let reading = &self.reading;
        match key {
            "process_name" => {}
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
