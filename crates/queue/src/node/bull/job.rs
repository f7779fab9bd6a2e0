//! Reading a job's hash: the fields a worker needs, and the limits in its options.

use std::time::Duration;

use qfleet_model::backoff::Backoff;
use qfleet_model::job::JobLimits;
use serde_json::Value;

use crate::node::row::Row;
use crate::redis::Reply;

/// Reads the fields in the scripts' order.
pub(super) fn row(row: Reply) -> Row {
    let [name, data, opts, timestamp, failed, stalls, proof, reason] = row.fields();
    let opts: Value = opts.bytes().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let failed = failed.number::<u32>().unwrap_or_default();
    let stalls = stalls.number::<u32>().unwrap_or_default();
    Row {
        name: name.text(),
        data: data.bytes().unwrap_or_else(|| b"{}".to_vec()),
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

/// The limits in a job's options, for this attempt.
fn limits(opts: &Value, attempt: u32) -> JobLimits {
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_f64);
    let (backoff, unknown_backoff) = match opts.get("backoff") {
        None | Some(Value::Null | Value::Bool(false)) => (None, None),
        Some(Value::Number(delay)) => (Some(fixed(delay.as_f64().unwrap_or_default())), None),
        Some(rule) => pause(rule, attempt),
    };
    JobLimits {
        tries: number(opts, "attempts").map(|attempts| attempts.clamp(1.0, f64::from(u32::MAX)) as u32),
        timeout: number(opts, "timeout").filter(|limit| *limit > 0.0).map(millis),
        backoff,
        unknown_backoff,
        ..JobLimits::default()
    }
}

/// The pause after this attempt, or the name of a rule that only the application knows.
fn pause(rule: &Value, attempt: u32) -> (Option<Backoff>, Option<String>) {
    let delay = rule.get("delay").and_then(Value::as_f64).unwrap_or_default().max(0.0);
    match rule.get("type").and_then(Value::as_str) {
        Some("fixed") | None => (Some(fixed(delay)), None),
        Some("exponential") => {
            let times = 2_f64.powi(i32::try_from(attempt).unwrap_or(i32::MAX)) - 1.0;
            (Some(fixed((times * delay).round())), None)
        }
        Some(unknown) => (None, Some(unknown.to_owned())),
    }
}

fn fixed(delay: f64) -> Backoff {
    Backoff::Fixed(millis(delay))
}

fn millis(number: f64) -> Duration {
    // A number of this size is a mistake; whoever waits has its own limit.
    Duration::from_millis(number.clamp(0.0, 1e15) as u64)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(of(json!({})).tries, None);
        assert_eq!(of(json!({"timeout": 1500})).timeout, Some(Duration::from_millis(1500)));
        assert_eq!(of(json!({"timeout": 0})).timeout, None);
    }
}
