//! The whole: which section becomes what, in which order it is written, and what is said at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::artisan::{Task, Work};
use super::expand::{MARKS, Names};
use super::ini::{Ini, Section};
use super::logs::Logs;
use super::notes::{Notes, Problem};
use super::program::{self, Around, Program};
use super::section::Reading;
use super::yaml::{Entry, Value, comment_line, write};
use super::{Handler, Source, daemon, ini, queue};

/// A manifest, and what one should know about it.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The manifest.
    pub(crate) yaml: String,
    /// What was not carried over, a line each.
    pub(crate) remarks: Vec<String>,
    /// How many programs it has.
    pub(crate) programs: usize,
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
    let mut logs = Logs::default();
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
        if !read.is_empty() {
            logs.note(&Reading::new(section, log_names(section, around, &names)), &mut notes);
        }
        programs.extend(read.into_iter().map(|program| (section.kind().1.to_owned(), program)));
    }
    keep_comments_of_groups(&ini, &mut programs);
    let mut programs: Vec<Program> = programs.into_iter().map(|(_, program)| program).collect();
    let control = daemon::control(&ini, &names, &mut notes);
    let logging = daemon::logging(&ini, &names, &logs, &mut notes);
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

fn log_names(section: &Section, around: Around<'_>, names: &Names) -> Names {
    let mut names = names.clone();
    let (_, name) = section.kind();
    let count = section.get("numprocs").map_or("1", |setting| setting.value.as_str());
    names.values.extend([
        ("program_name", name.to_owned()),
        ("group_name", around.group.unwrap_or(name).to_owned()),
        ("numprocs", count.to_owned()),
        (
            "process_num",
            section.get("numprocs_start").map_or("0", |setting| setting.value.as_str()).to_owned(),
        ),
    ]);
    names
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

fn work_of(program: &Program) -> Option<&Work> {
    match &program.line.as_ref()?.task {
        Task::Work(work) => Some(work),
        _ => None,
    }
}

fn can_be_queue(program: &Program) -> bool {
    work_of(program).is_some_and(|work| queue::unreachable(work).is_none() && queue::are_numbers(work))
}

fn remark_on_laravel(programs: &[Program], as_queues: bool, notes: &mut Notes) {
    for program in programs {
        let mut say = |what: String| notes.remark(&program.place, format_args!("`{}`: {what}", program.name));
        match program.line.as_ref().map(|line| &line.task) {
            Some(Task::Listen) => say("`queue:listen` stays a program; written as `queue:work` it can become a queue".to_owned()),
            Some(Task::Horizon) => say("`horizon` stays a program, and goes on choosing its workers itself; queues of the manifest, one for each of its supervisors, can take its place".to_owned()),
            Some(Task::Schedule) => say("the scheduler stays a program; `schedules` is not yet in this version".to_owned()),
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

/// Everything that is to be written.
struct Whole {
    ini: Ini,
    programs: Vec<Program>,
    control: Option<Entry>,
    logging: Option<Entry>,
    remarks: Vec<String>,
}

impl Whole {
    fn written(self, handler: Option<&Handler>, sources: &[Source]) -> Imported {
        let could_be: Vec<&Program> = self.programs.iter().filter(|program| can_be_queue(program)).collect();
        let (queues, programs): (Vec<&Program>, Vec<&Program>) =
            self.programs.iter().partition(|program| handler.is_some() && can_be_queue(program));
        let mut parts = vec![lines(&head(&self.ini.head, sources))];
        if let Some(handler) = handler {
            parts.extend(queue_parts(&queues, |_| handler.clone()));
        }
        if !programs.is_empty() {
            parts.push(write(
                &[Entry::new("programs", Value::Map(programs.iter().map(|one| entry(one)).collect()))],
                0,
            ));
        }
        parts.extend(
            [&self.control, &self.logging]
                .into_iter()
                .flatten()
                .map(|part| write(std::slice::from_ref(part), 0)),
        );
        parts.push(lines(&self.ini.tail));
        if handler.is_none() && !could_be.is_empty() {
            parts.push(as_comment(&could_be));
        }
        if !self.remarks.is_empty() {
            let title = "Not carried over, or different from now on:".to_owned();
            let items = self.remarks.iter().map(|remark| format!("- {remark}"));
            parts.push(lines(&std::iter::once(title).chain(items).collect::<Vec<_>>()));
        }
        parts.retain(|part| !part.is_empty());
        let could_be_queues = if handler.is_none() {
            could_be.iter().map(|one| one.name.clone()).collect()
        } else {
            Vec::new()
        };
        Imported {
            yaml: parts.join("\n"),
            programs: programs.len(),
            queues: queues.len(),
            could_be_queues,
            remarks: self.remarks,
        }
    }
}

fn head(comments: &[String], sources: &[Source]) -> Vec<String> {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let mut out = vec![format!("Written by `qfleet import` from {}.", names.join(", "))];
    out.extend(comments.iter().cloned());
    out
}

fn lines(comments: &[String]) -> String {
    comments.iter().map(|comment| comment_line(comment) + "\n").collect()
}

fn entry(program: &Program) -> Entry {
    let item = Some((program.name.clone(), Value::Map(program.entries.clone())));
    Entry { comments: program.comments.clone(), item, trailing: None }
}

/// `redis`, `connections` and `queues`.
fn queue_parts(programs: &[&Program], handler: impl Fn(&Program) -> Handler) -> Vec<String> {
    if programs.is_empty() {
        return Vec::new();
    }
    let works = || programs.iter().filter_map(|program| work_of(program));
    let url = format!("{}REDIS_URL:-redis://127.0.0.1:6379/0{}", MARKS.0, MARKS.1);
    let redis = Entry::new("redis", Value::Map(vec![Entry::new("url", Value::Text(url))]));
    let names: BTreeSet<&str> = works().map(queue::connection).collect();
    let connections = names.into_iter().map(queue::connection_entry).collect();
    let connections = Entry::new("connections", Value::Map(connections))
        .with("Compare `prefix` with your application's REDIS_PREFIX; `qfleet check --probe` says when it finds another.");
    let queues = programs
        .iter()
        .filter_map(|program| Some(queue::entry(program, work_of(program)?, &handler(program))));
    let queues = Entry::new("queues", Value::Map(queues.collect()));
    [redis, connections, queues].iter().map(|part| write(std::slice::from_ref(part), 0)).collect()
}

/// The programs that could be queues, as queues, in comments.
fn as_comment(programs: &[&Program]) -> String {
    let bare: Vec<Program> = programs.iter().map(|program| without_comments(program)).collect();
    let parts = queue_parts(&bare.iter().collect::<Vec<_>>(), |program| {
        Handler::Http(format!("http://127.0.0.1:8080/jobs/{}", program.name))
    });
    let title = [
        "As queues, which qfleet takes the jobs of itself, `queue:work` needs somebody to hand them to: an endpoint or a",
        "command of yours (`qfleet import --handler URL` writes it so). Instead of the same names under `programs`:",
        "",
    ];
    let title = title.iter().map(|line| comment_line(line) + "\n");
    title.chain(parts.join("").lines().map(|line| comment_line(line) + "\n")).collect()
}

fn without_comments(program: &Program) -> Program {
    let mut bare = program.clone();
    bare.comments.clear();
    bare.entries.retain(|entry| entry.item.is_some());
    for entry in &mut bare.entries {
        entry.comments.clear();
        entry.trailing = None;
    }
    bare
}
