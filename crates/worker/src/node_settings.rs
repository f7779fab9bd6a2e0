//! From what the manifest says of a BullMQ queue to what a driver is opened with. Called where a worker opens its queues,
//! and where a dead worker's are opened again.

use qfleet_manifest::queue::{self, NodeRules};
use qfleet_queue::{Keep, NodeSettings, RateLimit};

/// Settings for the driver; queues of other families have none.
pub(crate) fn of(rules: Option<&NodeRules>) -> NodeSettings {
    let Some(rules) = rules else { return NodeSettings::default() };
    NodeSettings {
        lock_duration: rules.lock_duration,
        stalled_interval: rules.stalled_interval,
        max_stalled: rules.max_stalled,
        keep_completed: rules.keep_completed.map(keep),
        keep_failed: rules.keep_failed.map(keep),
        rate_limit: rules.rate_limit.map(|limit| RateLimit { max: limit.max, per: limit.per }),
        accept_version: rules.accept_version,
        ..NodeSettings::default()
    }
}

fn keep(keep: queue::Keep) -> Keep {
    Keep { count: keep.count, age: keep.age }
}
