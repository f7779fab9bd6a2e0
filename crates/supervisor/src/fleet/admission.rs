//! Whose child may be started now. A slot that wants one waits here until nothing speaks against it; whoever asks for
//! its end in the meantime gets it at once, as there is nothing to end.

use std::sync::Arc;

use qfleet_model::process::{ProcessEvent, ProcessState, Wanted};

use super::slot::Slot;
use super::{Fleet, Now, SlotId};

/// Workers that have been started and are not up yet, over the whole fleet: each of them opens connections.
const NOT_UP_AT_ONCE: usize = 50;

impl Fleet {
    /// Starts the children that nothing speaks against, in the order in which they were asked for.
    pub(super) fn admit(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.waiting);
        let not_up = self.slots.values().filter(|slot| is_coming_up(slot)).count();
        let mut coming_up =
            not_up - waiting.iter().filter(|id| self.slots.get(id).is_some_and(is_coming_up)).count();
        for id in waiting {
            let Some(slot) = self.slots.get(&id) else { continue };
            match slot.state {
                ProcessState::Spawning { wanted: Wanted::Up, .. } => {
                    let hindrance = hindrance(slot, coming_up);
                    if hindrance.is_some() {
                        self.waiting.push(id);
                    } else {
                        coming_up += usize::from(is_coming_up(slot));
                        self.launch(id);
                    }
                    self.note_hindrance(id, hindrance);
                }
                ProcessState::Spawning { wanted: Wanted::Gone { .. }, .. } => {
                    self.note_hindrance(id, None);
                    self.tell(id, ProcessEvent::Recalled, now);
                }
                _ => {}
            }
        }
    }

    fn note_hindrance(&mut self, id: SlotId, hindrance: Option<Arc<str>>) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.hindrance != hindrance
        {
            slot.hindrance = hindrance;
            slot.seen = None;
            self.changed = true;
        }
    }
}

/// Whether it will open connections, and has not said that it is up. One that waits for an earlier worker may do so for
/// as long as that one's jobs take, and is not counted; nor is one that has failed and only has to end.
fn is_coming_up(slot: &Slot) -> bool {
    let starts = matches!(
        slot.state,
        ProcessState::Spawning { .. } | ProcessState::Starting { old_worker: None, failure: None, .. }
    );
    starts && slot.is_worker()
}

/// What speaks against starting the slot's child now, in words.
fn hindrance(slot: &Slot, coming_up: usize) -> Option<Arc<str>> {
    let full = slot.is_worker() && coming_up >= NOT_UP_AT_ONCE;
    full.then(|| Arc::from(format!("waiting for its turn: {coming_up} others are not up yet")))
}
