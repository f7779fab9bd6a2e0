//! What tells one of Node's libraries from the other.

use qfleet_manifest::queue::RedisSettings;
use qfleet_model::job::Format;
use qfleet_model::time::WallTime;

use serde_json::{Map, Value};

use super::row::Row;
use super::turn::Taken;
use crate::error::QueueError;
use crate::redis::{Link, Reply, Script, Sleeper};

/// One library, as the shared driver sees it.
#[derive(Debug)]
pub(crate) struct Library {
    /// Its family.
    pub(crate) format: Format,
    /// Its scripts. All of them read and answer in the same form; what that is, is written at the head of each.
    pub(crate) scripts: fn() -> Scripts,
    /// A key that every queue with jobs to look at has.
    pub(crate) sign: &'static str,
    /// Options of a new job that take more than adding it.
    pub(crate) unpushable: &'static [&'static str],
    /// The library takes no number above this.
    pub(crate) highest_priority: u64,
    /// Why it takes no new job of this id.
    pub(crate) bad_id: fn(&str) -> Option<&'static str>,
    /// Writes into the options of a new job what the library itself writes there, at this date (ms), and as it names it.
    pub(crate) complete: fn(&mut Map<String, Value>, i64),
    /// Reads a job's hash as its scripts hand it out.
    pub(crate) row: fn(Reply) -> Row,
    /// Why a queue is not worked, from its name and what the turn script said of it.
    pub(crate) refusal: fn(&str, &str) -> String,
    /// What its schedule script needs to know to create what follows a taken job, if that is of a schedule.
    pub(crate) following: fn(&Taken, WallTime) -> Option<Vec<String>>,
    /// What idle workers sleep on.
    pub(crate) sleeper: fn(Bed<'_>) -> Result<Sleeper, QueueError>,
    /// Why nothing wakes the workers of a queue, from the start of its keys.
    pub(crate) sleepless: fn(&str) -> String,
}

/// Where idle workers of some queues sleep.
pub(crate) struct Bed<'a> {
    /// The server.
    pub(crate) redis: &'a RedisSettings,
    /// For what does not sleep.
    pub(crate) commands: Link,
    /// Start of each queue's keys.
    pub(crate) bases: Vec<String>,
    /// What the connection is to be called.
    pub(crate) name: Option<String>,
}

/// The scripts of a library.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) turn: Script,
    pub(crate) renew: Script,
    pub(crate) find: Script,
    pub(crate) push: Script,
    pub(crate) pause: Script,
    pub(crate) depth: Script,
    pub(crate) look: Script,
    pub(crate) failed: Script,
    pub(crate) schedule: Script,
    pub(crate) remark: Script,
}

/// A script of a library, after what all scripts of both libraries share. Paths are those of the file that asks, which is in
/// the library's folder.
macro_rules! script {
    ($($part:literal),+) => {
        $crate::redis::Script::new(concat!(
            include_str!("../lua/base.lua"),
            include_str!("lua/blocks.lua"),
            $(include_str!($part)),+
        ))
    };
}
pub(crate) use script;

/// All scripts of the library in whose folder this is asked.
macro_rules! scripts {
    () => {
        $crate::node::library::Scripts {
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
    };
}
pub(crate) use scripts;
