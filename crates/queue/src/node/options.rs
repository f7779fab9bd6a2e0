//! Options of a job of our own making: from what a producer writes to what is stored.
//!
//! What would not have the effect it has in the hands of the library is refused, not passed over: a job that was to be
//! deduplicated would run twice.

use serde_json::{Map, Value};

use super::library::Library;

/// Options, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// As the library stores them, in JSON.
    pub(super) stored: String,
    /// In milliseconds.
    pub(super) delay: u64,
    /// 0 is none.
    pub(super) priority: u64,
    /// To be taken before all others.
    pub(super) first: bool,
    /// Empty where the library counts.
    pub(super) id: String,
}

impl Options {
    /// Reads what a producer writes. `data` are the job's, `now` is in milliseconds since 1970.
    ///
    /// # Errors
    /// A sentence saying which option cannot be had and why.
    pub(super) fn read(
        library: &Library,
        mut written: Map<String, Value>,
        data: &str,
        now: i64,
    ) -> Result<Self, String> {
        if let Some(name) = library.unpushable.iter().find(|name| written.contains_key(**name)) {
            return Err(format!("a job with `{name}` cannot be pushed: add it with the library"));
        }
        let limit = number(&written, "sizeLimit")?.filter(|limit| *limit > 0.0);
        if limit.is_some_and(|limit| data.len() as f64 > limit) {
            return Err(format!("its data have {} bytes, and its `sizeLimit` is less", data.len()));
        }
        let delay = number(&written, "delay")?.unwrap_or_default().max(0.0) as u64;
        let priority = number(&written, "priority")?.unwrap_or_default();
        if priority.fract() != 0.0 || !(0.0..=library.highest_priority as f64).contains(&priority) {
            return Err(format!("its `priority` must be a whole number up to {}", library.highest_priority));
        }
        let first = written.get("lifo").is_some_and(|lifo| *lifo == Value::Bool(true));
        let id = match written.get("jobId") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(id)) => id.clone(),
            Some(other) => return Err(format!("its `jobId` must be a text, and is {other}")),
        };
        if let Some(problem) = (library.bad_id)(&id) {
            return Err(format!("`{id}` is no `jobId`: {problem}"));
        }
        if let Some(delay) = written.get("backoff").filter(|rule| rule.is_number()).cloned() {
            written.insert("backoff".into(), serde_json::json!({"type": "fixed", "delay": delay}));
        }
        (library.complete)(&mut written, now);
        Ok(Self { stored: Value::Object(written).to_string(), delay, priority: priority as u64, first, id })
    }
}

/// A number among the options.
fn number(written: &Map<String, Value>, name: &str) -> Result<Option<f64>, String> {
    match written.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(format!("its `{name}` must be a number, and is {value}")),
        },
    }
}

/// The library keeps numbers for ids of its own, and `0:` for what old versions put among them.
pub(super) fn kept_for_the_library(id: &str) -> Option<&'static str> {
    (id.parse::<i64>().is_ok() || id.starts_with("0:")).then_some("it must not be a number")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::node::bull::BULL;
    use crate::node::bullmq::BULLMQ;

    fn read(library: &Library, written: &Value) -> Result<Options, String> {
        Options::read(library, written.as_object().cloned().unwrap_or_default(), "{}", 7)
    }

    fn stored(library: &Library, written: &Value) -> Value {
        serde_json::from_str(&read(library, written).unwrap().stored).unwrap()
    }

    #[test]
    fn options_are_stored_under_the_librarys_names() {
        let written =
            json!({"keepLogs": 2, "telemetry": {"metadata": "{}", "omitContext": true}, "backoff": 500});
        let backoff = json!({"type": "fixed", "delay": 500});
        assert_eq!(
            stored(&BULLMQ, &written),
            json!({"kl": 2, "tm": "{}", "omc": true, "backoff": backoff, "attempts": 0})
        );
        assert_eq!(
            stored(&BULL, &json!({"backoff": 500, "timestamp": 1})),
            json!({"backoff": backoff, "attempts": 1, "delay": 0, "timestamp": 7})
        );
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        for name in ["deduplication", "debounce", "repeat", "parent", "failParentOnFailure", "de"] {
            assert!(
                read(&BULLMQ, &json!({name: {"id": "x"}})).is_err_and(|why| why.contains(name)),
                "{name}"
            );
        }
        for name in ["debounce", "repeat"] {
            assert!(read(&BULL, &json!({name: {"id": "x"}})).is_err(), "{name}");
        }
        let wrong = [
            json!({"jobId": 12}),
            json!({"jobId": "12"}),
            json!({"jobId": "0:1"}),
            json!({"priority": 1.5}),
            json!({"priority": -1}),
            json!({"delay": "100"}),
            json!({"sizeLimit": 1}),
        ];
        for library in [&BULLMQ, &BULL] {
            for written in &wrong {
                assert!(read(library, written).is_err(), "{written}");
            }
        }
        assert!(read(&BULLMQ, &json!({"jobId": "a:b"})).is_err());
        assert_eq!(read(&BULLMQ, &json!({"jobId": "a:b:c"})).unwrap().id, "a:b:c");
        assert_eq!(read(&BULL, &json!({"jobId": "a:b"})).unwrap().id, "a:b");
        assert!(read(&BULLMQ, &json!({"priority": 2_097_153})).is_err());
    }

    #[test]
    fn a_part_of_a_millisecond_is_no_reason_to_run_at_once() {
        assert_eq!(read(&BULLMQ, &json!({"delay": 1500.5})).unwrap().delay, 1500);
        assert_eq!(read(&BULLMQ, &json!({"delay": -5})).unwrap().delay, 0);
    }
}
