//! `[program:x]`: how many programs it becomes, and what they are called.

use super::artisan::{self, Line};
use super::daemon::Base;
use super::expand::{Names, OPEN_NUMBER, is_open, number_can_stay_open};
use super::ini::Section;
use super::notes::{Notes, Place};
use super::section::Reading;
use super::settings::One;
use super::yaml::Entry;

/// The manifest has no more processes in a group.
pub(super) const MOST_PROCESSES: i64 = 1_000;

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
    let differing: Vec<&str> =
        ["command", "environment", "directory"].into_iter().filter(|key| numbered(key)).collect();
    // A queue is named by its line, so each of these processes has another one.
    let line = Reading::new(section, with_number(&names, first)).text("command", notes);
    let is_queue = line.is_some_and(|line| artisan::read(&line).is_some()) && differing.contains(&"command");
    let fits = |key: &&str| section.get(key).is_none_or(|setting| number_can_stay_open(&setting.value));
    let stays_open = !is_queue && differing.iter().all(fits);
    let differ = count > 1 && !differing.is_empty() && !stays_open;
    let fitting = fitting_name(name);
    if fitting != name {
        notes.remark(&section.place, format_args!("[{}] is called `{fitting}`", section.name));
    }
    if !differ {
        let reading = Reading::new(section, with_number(&names, first));
        check_name(&reading, &fitting, (count > 1).then_some(first), notes);
        let open = if count > 1 { with_open_number(&names) } else { reading.names };
        let one = One { reading: Reading::new(section, open), around, alone: count == 1 };
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

fn with_open_number(names: &Names) -> Names {
    let mut names = names.clone();
    names.values.insert("process_num", OPEN_NUMBER.to_owned());
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
