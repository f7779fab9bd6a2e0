//! The manifest as text: its parts in their order, what could be queues as a comment, and the remarks at the end.

use std::collections::BTreeSet;

use super::artisan::{Task, Work};
use super::document::Imported;
use super::expand::MARKS;
use super::ini::Ini;
use super::program::Program;
use super::yaml::{Entry, Value, comment_line, write};
use super::{Handler, Source, queue, scheduler};

/// Everything that is to be written.
pub(super) struct Whole {
    pub(super) ini: Ini,
    pub(super) programs: Vec<Program>,
    pub(super) control: Option<Entry>,
    pub(super) logging: Option<Entry>,
    pub(super) remarks: Vec<String>,
}

impl Whole {
    /// With a `handler`, what can be a queue is one.
    pub(super) fn written(self, handler: Option<&Handler>, sources: &[Source]) -> Imported {
        let could_be: Vec<&Program> = self.programs.iter().filter(|program| can_be_queue(program)).collect();
        let (queues, others): (Vec<&Program>, Vec<&Program>) =
            self.programs.iter().partition(|program| handler.is_some() && can_be_queue(program));
        let (schedules, programs): (Vec<&Program>, Vec<&Program>) =
            others.into_iter().partition(|program| scheduler::of(program).is_some());
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
        if !schedules.is_empty() {
            let entries =
                schedules.iter().filter_map(|one| Some(scheduler::entry(one, scheduler::of(one)?))).collect();
            parts.push(write(&[Entry::new("schedules", Value::Map(entries))], 0));
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
            schedules: schedules.len(),
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

fn work_of(program: &Program) -> Option<&Work> {
    match &program.line.as_ref()?.task {
        Task::Work(work) => Some(work),
        _ => None,
    }
}

fn can_be_queue(program: &Program) -> bool {
    work_of(program).is_some_and(|work| queue::unreachable(work).is_none() && queue::are_numbers(work))
}
