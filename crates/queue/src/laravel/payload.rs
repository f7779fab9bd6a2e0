//! From a ready string to a [`Job`]: reads what it needs at the top, skips the rest unseen.
//!
//! `data` is checked for being JSON and never built, so that neither size nor depth matters; numbers and texts are taken
//! in whatever form Laravel accepts them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use qfleet_model::backoff::Backoff;
use qfleet_model::job::{Format, History, Job, JobLimits};
use qfleet_model::time::WallTime;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::splice;
use crate::error::Unreadable;

const TAGS: usize = 20;

/// Where a payload lay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) queue: &'a str,
    /// A job's own dispatch delay is its backoff when it has no other.
    pub(crate) delay_as_backoff: bool,
}

/// Reads a payload as it lay in the ready list.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read(payload: Vec<u8>, place: Place<'_>, history: History) -> Result<Job, Unreadable> {
    let top = top(&payload)?;
    let attempts = splice::counter(&payload).ok_or_else(|| Unreadable(counter_fault(&top)))?.value;
    let text = |key| top.get(key).and_then(text_of).filter(|text| !text.is_empty());
    let name = text("displayName").or_else(|| text("job"));
    let name =
        name.ok_or_else(|| Unreadable("names no job: it has neither `displayName` nor `job`".into()))?;
    let id = text("uuid").or_else(|| text("id")).unwrap_or_default();
    let created = top.get("createdAt").and_then(number_text).unwrap_or_default();
    let mut job = Job {
        format: Format::Laravel,
        prefix: place.prefix.to_owned(),
        queue: place.queue.to_owned(),
        identity_of: text("retry_of").unwrap_or_else(|| id.clone()),
        id,
        created_at: created.parse::<f64>().ok().and_then(seconds_date),
        created,
        name,
        attempt: attempts + 1,
        payload: Vec::new(),
        limits: limits(&top, place.delay_as_backoff),
        history,
        traceparent: text("traceparent"),
        tracestate: text("tracestate"),
        tags: top.get("tags").map(tags).unwrap_or_default(),
    };
    job.payload = payload;
    Ok(job)
}

/// What can be told of a payload for a listing, readable or not: id, name, attempts made.
pub(crate) fn glance(payload: &[u8]) -> (String, String, u32) {
    let attempts = splice::counter(payload).map_or(0, |counter| counter.value);
    match top(payload) {
        Ok(top) => {
            let text = |key| top.get(key).and_then(text_of).filter(|text| !text.is_empty());
            let id = text("uuid").or_else(|| text("id")).unwrap_or_default();
            let name = text("displayName").or_else(|| text("job")).unwrap_or_else(|| "names no job".into());
            (id, name, attempts)
        }
        Err(problem) => (String::new(), problem.0, attempts),
    }
}

/// The producer's time stamp, where there is one.
pub(crate) fn created_at(payload: &[u8]) -> Option<WallTime> {
    let top = top(payload).ok()?;
    top.get("createdAt").and_then(number_text)?.parse::<f64>().ok().and_then(seconds_date)
}

fn limits(top: &Top<'_>, delay_as_backoff: bool) -> JobLimits {
    let count = |key| top.get(key).and_then(number_text).and_then(|text| whole(&text));
    let seconds = |key| top.get(key).and_then(number_text).and_then(|text| duration(&text));
    let backoff = top.get("backoff").and_then(backoff);
    let backoff = backoff.or_else(|| seconds("delay").filter(|_| delay_as_backoff).map(Backoff::Fixed));
    JobLimits {
        tries: count("maxTries"),
        timeout: seconds("timeout"),
        backoff,
        unknown_backoff: None,
        retry_until: top
            .get("retryUntil")
            .and_then(number_text)
            .or_else(|| top.get("timeoutAt").and_then(number_text))
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|until| *until > 0.0)
            .and_then(seconds_date),
        fail_on_timeout: matches!(top.get("failOnTimeout"), Some("true" | "1")),
        max_exceptions: count("maxExceptions").filter(|most| *most > 0),
    }
}

