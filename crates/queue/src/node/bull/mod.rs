//! Bull 3.22 and later, and 4.

mod job;
mod md5;
mod schedule;
mod sleeper;

use qfleet_model::job::Format;
use serde_json::{Map, Value};

use super::library::{Library, Scripts};

/// A script of this library, after what all of both share.
macro_rules! script {
    ($($part:literal),+) => {
        $crate::redis::Script::new(concat!(
            include_str!("../lua/base.lua"),
            include_str!("lua/blocks.lua"),
            $(include_str!($part)),+
        ))
    };
}

/// The library.
pub(crate) static BULL: Library = Library {
    format: Format::Bull,
    scripts,
    sign: "failed",
    complete,
    row: job::row,
    refusal,
    following: schedule::following,
    sleeper: sleeper::sleeper,
    sleepless: sleeper::sleepless,
};

fn scripts() -> Scripts {
    Scripts {
        turn: script!("../lua/turn_start.lua", "lua/turn.lua", "../lua/turn_end.lua"),
        renew: script!("../lua/renew.lua"),
        find: script!("../lua/find.lua"),
        push: script!("lua/push.lua"),
        pause: script!("lua/pause.lua"),
        depth: script!("lua/depth.lua"),
        look: script!("../lua/look.lua"),
        failed: script!("lua/failed.lua"),
        schedule: script!("lua/schedule.lua"),
        remark: script!("lua/remark.lua"),
    }
}

fn complete(opts: &mut Map<String, Value>, now: i64) {
    for (name, value) in [("attempts", 1), ("delay", 0), ("timestamp", now)] {
        opts.entry(name).or_insert_with(|| Value::from(value));
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
