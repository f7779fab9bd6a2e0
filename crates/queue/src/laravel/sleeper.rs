//! Sleeping on the notify lists of queues: each element is one wake-up.

use qfleet_model::time::WallTime;
use redis::Cmd;

use crate::redis::{News, Reply, Wakeups};

/// Lists, as Laravel's own blocking pop knows them; an element that was taken counts until a turn has used it.
#[derive(Debug)]
pub(super) struct NotifyLists;

impl Wakeups for NotifyLists {
    const COMMAND: &'static str = "BLPOP";
    const KIND: &'static str = "list";

    fn read(popped: Reply) -> (String, Option<WallTime>) {
        let [list] = popped.fields();
        (list.text(), None)
    }

    fn give_back(list: &str, unused: News) -> Cmd {
        let mut command = redis::cmd("RPUSH");
        command.arg(list);
        for _ in 0..unused.times {
            command.arg("1");
        }
        command
    }
}
