//! The whole: which section becomes what, and what is said of those that become nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::artisan::Task;
use super::expand::Names;
use super::ini::{Ini, Section};
use super::notes::{Notes, Problem};
use super::program::{self, Around, Program};
use super::section::Reading;
use super::written::Whole;
use super::{Handler, Source, daemon, ini, queue, scheduler};

/// A manifest, and what one should know about it.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The manifest.
    pub(crate) yaml: String,
    /// What was not carried over, a line each.
    pub(crate) remarks: Vec<String>,
    /// How many programs it has.
    pub(crate) programs: usize,
    /// How many schedules it has.
    pub(crate) schedules: usize,
    /// How many queues it has.
    pub(crate) queues: usize,
    /// Programs that could be queues.
    pub(crate) could_be_queues: Vec<String>,
}

/// Turns supervisord's files into a manifest. With a `handler`, lines of `queue:work` become queues whose jobs go to it.
/// `host` is the name of this machine.
///
/// # Errors
/// Everything for which supervisord would refuse the files, too.
pub(crate) fn import(
    sources: &[Source],
    handler: Option<&Handler>,
    host: &str,
) -> Result<Imported, Vec<Problem>> {
    let mut ini = Ini::default();
    for source in sources {
        ini.add(ini::parse(source).map_err(|problem| vec![problem])?);
    }
    let mut notes = Notes::default();
    let mut names = Names::default();
    names.values.insert("host_node_name", host.to_owned());
    let base = daemon::base(&ini, &names, &mut notes);
    names.variables = base.environment.iter().cloned().collect();
    let groups = groups(&ini, &names, &mut notes);
    let mut programs = Vec::new();
    for section in &ini.sections {
        if section.kind().0 != "program" {
            unkept(section, sources.len(), &mut notes);
            continue;
        }
        let group = groups.get(section.kind().1);
        let around = Around {
            base: &base,
            group: group.map(|group| group.name.as_str()),
            priority: group.and_then(|group| group.priority.as_deref()),
            host,
        };
        let read = program::read(section, around, &mut notes);
        programs.extend(read.into_iter().map(|program| (section.kind().1.to_owned(), program)));
    }
    keep_comments_of_groups(&ini, &mut programs);
    let mut programs: Vec<Program> = programs.into_iter().map(|(_, program)| program).collect();
    let control = daemon::control(&ini, &names, &mut notes);
    let logging = daemon::logging(&ini, &names, &mut notes);
    one_name_each(&mut programs, &mut notes);
    remark_on_laravel(&programs, handler.is_some(), &mut notes);
    if !notes.problems.is_empty() {
        return Err(notes.problems);
    }
    let whole = Whole { ini, programs, control, logging, remarks: notes.remarks };
    Ok(whole.written(handler, sources))
}

/// Where a program belongs.
struct Group {
    name: String,
    priority: Option<String>,
}

/// The group of every program that is in one.
fn groups(ini: &Ini, names: &Names, notes: &mut Notes) -> BTreeMap<String, Group> {
    let mut out = BTreeMap::new();
    for section in ini.sections.iter().filter(|section| section.kind().0 == "group") {
        let reading = Reading::new(section, names.clone());
        let priority = reading.number("priority", 1_000_000, notes);
        let Some(members) = reading.text("programs", notes) else {
            notes.problem(&section.place, format_args!("[{}]: `programs` is missing", section.name));
            continue;
        };
        let group = section.kind().1;
        for member in members.split(',').map(str::trim).filter(|member| !member.is_empty()) {
            let is = |kind: &str| ini.section(&format!("{kind}:{member}")).is_some();
            if !is("program") && !is("fcgi-program") {
                let what = format_args!("{}: there is no program `{member}`", reading.title("programs"));
                notes.problem(reading.place("programs"), what);
            }
            out.insert(member.to_owned(), Group { name: group.to_owned(), priority: priority.clone() });
        }
        let what = format!(
            "programs are groups of their own: `{group}:NAME` is called `NAME`, or `NAME:NAME_00` with several processes; name them one by one instead of `{group}:*`"
        );
        reading.remark("programs", &what, notes);
    }
    out
}