/// `"1,5,10"`, `"5"`, `5`, or a JSON list of numbers.
fn backoff(raw: &str) -> Option<Backoff> {
    if raw.starts_with('[') {
        let steps: Vec<f64> = serde_json::from_str(raw).ok()?;
        return Some(Backoff::Steps(steps.into_iter().filter_map(whole_seconds).collect()));
    }
    let text = text_of(raw)?;
    let steps: Vec<Duration> = text.split(',').filter_map(|step| duration(step.trim())).collect();
    (!steps.is_empty()).then_some(Backoff::Steps(steps))
}

fn tags(raw: &str) -> Vec<String> {
    let tags: Vec<serde_json::Value> = serde_json::from_str(raw).unwrap_or_default();
    tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).take(TAGS).collect()
}

/// A text, or a number as text; none for anything else.
fn text_of(raw: &str) -> Option<String> {
    match raw.as_bytes().first()? {
        // A lone surrogate cannot be a Rust text; as it is written it still names the job.
        b'"' => Some(serde_json::from_str(raw).unwrap_or_else(|_| raw.trim_matches('"').to_owned())),
        b'0'..=b'9' | b'-' => Some(raw.to_owned()),
        _ => None,
    }
}

/// The digits of a number or of a text that is one.
fn number_text(raw: &str) -> Option<String> {
    text_of(raw).filter(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}

fn whole(text: &str) -> Option<u32> {
    let number: f64 = text.parse().ok()?;
    // The cast keeps within bounds by itself; a negative number of tries is none.
    let whole = number.max(0.0) as u32;
    Some(whole)
}

fn duration(text: &str) -> Option<Duration> {
    whole_seconds(text.parse().ok()?)
}

fn whole_seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number.max(0.0)).ok()
}

fn seconds_date(seconds: f64) -> Option<WallTime> {
    // Dates beyond 2^53 ms are nobody's.
    (seconds.abs() < 9.0e12).then(|| WallTime::from_millis((seconds * 1000.0) as i64))
}

fn counter_fault(top: &Top<'_>) -> String {
    match top.get("attempts") {
        None => "has no `attempts`".into(),
        Some(found) => {
            let found: String = found.chars().take(40).collect();
            format!("has `attempts` that are no number: `{found}`")
        }
    }
}

/// The keys of the outermost object that matter, as they are written; the last one of a name counts.
struct Top<'a>(Vec<(&'static str, &'a str)>);

const KEYS: [&str; 18] = [
    "uuid",
    "id",
    "retry_of",
    "displayName",
    "job",
    "attempts",
    "createdAt",
    "maxTries",
    "maxExceptions",
    "failOnTimeout",
    "backoff",
    "delay",
    "timeout",
    "retryUntil",
    "timeoutAt",
    "traceparent",
    "tracestate",
    "tags",
];

impl<'a> Top<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(name, _)| *name == key).map(|(_, raw)| *raw).filter(|raw| *raw != "null")
    }
}

fn top(payload: &[u8]) -> Result<Top<'_>, Unreadable> {
    match payload.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {}
        None => return Err(Unreadable("is empty".into())),
        Some(_) => return Err(Unreadable(not_an_object(payload))),
    }
    let mut text = serde_json::Deserializer::from_slice(payload);
    let top = text.deserialize_map(TopVisitor).and_then(|top| text.end().map(|()| top));
    top.map_err(|error| Unreadable(format!("is not valid JSON: {error}")))
}

fn not_an_object(payload: &[u8]) -> String {
    if serde_json::from_slice::<IgnoredAny>(payload).is_ok() {
        "is JSON but no object".into()
    } else {
        "does not begin with `{`: is a `serializer` or `compression` set on the application's Redis connection?".into()
    }
}

struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            match KEYS.iter().find(|known| **known == key.0) {
                Some(known) => found.push((*known, map.next_value::<&RawValue>()?.get())),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Top(found))
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}
