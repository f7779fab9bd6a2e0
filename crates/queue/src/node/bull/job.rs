//! Reading a job's hash: the fields a worker needs, and the limits in its options.

use qfleet_model::backoff::Backoff;
use qfleet_model::job::JobLimits;
use serde_json::Value;

use crate::error::Unreadable;
use crate::node::pause;
use crate::node::row::{self, Row};
use crate::redis::Reply;

/// Reads the fields in the scripts' order.
pub(super) fn row(fields: Reply) -> Row {
    let [name, data, opts, timestamp, failed, stalls, proof, reason] = fields.fields();
    let (opts, data) = (row::options(opts), row::data(data));
    let failed = failed.number::<u32>().unwrap_or_default();
    let stalls = stalls.number::<u32>().unwrap_or_default();
    Row {
        unreadable: unreadable(&data, &opts),
        name: name.text(),
        data,
        limits: limits(&opts, failed.saturating_add(1)),
        timestamp: timestamp.text(),
        ended: failed,
        proof: proof.text(),
        stalls,
        schedule: opts.pointer("/repeat/key").and_then(Value::as_str).map(str::to_owned),
        failed_before: reason.bytes().is_some(),
        opts,
        ..Row::default()
    }
}

/// Why the job cannot be run, if so. Options that are no JSON hold nobody up: they count as not given.
fn unreadable(data: &[u8], opts: &Value) -> Option<Unreadable> {
    let text = opts.get("preventParsingData").and_then(Value::as_bool) == Some(true);
    if text { None } else { row::no_json(data).map(Unreadable) }
}

/// The limits in a job's options, for this attempt.
fn limits(opts: &Value, attempt: u32) -> JobLimits {
    let number = |name: &str| opts.get(name).and_then(row::number);
    let growth = 2_f64.powi(i32::try_from(attempt).unwrap_or(i32::MAX)) - 1.0;
    let (pause, unknown_backoff) = pause::written(opts, growth);
    JobLimits {
        tries: number("attempts").map(|attempts| row::attempts(attempts).max(1)),
        timeout: number("timeout").filter(|limit| *limit > 0.0).map(pause::millis),
        backoff: pause.map(|pause| Backoff::Fixed(pause::millis(pause))),
        unknown_backoff,
        ..JobLimits::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn pauses_follow_the_options() {
        let after =
            |opts: &Value, attempt| limits(opts, attempt).backoff.map(|rule| rule.after(attempt).as_millis());
        assert_eq!(after(&json!({}), 1), None);
        assert_eq!(after(&json!({"backoff": 250}), 3), Some(250));
        assert_eq!(after(&json!({"backoff": {"type": "fixed", "delay": 250}}), 3), Some(250));
        let growing = json!({"backoff": {"type": "exponential", "delay": 250}});
        assert_eq!([1, 2, 3].map(|attempt| after(&growing, attempt)), [Some(250), Some(750), Some(1750)]);
        assert!(after(&growing, 4000) >= after(&growing, 20));
        let unknown = limits(&json!({"backoff": {"type": "mine"}}), 1);
        assert_eq!((unknown.backoff, unknown.unknown_backoff.as_deref()), (None, Some("mine")));
    }

    #[test]
    fn attempts_and_the_time_limit_are_the_jobs_own() {
        let of = |opts: Value| limits(&opts, 1);
        assert_eq!(of(json!({"attempts": 1})).tries, Some(1));
        assert_eq!(of(json!({"attempts": 0})).tries, Some(1));
        assert_eq!(of(json!({"attempts": "3"})).tries, Some(3));
        assert_eq!(of(json!({"timeout": "1500"})).timeout, Some(Duration::from_millis(1500)));
        assert_eq!(of(json!({})).tries, None);
        assert_eq!(of(json!({"timeout": 1500})).timeout, Some(Duration::from_millis(1500)));
        assert_eq!(of(json!({"timeout": 0})).timeout, None);
    }

    #[test]
    fn data_is_json_unless_the_producer_says_otherwise() {
        assert_eq!(unreadable(b"{\"a\":1}", &json!({})), None);
        assert!(unreadable(b"{no", &json!({})).is_some_and(|Unreadable(why)| why.contains("`data`")));
        assert_eq!(unreadable(b"{no", &json!({"preventParsingData": true})), None);
    }
}
