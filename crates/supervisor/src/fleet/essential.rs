//! Groups without which the others are of no use: when one fails for good, or has done its work, the fleet ends.

use qfleet_model::process::{ProcessState, said};

use super::group::GroupId;
use super::slot::Slot;
use super::{Fleet, Now};

/// Why the fleet ends with a group.
enum Why {
    /// This process failed for good.
    Failed(String),
    /// All its processes ended as expected, and are not started again.
    Done,
}

impl Fleet {
    /// Ends the fleet when this group is essential and over.
    pub(super) fn look_at_essential(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get(&id) else { return };
        if !group.spec.settings.process.essential || group.removed || self.phase.is_ending() {
            return;
        }
        let slots: Vec<&Slot> = group.slots.iter().filter_map(|id| self.slots.get(id)).collect();
        let name = group.spec.settings.name.clone();
        match over(&slots) {
            None => {}
            Some(Why::Failed(why)) => {
                let text = format!("essential, and has failed for good: {why}; the fleet ends");
                self.log(true, name.into(), None, text);
                self.end_without(true, now);
            }
            Some(Why::Done) => {
                self.log(false, name.into(), None, "essential, and has done its work: the fleet ends");
                self.end_without(false, now);
            }
        }
    }
}

/// One that failed is enough; that all is done takes all of them. Workers that wait until one of them has proven itself have
/// not failed for good.
fn over(slots: &[&Slot]) -> Option<Why> {
    let failed = slots.iter().find_map(|slot| match &slot.state {
        ProcessState::Fatal { .. } if slot.given_up => None,
        ProcessState::Fatal { why, .. } => Some(format!("`{}` {why}", slot.label)),
        ProcessState::Exited { exit, expected: false } => {
            Some(format!("`{}` ended {}", slot.label, said(exit)))
        }
        ProcessState::Exited { expected: true, .. }
        | ProcessState::Stopped
        | ProcessState::Spawning { .. }
        | ProcessState::Starting { .. }
        | ProcessState::Running { .. }
        | ProcessState::Stopping { .. }
        | ProcessState::Backoff { .. } => None,
    });
    let is_done = |slot: &&Slot| matches!(slot.state, ProcessState::Exited { expected: true, .. });
    match failed {
        Some(why) => Some(Why::Failed(why)),
        None if !slots.is_empty() && slots.iter().all(is_done) => Some(Why::Done),
        None => None,
    }
}
