//! Who gets the jobs: `handler`, `routes`.

use std::time::Duration;

use crate::handler::{Body, Handler, MAX_HOLD, MAX_RESULT};
use crate::keys;
use crate::queue::Route;
use crate::section::Section;
use crate::value::Value;
use crate::written::{handler_http, handler_shell};

pub(crate) fn read(value: &Value<'_>) -> Option<Handler> {
    let section = value.section(&keys::HANDLER)?;
    match (section.get("http"), section.get("shell")) {
        (Some(http), None) => handler_http::read(http).map(|http| Handler::Http(Box::new(http))),
        (None, Some(shell)) => handler_shell::read(shell).map(|shell| Handler::Shell(Box::new(shell))),
        (Some(_), Some(second)) => {
            second.problem_at_key("a handler has one kind: `http` or `shell`", None);
            None
        }
        (None, None) => {
            let other =
                value.entries().unwrap_or_default().iter().any(|(name, _)| !keys::HANDLER.knows(name));
            if !other {
                value.problem_with_hint("does not say who gets the jobs", "write `http: …` or `shell: …`");
            }
            None
        }
    }
}

/// First match by job name wins.
pub(crate) fn read_routes(value: &Value<'_>) -> Option<Vec<Route>> {
    let items = value.list()?;
    let routes = items.iter().filter_map(|item| {
        let section = item.section(&keys::ROUTE)?;
        if section.get("name").is_none() {
            section.missing("name", "the job's name; `*` stands for any text");
        }
        if section.get("handler").is_none() {
            section.missing("handler", "write `handler: {http: …}` or `handler: {shell: …}`");
        }
        let (name, handler) = (section.read("name", Value::line), section.read("handler", read));
        Some((item, Route { name: name?, handler: handler? }))
    });
    let routes: Vec<_> = routes.collect();
    for (index, (item, route)) in routes.iter().enumerate() {
        // A later route for the same names, or behind one for all names, never gets a job.
        if let Some((_, before)) =
            routes[..index].iter().find(|(_, before)| before.name == route.name || before.name == "*")
        {
            item.warn(
                format!("this route never gets a job: `{}` above it takes them", before.name),
                "the first match wins; put the narrower name first",
            );
        }
    }
    Some(routes.into_iter().map(|(_, route)| route).collect())
}

/// What is sent of a job.
pub(crate) fn read_body(section: &Section<'_>, choices: &[(&str, Body)]) -> Body {
    section.read("body", |value| value.word(choices, &[])).unwrap_or_default()
}

/// A limit for one delivery.
pub(crate) fn read_timeout(section: &Section<'_>) -> Option<Duration> {
    section.read("timeout", |value| {
        if value.written() == "0" {
            value.problem_with_hint(
                "must be longer than zero",
                "a queue without limit has `timeout: 0` itself",
            );
            return None;
        }
        value.duration(Duration::from_millis(10)..=Duration::from_secs(366 * 86_400))
    })
}

pub(crate) fn read_max_hold(section: &Section<'_>) -> Duration {
    let read = |value: &Value<'_>| value.duration(Duration::from_secs(1)..=Duration::from_secs(7 * 86_400));
    section.read("max-hold", read).unwrap_or(MAX_HOLD)
}

pub(crate) fn read_max_result(section: &Section<'_>) -> u64 {
    section.read("max-result", |value| value.size(0..=64 << 20)).unwrap_or(MAX_RESULT)
}

/// Name of a gate that several handlers share.
pub(crate) fn read_gate(section: &Section<'_>) -> Option<String> {
    section.read("gate", Value::line)
}
