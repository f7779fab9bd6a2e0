//! Bull 3.22 and later, and 4.

mod job;
mod md5;
mod schedule;
mod sleeper;

use qfleet_model::job::Format;

use super::library::{Library, Scripts};

/// A script, after what all of them share.
macro_rules! script {
    ($name:literal) => {
        $crate::redis::Script::new(concat!(include_str!("lua/blocks.lua"), include_str!($name)))
    };
}

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
    if text == "foreign" {
        return format!(
            "queue `{name}` belongs to BullMQ, whose jobs a Bull worker would spoil: it is left alone; use `driver: bullmq` \
             for it"
        );
    }
    format!("queue `{name}` cannot be worked: {text}")
}
