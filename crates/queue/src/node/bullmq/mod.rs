//! BullMQ 5 and 6.

mod job;
mod schedule;
mod sleeper;
mod spread;

use qfleet_model::job::Format;
use serde_json::{Map, Value};

use super::library::{Library, Scripts, script, scripts};

/// The library.
pub(crate) static BULLMQ: Library = Library {
    format: Format::Bullmq,
    scripts,
    sign: "meta",
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

fn complete(opts: &mut Map<String, Value>, _now: i64) {
    opts.entry("attempts").or_insert_with(|| Value::from(0));
}

fn refusal(name: &str, text: &str) -> String {
    let Some(version) = text.strip_prefix("version ") else {
        return format!("queue `{name}` cannot be worked: {text}");
    };
    if version == "bull" {
        return format!(
            "queue `{name}` belongs to Bull, whose jobs a BullMQ worker would spoil: it is left alone; use `driver: bull` for it"
        );
    }
    let major = version.split_once(':').and_then(|(_, number)| number.split('.').next()).unwrap_or("N");
    format!(
        "queue `{name}` belongs to `{version}`, and only BullMQ 5 and 6 are tested: it is left alone; set \
         `accept-version: {major}` to work it all the same"
    )
}
