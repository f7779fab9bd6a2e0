//! Who writes the jobs, and where: `connections`, and `failed-jobs`.

use std::time::Duration;

use qfleet_model::job::Format;

use crate::keys;
use crate::names;
use crate::queue::{Connection, FailedJobs, RedisSettings};
use crate::section::Section;
use crate::value::Value;
use crate::written::redis;

/// How long a reservation lasts when nothing says so.
const RETRY_AFTER: Duration = Duration::from_secs(90);

/// What both of Node's libraries write when nothing is said.
const NODE_PREFIX: &str = "bull";

/// Keys that are for Laravel's queues only, with what to do instead.
const LARAVEL_ONLY: &[(&str, &str)] = &[
    ("retry-after", "a lock lasts `lock-duration`: write it on the queue, or under `defaults`"),
    ("laravel-name", "remove it: it is for Laravel connections"),
    ("cluster-keys", "remove it: it is for Laravel connections"),
    ("failed-jobs", "remove it: failed jobs stay in the failed set of their own queue"),
];

/// Shorter reservations than this end while a busy machine looks away.
const SHORT: Duration = Duration::from_secs(10);

/// The connection that is there when none is named.
pub(crate) fn default(redis: RedisSettings) -> Connection {
    Connection {
        name: String::from("default"),
        driver: Format::Laravel,
        redis,
        prefix: String::new(),
        retry_after: RETRY_AFTER,
        laravel_name: String::from("redis"),
        cluster_keys: false,
    }
}

/// The `connections` section, in the order of the file. `redis` serves those that name no other.
pub(crate) fn read_all(value: &Value<'_>, redis: &RedisSettings) -> Vec<Connection> {
    let entries = value.entries().unwrap_or_default();
    let named = entries.into_iter().filter(|(name, value)| names::check(name, value));
    named.filter_map(|(name, value)| read(&name, &value, redis)).collect()
}

fn read(name: &str, value: &Value<'_>, redis: &RedisSettings) -> Option<Connection> {
    let section = value.section(&keys::CONNECTION)?;
    if section.get("driver").is_none() {
        section.missing("driver", "write `driver: laravel`, `driver: bullmq` or `driver: bull`");
    }
    let driver = section.read("driver", |value| {
        let drivers = [("laravel", Format::Laravel), ("bullmq", Format::Bullmq), ("bull", Format::Bull)];
        value.word(&drivers, &["laravel-database"])
    })?;
    let base = default(own_redis(&section).unwrap_or_else(|| redis.clone()));
    let mut prefix = section.read("prefix", read_prefix);
    if driver == Format::Laravel {
        section.read("failed-jobs", read_failed_jobs);
    } else {
        only_laravels(&section, driver);
        prefix = prefix.or_else(|| Some(NODE_PREFIX.to_owned()));
        section.read("prefix", without_colon);
    }
    Some(Connection {
        name: name.to_owned(),
        driver,
        prefix: prefix.unwrap_or_default(),
        retry_after: section.read("retry-after", read_retry_after).unwrap_or(base.retry_after),
        laravel_name: section.read("laravel-name", Value::line).unwrap_or(base.laravel_name),
        cluster_keys: section.read("cluster-keys", Value::flag).unwrap_or(base.cluster_keys),
        redis: base.redis,
    })
}

/// A family as people call it.
pub(crate) fn library(driver: Format) -> &'static str {
    match driver {
        Format::Laravel => "Laravel",
        Format::Bull => "Bull",
        Format::Bullmq => "BullMQ",
    }
}

/// Tells of what a connection of Node's libraries does not have.
fn only_laravels(section: &Section<'_>, driver: Format) {
    let library = library(driver);
    for (key, hint) in LARAVEL_ONLY {
        if let Some(value) = section.get(key) {
            value.problem_at_key(format!("`{key}` is not for {library} connections"), Some(hint));
        }
    }
}

/// The libraries write the colon after the prefix themselves.
fn without_colon(value: &Value<'_>) -> Option<()> {
    let prefix = value.text_or_number()?;
    match prefix.strip_suffix(':') {
        Some(bare) => {
            let hint = format!("write `{bare}`: the colon after it is not part of it");
            value.problem_with_hint("has a colon at its end", hint);
        }
        None if prefix.is_empty() => {
            value.problem_with_hint("is empty", "leave it out for `bull`, which is the library's own");
        }
        None => {}
    }
    Some(())
}

/// A Redis that only this connection uses: `redis: …`, or the keys themselves.
fn own_redis(section: &Section<'_>) -> Option<RedisSettings> {
    let beside = redis::is_named(section);
    match section.get("redis") {
        Some(value) if beside => {
            value.problem_at_key("`redis` and `url` exclude each other; give one", None);
            None
        }
        Some(value) => redis::read(value),
        None if beside => redis::read_keys(section),
        None => {
            for key in ["username", "password", "password-file", "database", "ca-file"] {
                if let Some(value) = section.get(key) {
                    value.problem_at_key(
                        format!("`{key}` needs the `url` of a Redis beside it"),
                        Some("or write it in the `redis` section, for all connections"),
                    );
                }
            }
            None
        }
    }
}

fn read_prefix(value: &Value<'_>) -> Option<String> {
    let prefix = value.text_or_number()?;
    if prefix.chars().any(char::is_control) {
        value.problem("must be one line without control characters");
        return None;
    }
    if prefix.ends_with("queues:") {
        value.problem_with_hint(
            "has `queues:` at its end, which is not part of the prefix",
            "write only what stands before it",
        );
        return None;
    }
    Some(prefix)
}

fn read_retry_after(value: &Value<'_>) -> Option<Duration> {
    let retry_after = value.duration(Duration::from_secs(1)..=Duration::from_secs(30 * 86_400))?;
    if retry_after < SHORT {
        value.warn(
            "a reservation this short ends when machine or Redis are busy for a moment, and the job runs again",
            "reservations are renewed while a job runs: 90 is good even for long jobs",
        );
    }
    Some(retry_after)
}

/// The `failed-jobs` section.
pub(crate) fn read_failed_jobs(value: &Value<'_>) -> Option<FailedJobs> {
    let section = value.section(&keys::FAILED_JOBS)?;
    section.read("driver", |value| {
        value.word(
            &[("redis", FailedJobs::Redis)],
            &["database", "database-uuids", "dynamodb", "file", "null"],
        )
    })
}
