//! Whose child may be started now. A slot that wants one waits here until nothing speaks against it; whoever asks for
//! its end in the meantime gets it at once, as there is nothing to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qfleet_model::process::{ProcessEvent, ProcessState, Wanted};
use serde::{Deserialize, Serialize};

use super::slot::Slot;
use super::{Fleet, Now, SlotId};

/// Workers that have been started and are not up yet, over the whole fleet: each of them opens connections.
const NOT_UP_AT_ONCE: usize = 50;

/// Why a child is not started yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hindrance {
    /// For people.
    pub(super) words: Arc<str>,
    /// What will end it.
    pub(super) until: Until,
}

/// What ends a hindrance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Until {
    /// Others that are on their way come up.
    Room,
    /// What an earlier daemon has left of it ends, or is killed.
    EarlierGone,
    /// What it depends on comes up; that is on its way, or tried again.
    DependencyUp,
    /// Nothing of itself: what it depends on is at rest.
    SomebodyActs,
}

impl Fleet {
    /// Starts the children that nothing speaks against, in the order in which they were asked for.
    pub(super) fn admit(&mut self, now: Now) {
        let waiting = std::mem::take(&mut self.waiting);
        let not_up = self.slots.values().filter(|slot| is_coming_up(slot)).count();
        let mut coming_up =
            not_up - waiting.iter().filter(|id| self.slots.get(id).is_some_and(is_coming_up)).count();
        let mut unmet = BTreeMap::new();
        for id in waiting {
            let Some(slot) = self.slots.get(&id) else { continue };
            match slot.state {
                ProcessState::Spawning { wanted: Wanted::Up, .. } => {
                    let unmet =
                        unmet.entry(slot.group).or_insert_with(|| self.unmet_dependency(slot.group)).clone();
                    let hindrance =
                        left_earlier(slot, &self.earlier).or(unmet).or_else(|| no_room(slot, coming_up));
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

    fn note_hindrance(&mut self, id: SlotId, hindrance: Option<Hindrance>) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.hindrance != hindrance
        {
            slot.hindrance = hindrance;
            slot.seen = None;
            self.touched.insert(slot.group);
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

/// Whether something of it lives that an earlier daemon has started.
fn left_earlier(slot: &Slot, earlier: &BTreeSet<String>) -> Option<Hindrance> {
    earlier.contains(&*slot.label).then(|| Hindrance {
        words: Arc::from("waiting for what an earlier daemon has left of it to end"),
        until: Until::EarlierGone,
    })
}

/// Whether too many others are not up yet.
fn no_room(slot: &Slot, coming_up: usize) -> Option<Hindrance> {
    let full = slot.is_worker() && coming_up >= NOT_UP_AT_ONCE;
    full.then(|| Hindrance {
        words: Arc::from(format!("waiting for its turn: {coming_up} others are not up yet")),
        until: Until::Room,
    })
}
