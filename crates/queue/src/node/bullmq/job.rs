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
    let [name, data, opts, timestamp, ended, ended4, starts, stalls, scheduler, reason, _] = fields.fields();
    let opts = row::options(opts);
    let ended = ended.number::<u32>().unwrap_or_default() + ended4.number::<u32>().unwrap_or_default();
    let starts = starts.number::<u32>().unwrap_or_default();
    let (traceparent, tracestate) = trace(&opts);
    let name = name.text();
    let data = row::data(data);
    Row {
        unreadable: unreadable(&name, &data, &opts).map(Unreadable),
        name,
        data,
        limits: limits(&opts, ended.saturating_add(1), fastrand::f64()),
        opts,
        timestamp: timestamp.text(),
        ended,
        deliveries: Some(starts.saturating_sub(1)),
        proof: starts.to_string(),
        stalls: stalls.number().unwrap_or_default(),
        schedule: Some(scheduler.text()).filter(|scheduler| !scheduler.is_empty()),
        failed_before: reason.bytes().is_some(),
        traceparent,
        tracestate,
    }
}

/// Why the job cannot be run, if so. Options that are no JSON hold nobody up: they count as not given.
fn unreadable(name: &str, data: &[u8], opts: &Value) -> Option<String> {
    if opts.get("group").is_some() {
        return Some("belongs to a group, which only the library's commercial edition knows".into());
    }
    if let Some(problem) = row::no_json(data) {
        return Some(problem);
    }
    name.is_empty().then(|| "it has no `name`".into())
}

/// The limits in a job's options, for this attempt. `luck` is drawn from 0 to 1.
fn limits(opts: &Value, attempt: u32, luck: f64) -> JobLimits {
    let attempts = opts.get("attempts").and_then(row::number).filter(|attempts| *attempts > 0.0);
    let growth = 2_f64.powf(f64::from(attempt.saturating_sub(1)));
    let (pause, unknown_backoff) = pause::written(opts, growth);
    let jitter = opts.pointer("/backoff/jitter").and_then(row::number).unwrap_or_default().clamp(0.0, 1.0);
    let spread = |whole: f64| (luck * whole * jitter + whole * (1.0 - jitter)).floor();
    let pause = pause.map(|whole| if jitter > 0.0 { spread(whole) } else { whole });
    JobLimits {
        tries: attempts.map(row::attempts),
        backoff: pause.map(|pause| Backoff::Fixed(pause::millis(pause))),
        unknown_backoff,
        ..JobLimits::default()
    }
}

/// The producer's trace context, which it may ask to keep out of.
fn trace(opts: &Value) -> (Option<String>, Option<String>) {
    if opts.get("omc").and_then(Value::as_bool) == Some(true) {
        return (None, None);
    }
    let carrier: Option<Value> =
        opts.get("tm").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    let field = |name: &str| {
        carrier.as_ref().and_then(|carrier| carrier.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    (field("traceparent"), field("tracestate"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn after(opts: &Value, attempt: u32, luck: f64) -> Option<u128> {
        limits(opts, attempt, luck).backoff.map(|rule| rule.after(attempt).as_millis())
    }

    #[test]
    fn pauses_follow_the_options() {
        assert_eq!(after(&json!({}), 1, 0.5), None);
        assert_eq!(after(&json!({"backoff": 250}), 3, 0.5), Some(250));
        assert_eq!(after(&json!({"backoff": {"type": "fixed", "delay": 250}}), 3, 0.5), Some(250));
        let growing = json!({"backoff": {"type": "exponential", "delay": 250}});
        assert_eq!(
            [1, 2, 3].map(|attempt| after(&growing, attempt, 0.5)),
            [Some(250), Some(500), Some(1000)]
        );
        let jittered = json!({"backoff": {"type": "fixed", "delay": 1000, "jitter": 0.5}});
        assert_eq!(
            [0.0, 0.5, 0.999].map(|luck| after(&jittered, 1, luck)),
            [Some(500), Some(750), Some(999)]
        );
        let unknown = limits(&json!({"backoff": {"type": "mine"}}), 1, 0.5);
        assert_eq!((unknown.backoff, unknown.unknown_backoff.as_deref()), (None, Some("mine")));
    }

    #[test]
    fn no_attempts_are_not_given() {
        let tries = |opts: Value| limits(&opts, 1, 0.5).tries;
        assert_eq!(tries(json!({"attempts": 0})), None);
        assert_eq!(tries(json!({})), None);
        assert_eq!(tries(json!({"attempts": 3})), Some(3));
    }

    #[test]
    fn numbers_in_texts_count_as_in_javascript() {
        let of = |opts: Value| limits(&opts, 1, 0.5);
        assert_eq!(of(json!({"attempts": "3"})).tries, Some(3));
        assert_eq!(of(json!({"attempts": 2.5})).tries, Some(3));
        assert_eq!(of(json!({"attempts": "many"})).tries, None);
        assert_eq!(after(&json!({"backoff": {"type": "exponential", "delay": "250"}}), 2, 0.5), Some(500));
    }

    #[test]
    fn a_trace_is_found() {
        let opts = json!({"tm": r#"{"traceparent":"00-a-b-01","tracestate":"x=1"}"#});
        assert_eq!(trace(&opts), (Some("00-a-b-01".into()), Some("x=1".into())));
        assert_eq!(trace(&json!({"tm": "no json"})), (None, None));
    }
}
