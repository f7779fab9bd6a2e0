//! BullMQ 5 and 6.

mod failed;
mod job;
mod schedule;
mod sleeper;
mod spread;

use qfleet_model::job::Format;

pub(crate) use self::failed::BullmqFailedJobs;
use super::library::{Library, Scripts};

/// A script, after what all of them share.
macro_rules! script {
    ($name:literal) => {
        $crate::redis::Script::new(concat!(include_str!("lua/blocks.lua"), include_str!($name)))
    };
}
use script;

/// The library.
pub(crate) static BULLMQ: Library = Library {
    format: Format::Bullmq,
    scripts,
    row: job::row,
    refusal,
    following: schedule::following,
    sleeper: sleeper::sleeper,
    sleepless: sleeper::sleepless,
};

fn scripts() -> Scripts {
    Scripts {
        turn: script!("lua/turn.lua"),
        renew: script!("lua/renew.lua"),
        find: script!("lua/find.lua"),
        push: script!("lua/push.lua"),
        pause: script!("lua/pause.lua"),
        depth: script!("lua/depth.lua"),
        look: script!("lua/look.lua"),
        schedule: script!("lua/schedule.lua"),
        remark: script!("lua/remark.lua"),
    }
}

fn refusal(name: &str, text: &str) -> String {
    let Some(version) = text.strip_prefix("version ") else {
        return format!("queue `{name}` cannot be worked: {text}");
    };
    let major = version.split_once(':').and_then(|(_, number)| number.split('.').next()).unwrap_or("N");
    format!(
        "queue `{name}` belongs to `{version}`, and only BullMQ 5 and 6 are tested: it is left alone; set \
         `accept-version: {major}` to work it all the same"
    )
}
