//! Job schedulers: whoever takes an iteration creates the next one.
//!
//! When that is, is known here for patterns, and in the script for intervals; the script creates it only while the
//! scheduler still stands at the iteration that was taken, so any number of takers create it once.

use qfleet_model::time::WallTime;
use serde_json::Value;

use super::Bullmq;
use super::turn::Taken;
use crate::clock;
use crate::error::QueueError;
use crate::node::cron::Pattern;
use crate::redis::Call;

/// What follows a taken iteration.
#[derive(Debug, PartialEq)]
pub(super) struct Iteration {
    queue: usize,
    id: String,
    scheduler: String,
    /// Which one it is, from 1.
    count: u64,
    /// Due then; `None` is after the interval.
    due: Option<i64>,
    every: Option<i64>,
}

impl Iteration {
    /// None when the job is of no scheduler, or its last.
    pub(super) fn after(taken: &Taken, now: WallTime) -> Option<Self> {
        let scheduler = taken.row.scheduler.clone()?;
        let opts = &taken.row.opts;
        let rule = opts.get("repeat")?;
        let number =
            |of: &Value, name: &str| of.get(name).and_then(Value::as_f64).map(|number| number as i64);
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
        Some(Self { queue: taken.queue, id: taken.id.clone(), scheduler, count, due, every })
    }
}

impl Bullmq {
    /// Creates what follows, once each.
    pub(super) async fn go_on_with_schedules(&self, next: Vec<Iteration>) -> Result<(), QueueError> {
        if next.is_empty() {
            return Ok(());
        }
        let mut call = Call::default();
        call.own(clock::now().as_millis());
        for one in next {
            let name = self.lanes.name(one.queue);
            call.key(self.keys.meta(name)).own(self.keys.base(name)).own(one.id).own(one.scheduler);
            call.own(one.count).own(one.due.map(|due| due.to_string()).unwrap_or_default());
            call.own(one.every.unwrap_or_default());
        }
        for problem in self.link.run(&self.scripts.schedule, &call).await?.list() {
            tracing::error!(problem = problem.text(), "a schedule cannot go on");
        }
        Ok(())
    }
}
