//! How long ending a fleet may take: one answer for `check`, for whoever starts the daemon, and for people.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use qfleet_model::process::WORKER_MARGIN;

use crate::settings::{Group, Manifest, Work};

/// When all processes are gone, giving back the jobs of those that were killed may take this much longer.
pub const RECOVERY_GRACE: Duration = Duration::from_secs(5);

/// When the fleet has ended, requests under way may take this much longer before the daemon is gone.
pub const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The longest time from the wish to end until the daemon has ended: `shutdown-timeout`, or without it the sum over the
/// waves of what the slowest group of each may take.
#[must_use]
pub fn longest_stop(manifest: &Manifest) -> Duration {
    manifest.overall.shutdown_timeout.unwrap_or_else(|| longest_of(&manifest.groups))
}

/// The same as the groups' own limits have it.
#[must_use]
pub fn longest_of(groups: &[Group]) -> Duration {
    let orders = orders(groups);
    let mut steps: BTreeMap<(i32, usize), Duration> = BTreeMap::new();
    for (group, order) in groups.iter().zip(orders) {
        let longest = steps.entry(order).or_default();
        *longest = (*longest).max(longest_of_group(group));
    }
    steps.into_values().fold(Duration::ZERO, Duration::saturating_add)
}

/// When each group ends: in which wave, that of its priority or of what it depends on when this one would be gone earlier;
/// and inside it after how many others, one after the other, that depend on it.
fn orders(groups: &[Group]) -> Vec<(i32, usize)> {
    let places: HashMap<&str, usize> =
        groups.iter().enumerate().map(|(at, group)| (group.name.as_str(), at)).collect();
    let depends = |(at, group): (usize, &Group)| {
        let on = group.process.depends_on.iter().filter_map(|name| places.get(name.as_str()).copied());
        on.map(move |on| (at, on)).collect::<Vec<_>>()
    };
    let pairs: Vec<(usize, usize)> = groups.iter().enumerate().flat_map(depends).collect();
    let mut orders: Vec<(i32, usize)> = groups.iter().map(|group| (group.process.priority, 0)).collect();
    // As many rounds as the longest chain; with a circle, which is refused elsewhere, no more than there are groups.
    for _ in 0..groups.len() {
        let before = orders.clone();
        for (dependent, on) in &pairs {
            orders[*dependent].0 = orders[*dependent].0.max(orders[*on].0);
            orders[*on].1 = orders[*on].1.max(orders[*dependent].1 + 1);
        }
        if orders == before {
            break;
        }
    }
    orders
}

/// What one group may take.
fn longest_of_group(group: &Group) -> Duration {
    let process = &group.process;
    match group.work {
        Work::Queue(_) | Work::Pool(_) => {
            let cut_off = process.stop_wait.saturating_add(process.kill_after);
            cut_off.saturating_add(WORKER_MARGIN).saturating_add(RECOVERY_GRACE)
        }
        Work::Program { .. } | Work::Schedule(_) => process.stop_wait,
    }
}
