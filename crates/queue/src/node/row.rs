//! From a job's hash to a [`Job`].

use qfleet_model::job::{Format, History, Job, JobLimits};
use qfleet_model::time::WallTime;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::Unreadable;
use crate::redis::Reply;

/// A job's hash, read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    /// Options that cannot be read count as not given.
    pub(crate) opts: Value,
    /// Its creation (ms), as it is written.
    pub(crate) timestamp: String,
    /// Attempts that ended, by workers of any version.
    pub(crate) ended: u32,
    /// Deliveries before this one, where the library counts them.
    pub(crate) deliveries: Option<u32>,
    /// What shows, while no lock does, that nobody has started it since.
    pub(crate) proof: String,
    pub(crate) stalls: u32,
    /// The schedule it comes from.
    pub(crate) schedule: Option<String>,
    pub(crate) failed_before: bool,
    pub(crate) limits: JobLimits,
    pub(crate) traceparent: Option<String>,
    pub(crate) tracestate: Option<String>,
    /// Why nobody but the library itself may run it.
    pub(crate) unreadable: Option<Unreadable>,
}

/// Options as they are written.
pub(crate) fn options(text: Reply) -> Value {
    text.bytes().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Data byte for byte; where there are none, what the libraries take for that.
pub(crate) fn data(data: Reply) -> Vec<u8> {
    data.bytes().filter(|data| !data.is_empty()).unwrap_or_else(|| b"{}".to_vec())
}

/// Why these data cannot be handed out, if they are no JSON.
pub(crate) fn no_json(data: &[u8]) -> Option<String> {
    let problem = serde_json::from_slice::<&RawValue>(data).err()?;
    Some(format!("its `data` is not valid JSON: {problem}"))
}

/// A number among options, or a text of one: those often come out of an application's environment, and JavaScript reckons
/// with them all the same.
pub(crate) fn number(option: &Value) -> Option<f64> {
    let number = match option {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.filter(|number: &f64| number.is_finite())
}

/// So many attempts; the last one may be begun while fewer than that have been made.
pub(crate) fn attempts(option: f64) -> u32 {
    option.ceil().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Whose job it is.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) format: Format,
    pub(super) prefix: &'a str,
    pub(super) queue: &'a str,
}

impl Row {
    /// This attempt, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.ended.saturating_add(1)
    }

    /// The job. `notes` are what was noted beside it.
    pub(super) fn job(self, id: &str, from: Origin<'_>, notes: Reply) -> Result<Job, Unreadable> {
        let attempt = self.attempt();
        if let Some(unreadable) = self.unreadable {
            return Err(unreadable);
        }
        let [snoozes, exceptions, first, previous, uncounted] = notes.fields();
        let previous = Some(previous.text()).filter(|text| !text.is_empty());
        // Nobody notes how a stalled delivery ended.
        let stalled = self.stalls > 0 && !self.failed_before;
        let history = History {
            deliveries: self.deliveries.unwrap_or_else(|| {
                let uncounted = uncounted.number::<i32>().unwrap_or_default();
                self.ended.saturating_add(self.stalls).saturating_add_signed(uncounted)
            }),
            snoozes: snoozes.number().unwrap_or_default(),
            first_delivery: first.number::<i64>().map(WallTime::from_millis),
            crashes: self.stalls,
            exceptions: exceptions.number::<u32>().unwrap_or_default(),
            previous: previous.or_else(|| stalled.then(|| "crash".to_owned())),
        };
        Ok(Job {
            format: from.format,
            prefix: from.prefix.to_owned(),
            queue: from.queue.to_owned(),
            id: id.to_owned(),
            identity_of: id.to_owned(),
            created_at: self.timestamp.parse().ok().map(WallTime::from_millis),
            created: self.timestamp,
            name: self.name,
            attempt,
            limits: self.limits,
            payload: self.data,
            history,
            traceparent: self.traceparent,
            tracestate: self.tracestate,
            tags: Vec::new(),
        })
    }
}
