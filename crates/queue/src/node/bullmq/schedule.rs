//! Job schedulers: whoever takes an iteration creates the next one.
//!
//! When that is, is known here for patterns, and in the script for intervals; the script creates it only while the
//! scheduler still stands at the iteration that was taken, so any number of takers create it once.

use qfleet_model::time::WallTime;
use serde_json::Value;

use super::spread::spread;
use crate::node::cron::Pattern;
use crate::node::following::digest;
use crate::node::row;
use crate::node::turn::Taken;

/// For the schedule script: the scheduler, number of the new iteration, its date or '' for one after the interval, the
/// interval or 0, and, if this may be a repeatable job of an old producer, start of the id and date of its next one, else
/// twice ''. None when the job is of no scheduler, or its last.
pub(super) fn following(taken: &Taken, now: WallTime) -> Option<Vec<String>> {
    let scheduler = taken.row.schedule.clone()?;
    let opts = &taken.row.opts;
    let rule = opts.get("repeat")?;
    let number = |of: &Value, name: &str| of.get(name).and_then(row::number).map(|number| number as i64);
    let count = number(rule, "count").unwrap_or_default().saturating_add(1);
    if number(rule, "limit").is_some_and(|limit| count > limit) {
        return None;
    }
    let end = number(rule, "endDate");
    if end.is_some_and(|end| now.as_millis() > end) {
        return None;
    }
    let last = now.as_millis().max(number(opts, "prevMillis").unwrap_or_default());
    let due = match rule.get("pattern").and_then(Value::as_str) {
        Some(pattern) => {
            let base = last.max(number(rule, "startDate").unwrap_or_default());
            let zone = rule.get("tz").and_then(Value::as_str);
            match Pattern::new(&spread(pattern, &scheduler), zone) {
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
    let old = old_id(taken, &scheduler);
    let old_due = due.or_else(|| every.map(|every| (last.div_euclid(every) + 1).saturating_mul(every)));
    let (old, old_due) = old.zip(old_due).map_or_else(Default::default, |(id, due)| (id, due.to_string()));
    let count = u64::try_from(count).unwrap_or(1).to_string();
    let due = due.map(|due| due.to_string()).unwrap_or_default();
    Some(vec![scheduler, count, due, every.unwrap_or_default().to_string(), old, old_due])
}

/// Start of the id of what follows, where the schedule's key is `name:id:end:zone:rule`, as old producers wrote it.
fn old_id(taken: &Taken, key: &str) -> Option<String> {
    if key.matches(':').count() < 4 {
        return None;
    }
    let data: Value = serde_json::from_slice(&taken.row.data).unwrap_or_default();
    let id = match data.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if id.as_f64() != Some(0.0) => id.to_string(),
        _ => String::new(),
    };
    Some(format!("repeat:{}", digest(&format!("{}{id}{}", taken.row.name, digest(key)))))
}
