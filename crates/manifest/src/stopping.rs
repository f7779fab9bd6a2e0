//! How long ending a fleet may take: one answer for `check`, for whoever starts the daemon, and for people.

use std::collections::BTreeMap;
use std::time::Duration;

use qfleet_model::process::WORKER_MARGIN;

use crate::settings::{Group, Manifest, Work};

/// When all processes are gone, giving back the jobs of those that were killed may take this much longer.
pub const RECOVERY_GRACE: Duration = Duration::from_secs(5);

/// The longest time from the wish to end until the daemon has ended: `shutdown-timeout`, or without it the sum over the
/// waves of what the slowest group of each may take.
#[must_use]
pub fn longest_stop(manifest: &Manifest) -> Duration {
    manifest.overall.shutdown_timeout.unwrap_or_else(|| longest_of(&manifest.groups))
}

/// The same as the groups' own limits have it.
#[must_use]
pub fn longest_of(groups: &[Group]) -> Duration {
    let mut waves: BTreeMap<i32, Duration> = BTreeMap::new();
    for group in groups {
        let wave = waves.entry(group.process.priority).or_default();
        *wave = (*wave).max(longest_of_group(group));
    }
    waves.into_values().fold(Duration::ZERO, Duration::saturating_add)
}

/// What one group may take.
fn longest_of_group(group: &Group) -> Duration {
    let process = &group.process;
    match group.work {
        Work::Queue(_) | Work::Pool(_) => {
            let cut_off = process.stop_wait.saturating_add(process.kill_after);
            cut_off.saturating_add(WORKER_MARGIN).saturating_add(RECOVERY_GRACE)
        }
        Work::Program { .. } => process.stop_wait,
    }
}
