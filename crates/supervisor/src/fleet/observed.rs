//! What the fleet makes of what others have found out.

use std::sync::Arc;

use qfleet_manifest::settings::Group as GroupSettings;
use qfleet_model::link::Recycle;
use qfleet_model::notice::Notice;
use qfleet_model::observation::{Observation, ProbeTrouble, Question};
use qfleet_model::process::{Pid, ProcessEvent, ProcessState};
use qfleet_model::rollout::room;
use qfleet_model::snapshot::StateWord;

use super::group::GroupId;
use super::slot::Slot;
use super::{Fleet, Now, Owner, SlotId};

impl Fleet {
    pub(super) fn observed(&mut self, observation: &Observation, now: Now) {
        match observation {
            Observation::Backlog { group, found } => self.backlog_found(group, found, now),
            Observation::Probed { process, pid, question, trouble } => {
                let Some(slot) = self.slot_of(process, *pid) else { return };
                match question {
                    Question::Ready => self.readiness(slot, trouble.as_ref(), now),
                    Question::Healthy => self.health(slot, trouble.as_ref()),
                }
            }
            Observation::Notified { pid, notice } => {
                if let Some(Owner::Slot(slot)) = self.children.get(pid) {
                    self.notified(*slot, notice, now);
                }
            }
            Observation::Memory { process, pid, bytes } => {
                if let Some(slot) = self.slot_of(process, *pid) {
                    self.memory(slot, *pid, *bytes);
                }
            }
        }
    }

    /// Settings of a process whose child this is, and its number; it may have ended since somebody looked.
    #[must_use]
    pub fn settings_of(&self, process: &str, pid: Pid) -> Option<(Arc<GroupSettings>, u32)> {
        let slot = self.slots.get(&self.slot_of(process, pid)?)?;
        Some((slot.spec.settings.clone(), slot.number()))
    }

    /// The slot in which this child lives; it may have ended since somebody looked.
    fn slot_of(&self, process: &str, pid: Pid) -> Option<SlotId> {
        let lives_there = |slot: &&Slot| &*slot.label == process && slot.state.pid() == Some(pid);
        self.slots.values().find(lives_there).map(|slot| slot.id)
    }

    fn readiness(&mut self, id: SlotId, trouble: Option<&ProbeTrouble>, now: Now) {
        match trouble {
            None => self.ready(id, now),
            Some(trouble) => self.not_ready(id, &trouble.why),
        }
    }

    /// A program has said something of itself. What it says once it is ready is nothing to wait for.
    fn notified(&mut self, id: SlotId, notice: &Notice, now: Now) {
        match &notice.status {
            _ if notice.ready => self.ready(id, now),
            Some(status) => self.not_ready(id, status),
            None => {}
        }
    }

    fn ready(&mut self, id: SlotId, now: Now) {
        let is_coming_up = |slot: &Slot| matches!(slot.state, ProcessState::Starting { .. });
        if self.slots.get(&id).is_some_and(is_coming_up) {
            self.note_ailment(id, None);
            self.tell(id, ProcessEvent::Ready, now);
        }
    }

    fn not_ready(&mut self, id: SlotId, why: &str) {
        let is_waited_for = |slot: &Slot| matches!(slot.state, ProcessState::Starting { ready: false, .. });
        if self.slots.get(&id).is_some_and(is_waited_for) {
            self.note_ailment(id, Some(format!("not ready yet: {why}")));
        }
    }

    /// One that fails often enough waits for its turn to be replaced, and may recover in the meantime.
    fn health(&mut self, id: SlotId, trouble: Option<&ProbeTrouble>) {
        let Some(slot) = self.slots.get(&id).filter(|slot| slot.is_up()) else { return };
        let most = slot.spec.settings.process.health.as_ref().map(|health| health.failures);
        let unhealthy = trouble.filter(|trouble| most.is_some_and(|most| trouble.times >= most));
        let said = unhealthy.map(|trouble| match trouble.times {
            1 => format!("unhealthy: {}", trouble.why),
            times => format!("unhealthy: {}, {times} times in a row", trouble.why),
        });
        self.note_ailment(id, said);
    }

    fn note_ailment(&mut self, id: SlotId, said: Option<String>) {
        if let Some(slot) = self.slots.get_mut(&id)
            && slot.ailment != said
        {
            slot.ailment = said;
            slot.seen = None;
            self.touched.insert(slot.group);
        }
    }

    fn memory(&mut self, id: SlotId, pid: Pid, bytes: u64) {
        let Some(slot) = self.slots.get(&id).filter(|slot| slot.is_up()) else { return };
        let above = slot.spec.settings.process.memory.is_some_and(|most| bytes > most);
        let asked = self.groups.get(&slot.group).is_some_and(|group| group.asks_for(id, pid));
        if above && !asked {
            self.wants_replacement(id, pid, Recycle::Memory);
        }
    }

    /// Replaces what is unhealthy: one of a group at a time, when all others are up, so that what works is never taken
    /// away together with what does not. When all of them are unhealthy there is nothing left to protect, and they are
    /// replaced together.
    pub(super) fn replace_unhealthy(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get(&id) else { return };
        let is_sick =
            |slot: &&Slot| matches!(slot.state, ProcessState::Running { .. }) && slot.ailment.is_some();
        let slots = || group.slots.iter().filter_map(|slot| self.slots.get(slot));
        let sick: Vec<SlotId> = slots().filter(is_sick).map(|slot| slot.id).collect();
        if sick.is_empty() || self.phase.is_ending() || group.rollout.is_some() {
            return;
        }
        let standings = self.standings(group);
        if room(&standings, 1) == 0 {
            return;
        }
        let up = standings.iter().filter(|it| it.wanted && it.state == StateWord::Running).count();
        let most = if sick.len() >= up { sick.len() } else { 1 };
        for slot in sick.into_iter().take(most) {
            let Some(why) = self.slots.get_mut(&slot).and_then(|slot| slot.ailment.take()) else { continue };
            self.log_slot(slot, true, format!("{why}; it is replaced"));
            self.tell(slot, ProcessEvent::Unhealthy { why }, now);
        }
    }
}
