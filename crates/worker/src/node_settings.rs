//! From what the manifest says of a queue to what a driver is opened with. Called where a worker opens its queues,
//! and where a dead worker's are opened again.

use qfleet_manifest::queue::{self, Lane, NodeRules};
use qfleet_queue::{Keep, NodeSettings, RateLimit};

/// Settings for a driver that takes jobs. A limit of starts is for queues of every family.
pub(crate) fn of_lane(lane: &Lane) -> NodeSettings {
    let limit = |limit: queue::RateLimit| RateLimit { max: limit.max, per: limit.per };
    NodeSettings { rate_limit: lane.rate_limit.map(limit), ..of_rules(lane.node.as_ref()) }
}

/// Settings for a driver that takes nothing; queues of other families than Node's have none.
pub(crate) fn of_rules(rules: Option<&NodeRules>) -> NodeSettings {
    let Some(rules) = rules else { return NodeSettings::default() };
    NodeSettings {
        lock_duration: rules.lock_duration,
        stalled_interval: rules.stalled_interval,
        max_stalled: rules.max_stalled,
        keep_completed: rules.keep_completed.map(keep),
        keep_failed: rules.keep_failed.map(keep),
        metrics: rules.metrics,
        accept_version: rules.accept_version,
        presence: rules.presence,
        ..NodeSettings::default()
    }
}

fn keep(keep: queue::Keep) -> Keep {
    Keep { count: keep.count, age: keep.age }
}
