//! Repeatable jobs: what follows a taken one.

use qfleet_model::time::WallTime;

use crate::node::turn::Taken;

/// For the schedule script: the repeat key, the id of the new job, its date (ms), its options as JSON. None when the job is
/// not repeated, or is the last.
pub(super) fn following(_taken: &Taken, _now: WallTime) -> Option<Vec<String>> {
    None
}
