//! Sleeping on the markers of queues: a member without a date wakes at once, one with a date then.

use qfleet_model::time::WallTime;
use redis::Cmd;

use crate::error::QueueError;
use crate::node::library::Bed;
use crate::redis::{Blocked, Link, News, Reply, Sleeper, Wakeups};

/// Wakes when a marker appears.
pub(super) fn sleeper(bed: Bed<'_>) -> Result<Sleeper, QueueError> {
    let (link, markers) =
        (Link::for_blocking(bed.redis)?, bed.bases.iter().map(|base| marker(base)).collect());
    Ok(Sleeper::new(Blocked::<Markers>::new(link, bed.commands, markers, bed.name)))
}

/// Why nothing wakes the worker of this queue.
pub(super) fn sleepless(base: &str) -> String {
    format!("`{}` is no sorted set, so nothing wakes the workers: delete it", marker(base))
}

fn marker(base: &str) -> String {
    format!("{base}marker")
}

/// Sorted sets with a member `0` for jobs that wait, and `1`, scored by its date, for delayed ones. One that was taken
/// counts until a turn has asked its queue.
#[derive(Debug)]
struct Markers;

impl Wakeups for Markers {
    const COMMAND: &'static str = "BZPOPMIN";
    const KIND: &'static str = "zset";

    fn read(popped: Reply) -> (String, Option<WallTime>) {
        let [marker, _, date] = popped.fields();
        // Rounded up: a date one millisecond early would be looked at twice.
        let date = date.score().unwrap_or_default().ceil() as i64;
        (marker.text(), Some(WallTime::from_millis(date)))
    }

    fn give_back(marker: &str, unused: News) -> Cmd {
        let mut command = redis::cmd("ZADD");
        command.arg(marker).arg("NX");
        if unused.times > 0 {
            command.arg(0).arg("0");
        }
        if let Some(due) = unused.due {
            command.arg(due.as_millis()).arg("1");
        }
        command
    }
}
