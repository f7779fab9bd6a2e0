//! A line of `queue:work` as a queue of the manifest.

use super::artisan::{Line, Work};
use super::expand::is_open;
use super::handler::Handler;
use super::program::Program;
use super::section::duration;
use super::yaml::{Entry, Value};

/// Connections of Laravel's skeleton that are not in Redis.
const ELSEWHERE: &[&str] =
    &["database", "beanstalkd", "sqs", "sync", "null", "deferred", "background", "failover"];

/// What of a program its queue keeps, beside the flags.
const KEPT: &[&str] = &[
    "numprocs",
    "priority",
    "autostart",
    "startretries",
    "stop-wait",
    "user",
    "cwd",
    "logs",
    "umask",
    "environment",
];

/// The application's name for the connection.
pub(super) fn connection(work: &Work) -> &str {
    work.connection.as_deref().unwrap_or("redis")
}

/// Why its jobs cannot be taken, if they cannot.
pub(super) fn unreachable(work: &Work) -> Option<String> {
    let name = connection(work);
    if ELSEWHERE.contains(&name) {
        return Some(format!("the connection `{name}` is not in Redis"));
    }
    let texts = work.queues.iter().chain(work.options.iter().map(|(_, value)| value)).map(String::as_str);
    texts.chain([name]).any(is_open).then(|| "its flags depend on variables of the environment".to_owned())
}

/// The connection as an entry of `connections`.
pub(super) fn connection_entry(name: &str) -> Entry {
    let (open, close) = super::expand::MARKS;
    let prefix = format!("{open}REDIS_PREFIX:-laravel_database_{close}");
    let parts = vec![
        ("driver", Value::Plain("laravel".to_owned())),
        ("prefix", Value::Text(prefix)),
        ("laravel-name", Value::Text(name.to_owned())),
    ];
    Entry::new(super::program::fitting_name(name), Value::Inline(parts))
}

/// The queue. Settings of its processes and comments are the program's.
pub(super) fn entry(program: &Program, work: &Work, handler: &Handler) -> Entry {
    let mut inner =
        vec![Entry::new("connection", Value::Text(super::program::fitting_name(connection(work))))];
    inner.extend(redis_queues(&program.name, &work.queues));
    inner.extend(work.options.iter().filter_map(|(name, value)| option(name, value)));
    inner.extend(
        program.entries.iter().filter(|entry| entry.key().is_none_or(|key| KEPT.contains(&key))).cloned(),
    );
    if let Some(line) = &program.line {
        add_from_line(&mut inner, line);
    }
    inner.push(Entry::new("handler", handler.value()));
    Entry {
        comments: program.comments.clone(),
        item: Some((program.name.clone(), Value::Map(inner))),
        trailing: None,
    }
}

/// What the command line says of its directory and of variables: these hold over the program's.
pub(super) fn add_from_line(inner: &mut Vec<Entry>, line: &Line) {
    let at = |inner: &[Entry], key: &str| inner.iter().position(|entry| entry.key() == Some(key));
    if let Some(cwd) = &line.cwd {
        inner.retain(|entry| entry.key() != Some("cwd"));
        inner.push(Entry::new("cwd", Value::Text(cwd.clone())));
    }
    if line.environment.is_empty() {
        return;
    }
    let place = at(inner, "environment").unwrap_or_else(|| {
        inner.push(Entry::new("environment", Value::Map(Vec::new())));
        inner.len() - 1
    });
    if let Some((_, Value::Map(variables))) = &mut inner[place].item {
        for (name, value) in &line.environment {
            variables.retain(|variable| variable.key() != Some(name));
            variables.push(Entry::new(name, Value::Text(value.clone())));
        }
    }
}

fn redis_queues(name: &str, queues: &[String]) -> Option<Entry> {
    match queues {
        [] if name == "default" => None,
        [] => Some(Entry::new("queue", Value::Text("default".to_owned()))),
        [only] if only == name => None,
        [only] => Some(Entry::new("queue", Value::Text(only.clone()))),
        several => Some(Entry::new("queue", Value::List(several.iter().cloned().map(Value::Text).collect()))),
    }
}

/// A flag under the same name; `None` when it says what holds anyway.
fn option(name: &str, value: &str) -> Option<Entry> {
    let is_default = match name {
        "tries" => value == "1",
        "timeout" => value == "60",
        "sleep" => value == "3",
        _ => value == "0",
    };
    if is_default {
        return None;
    }
    let shown = match name {
        "timeout" | "sleep" | "max-time" => Value::Plain(duration(value)),
        "memory" => Value::Plain(format!("{value}MiB")),
        "backoff" if value.contains(',') => {
            Value::List(value.split(',').map(|one| Value::Plain(duration(one.trim()))).collect())
        }
        "backoff" => Value::Plain(duration(value)),
        _ => Value::Plain(value.to_owned()),
    };
    Some(Entry::new(name, shown))
}

/// Whether every flag is what it should be: `--tries=abc` would be cast by PHP, and nobody knows what was meant.
pub(super) fn are_numbers(work: &Work) -> bool {
    let is_number = |text: &str| text.trim().parse::<f64>().is_ok_and(|number| (0.0..1e9).contains(&number));
    work.options.iter().all(|(_, value)| value.split(',').all(is_number))
}