/// A comment above a group goes above its first program.
fn keep_comments_of_groups(ini: &Ini, programs: &mut [(String, Program)]) {
    for section in ini.sections.iter().filter(|section| section.kind().0 == "group") {
        let members = section.get("programs").map_or("", |setting| setting.value.as_str());
        let is_member = |name: &str| members.split(',').any(|member| member.trim() == name);
        if let Some((_, first)) = programs.iter_mut().find(|(name, _)| is_member(name)) {
            first.comments.splice(0..0, section.comments.iter().cloned());
        }
    }
}

/// Says what becomes of a section that is not carried over.
fn unkept(section: &Section, files: usize, notes: &mut Notes) {
    let what = match section.kind() {
        ("supervisord" | "unix_http_server" | "inet_http_server" | "supervisorctl" | "group", _)
        | ("rpcinterface", "supervisor") => return,
        ("include", _) if files > 1 || section.get("files").is_none() => return,
        ("include", _) => "no file is there to be included",
        ("eventlistener", _) => {
            "there are no events; `qfleet status --json` and the log tell the same, and a program that restarts or limits others is not needed"
        }
        ("fcgi-program", _) => {
            "FastCGI programs have no counterpart; let php-fpm or the web server keep these processes"
        }
        ("rpcinterface" | "ctlplugin", _) => {
            "plug-ins are Python and have no counterpart; `qfleet help` lists what there is"
        }
        _ => "is not known, and supervisord ignores it too",
    };
    notes.remark(&section.place, format_args!("[{}]: {what}", section.name));
}

/// Names that became the same get a number.
fn one_name_each(programs: &mut [Program], notes: &mut Notes) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for program in programs {
        let wanted = program.name.clone();
        let mut number = 2;
        while !seen.insert(program.name.clone()) {
            program.name = format!("{wanted}_{number}");
            number += 1;
        }
        if program.name != wanted {
            let what = format_args!("another program is called `{wanted}`; this one is `{}`", program.name);
            notes.remark(&program.place, what);
        }
    }
}

fn remark_on_laravel(programs: &[Program], as_queues: bool, notes: &mut Notes) {
    for program in programs {
        let mut say = |what: String| notes.remark(&program.place, format_args!("`{}`: {what}", program.name));
        match program.line.as_ref().map(|line| &line.task) {
            Some(Task::Listen) => say("`queue:listen` stays a program; written as `queue:work` it can become a queue".to_owned()),
            Some(Task::Horizon) => say("`horizon` stays a program, and goes on choosing its workers itself; queues of the manifest, one for each of its supervisors, can take its place".to_owned()),
            Some(Task::Schedule(_)) if scheduler::of(program).is_some() => say("the scheduler is a schedule: it runs at the beginning of each minute, and its output is kept; `qfleet status` shows its last and its next run".to_owned()),
            Some(Task::Schedule(_)) => say("the scheduler stays a program; as `schedules: {NAME: {cron: \"* * * * *\", command: php artisan schedule:run}}` it would run on the minute".to_owned()),
            Some(Task::Work(work)) if as_queues => {
                if let Some(why) = queue::unreachable(work) {
                    say(format!("`queue:work` stays a program: {why}"));
                } else if !queue::are_numbers(work) {
                    say("`queue:work` stays a program: one of its flags is no number".to_owned());
                } else {
                    if work.connection.is_none() {
                        say("names no connection; `redis` is written: compare with QUEUE_CONNECTION".to_owned());
                    }
                    work.left_out.iter().for_each(|(flag, advice)| say(format!("`{flag}` is left out: {advice}")));
                }
            }
            Some(Task::Work(_)) | None => {}
        }
    }
}
