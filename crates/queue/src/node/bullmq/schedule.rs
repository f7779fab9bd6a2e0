//! Job schedulers: whoever takes an iteration creates the next one.
//!
//! When that is, is known here for patterns, and in the script for intervals; the script creates it only while the
//! scheduler still stands at the iteration that was taken, so any number of takers create it once.

use qfleet_model::time::WallTime;
use serde_json::Value;

use crate::node::cron::Pattern;
use crate::node::turn::Taken;

/// For the schedule script: the scheduler, number of the new iteration, its date or '' for one after the interval, the
/// interval or 0. None when the job is of no scheduler, or its last.
pub(super) fn following(taken: &Taken, now: WallTime) -> Option<Vec<String>> {
    let scheduler = taken.row.schedule.clone()?;
    let opts = &taken.row.opts;
    let rule = opts.get("repeat")?;
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_f64).map(|number| number as i64);
    let count = number(rule, "count").unwrap_or_default().saturating_add(1);
    if number(rule, "limit").is_some_and(|limit| count > limit) {
        return None;
    }
    let end = number(rule, "endDate");
    if end.is_some_and(|end| now.as_millis() > end) {
        return None;
    }
    let due = match rule.get("pattern").and_then(Value::as_str) {
        Some(pattern) => {
            let last = number(opts, "prevMillis").unwrap_or_default();
            let base = now.as_millis().max(last).max(number(rule, "startDate").unwrap_or_default());
            let zone = rule.get("tz").and_then(Value::as_str);
            match Pattern::new(pattern, zone) {
                Ok(pattern) => match pattern.after(base) {
                    Some(due) if end.is_none_or(|end| due <= end) => Some(due),
                    _ => return None,
                },
                Err(problem) => {
                    // The job runs all the same.
                    tracing::error!(
                        scheduler,
                        pattern,
                        problem,
                        "a schedule ends: its pattern cannot be read"
                    );
                    return None;
                }
            }
        }
        None => None,
    };
    let every = number(rule, "every").filter(|every| *every > 0);
    let count = u64::try_from(count).unwrap_or(1);
    let due = due.map(|due| due.to_string()).unwrap_or_default();
    Some(vec![scheduler, count.to_string(), due, every.unwrap_or_default().to_string()])
}
