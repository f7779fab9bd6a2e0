//! BullMQ 5 and 6.

mod job;
mod schedule;
mod sleeper;
mod spread;

use qfleet_model::job::Format;
use serde_json::{Map, Value};

use super::library::{Library, Scripts, script, scripts};
use super::options;

/// The library.
pub(crate) static BULLMQ: Library = Library {
    format: Format::Bullmq,
    scripts,
    sign: "meta",
    unpushable: &[
        "repeat",
        "deduplication",
        "debounce",
        "de",
        "parent",
        "failParentOnFailure",
        "continueParentOnFailure",
        "ignoreDependencyOnFailure",
        "removeDependencyOnFailure",
        "fpof",
        "cpof",
        "idof",
        "rdof",
    ],
    highest_priority: 1 << 21,
    bad_id,
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
    // That is now, and stands beside the options.
    opts.remove("timestamp");
    if let Some(kept) = opts.remove("keepLogs") {
        opts.insert("kl".into(), kept);
    }
    if let Some(Value::Object(mut telemetry)) = opts.remove("telemetry") {
        for (name, stored) in [("metadata", "tm"), ("omitContext", "omc")] {
            opts.extend(telemetry.remove(name).map(|value| (stored.to_owned(), value)));
        }
    }
}

fn bad_id(id: &str) -> Option<&'static str> {
    let parts = id.split(':').count();
    let parted = parts > 1 && parts != 3;
    options::kept_for_the_library(id).or_else(|| parted.then_some("it must not contain `:`"))
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
