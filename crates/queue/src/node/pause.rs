//! The pause before another attempt, as jobs of both libraries write it.

use std::time::Duration;

use serde_json::Value;

use super::row;

/// The pause (ms) in a job's options, or the name of a rule that only the application knows. `growth` is what an
/// exponential rule multiplies its delay by.
pub(super) fn written(opts: &Value, growth: f64) -> (Option<f64>, Option<String>) {
    let rule = match opts.get("backoff") {
        None | Some(Value::Null | Value::Bool(false)) => return (None, None),
        Some(Value::Number(delay)) => return (Some(delay.as_f64().unwrap_or_default()), None),
        Some(rule) => rule,
    };
    let delay = rule.get("delay").and_then(row::number).unwrap_or_default().max(0.0);
    match rule.get("type").and_then(Value::as_str) {
        Some("fixed") | None => (Some(delay), None),
        Some("exponential") => (Some((growth * delay).round()), None),
        Some(unknown) => (None, Some(unknown.to_owned())),
    }
}

/// A number of milliseconds as a job writes it.
pub(super) fn millis(number: f64) -> Duration {
    // A number of this size is a mistake; whoever waits has its own limit.
    Duration::from_millis(number.clamp(0.0, 1e15) as u64)
}
