//! Bull 3.22 and later, and 4.

mod job;
mod schedule;
mod sleeper;

use qfleet_model::job::Format;
use serde_json::{Map, Value};

use super::library::{Library, Scripts, script, scripts};
use super::options;

/// The library.
pub(crate) static BULL: Library = Library {
    format: Format::Bull,
    scripts,
    sign: "failed",
    unpushable: &["repeat", "debounce"],
    // In a sorted set every number up to here is exact.
    highest_priority: 1 << 53,
    bad_id: options::kept_for_the_library,
    complete,
    row: job::row,
    refusal,
    following: schedule::following,
    sleeper: sleeper::sleeper,
    sleepless: sleeper::sleepless,
};

fn scripts() -> Scripts {
    scripts!()
}

fn complete(opts: &mut Map<String, Value>, now: i64) {
    for (name, value) in [("attempts", 1), ("delay", 0)] {
        opts.entry(name).or_insert_with(|| Value::from(value));
    }
    opts.insert("timestamp".into(), now.into());
}

fn refusal(name: &str, text: &str) -> String {
    if text == "foreign" {
        return format!(
            "queue `{name}` belongs to BullMQ, whose jobs a Bull worker would spoil: it is left alone; use `driver: bullmq` \
             for it"
        );
    }
    format!("queue `{name}` cannot be worked: {text}")
}
