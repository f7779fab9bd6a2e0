//! Bull 3.22 and later, and 4.

mod job;
mod schedule;
mod sleeper;

use qfleet_model::job::Format;

use super::library::{Library, Scripts, script, scripts};

/// The library.
pub(crate) static BULL: Library = Library {
    format: Format::Bull,
    scripts,
    row: job::row,
    refusal,
    following: schedule::following,
    sleeper: sleeper::sleeper,
    sleepless: sleeper::sleepless,
};

fn scripts() -> Scripts {
    scripts!()
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
