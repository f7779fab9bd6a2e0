//! What `depends-on` means: whose start waits for whom, and who has to be gone before whom.
//!
//! A dependency matters when something starts and when something is asked to stop. What goes down by itself takes nobody
//! with it: those who depend on it run on, and only their next start waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use qfleet_model::process::{Patience, ProcessEvent, ProcessState};

use super::admission::{Hindrance, Until};
use super::group::{Group, GroupId};
use super::slot::Slot;
use super::{Fleet, Now, SlotId};

impl Fleet {
    /// What the starts of this group still have to wait for: every process of what it depends on has to be up, or
    /// through with what it was to do.
    pub(super) fn unmet_dependency(&self, id: GroupId) -> Option<Hindrance> {
        let depends_on = &self.groups.get(&id)?.spec.settings.process.depends_on;
        let mut until = Until::DependencyUp;
        let mut unmet = Vec::new();
        for name in depends_on {
            let Some(group) = self.group_named(name).and_then(|id| self.groups.get(&id)) else {
                until = Until::SomebodyActs;
                unmet.push(format!("`{name}`, which was removed"));
                continue;
            };
            if self.unmet_slots(group).next().is_none() {
                continue;
            }
            let mut seen = BTreeSet::from([id]);
            match self.at_rest_below(group, &mut seen) {
                Some(slot) => {
                    until = Until::SomebodyActs;
                    let rests = format!("`{}`, which is {}", slot.label, slot.state.word().word());
                    let is_own = slot.name.group == *name;
                    unmet.push(if is_own { rests } else { format!("`{name}`, which waits for {rests}") });
                }
                None => unmet.push(format!("`{name}`")),
            }
        }
        let words = || Arc::from(format!("waiting for {}", unmet.join(", ")));
        (!unmet.is_empty()).then(|| Hindrance { words: words(), until })
    }

    /// Those of a group that whoever depends on it still has to wait for. One that is about to be restarted counts: who
    /// starts now would see it go.
    fn unmet_slots<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Slot> {
        let restarts = |slot: &Slot| self.to_restart.iter().any(|(id, _)| *id == slot.id);
        self.own_of(group).filter(move |slot| !is_met(slot) || restarts(slot))
    }

    /// What is at rest and has to be started before this group can be up: one of its own, or one of those that its starts
    /// wait for in turn. `seen` are groups not to be looked at, or not again.
    fn at_rest_below<'a>(&'a self, group: &'a Group, seen: &mut BTreeSet<GroupId>) -> Option<&'a Slot> {
        if let Some(slot) = self.unmet_slots(group).find(|slot| slot.state.is_at_rest()) {
            return Some(slot);
        }
        if !self.unmet_slots(group).any(|slot| matches!(slot.state, ProcessState::Spawning { .. })) {
            return None;
        }
        let needed = group.spec.settings.process.depends_on.iter();
        let needed: Vec<GroupId> = needed.filter_map(|name| self.group_named(name)).collect();
        needed.into_iter().find_map(|id| {
            let group = self.groups.get(&id).filter(|_| seen.insert(id))?;
            self.at_rest_below(group, seen)
        })
    }

    fn slots_of<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a Slot> {
        group.slots.iter().filter_map(|slot| self.slots.get(slot))
    }

    /// Groups that say they depend on this one.
    fn dependents(&self, id: GroupId) -> impl Iterator<Item = &Group> {
        let name = self.groups.get(&id).map(|group| group.spec.settings.name.as_str());
        self.groups.values().filter(move |group| {
            name.is_some_and(|name| group.spec.settings.process.depends_on.iter().any(|other| other == name))
        })
    }

    /// Whether anybody depends on this group.
    pub(super) fn is_depended_on(&self, id: GroupId) -> bool {
        self.dependents(id).next().is_some()
    }

    /// Whether a process that depends on this group has not ended.
    pub(super) fn has_living_dependents(&self, id: GroupId) -> bool {
        self.dependents(id).any(|group| self.slots_of(group).any(|slot| !slot.state.is_at_rest()))
    }

    /// Stops these in the order given, but each only when those of them are down that depend on it.
    pub(super) fn stop_in_turn(&mut self, slots: impl IntoIterator<Item = SlotId>, now: Now) {
        self.to_stop.extend(slots);
        self.advance_stops(now);
    }

    /// Restarts these in the order given, but each only when those of them are down that depend on it: they still need it
    /// to come to their end, and are started again when it is up.
    pub(super) fn restart_in_turn(&mut self, slots: &[SlotId], now: Now) {
        let incarnation = |id: &SlotId| Some((*id, self.slots.get(id)?.incarnation));
        let slots: Vec<_> = slots.iter().filter_map(incarnation).collect();
        self.to_restart.retain(|(id, _)| !slots.iter().any(|(other, _)| other == id));
        self.to_restart.extend(slots);
        self.advance_restarts(now);
    }

    /// Restarts those whose turn has come. Who was started anew meanwhile, for whatever reason, is what was wanted.
    pub(super) fn advance_restarts(&mut self, now: Now) {
        loop {
            let slots = &self.slots;
            self.to_restart.retain(|(id, old)| {
                slots.get(id).is_some_and(|slot| slot.incarnation == *old && !slot.retiring)
            });
            let mut ready = self.ready_to_restart();
            if ready.is_empty() && !self.to_restart.is_empty() && !self.a_restart_is_under_way() {
                // A circle.
                ready = self.to_restart.iter().map(|(id, _)| *id).collect();
            }
            if ready.is_empty() {
                return;
            }
            self.to_restart.retain(|(slot, _)| !ready.contains(slot));
            for slot in ready {
                self.restart_or_run(slot, Patience::Limited, now);
            }
        }
    }

    fn ready_to_restart(&self) -> Vec<SlotId> {
        let waits = |slot: &Slot| self.to_restart.iter().any(|(id, _)| *id == slot.id);
        let blocks =
            |slot: &Slot| lives(slot) && (slot.is_ending() || waits(slot) || self.to_stop.contains(&slot.id));
        let blocked = |id: &SlotId| {
            let slot = self.slots.get(id).filter(|slot| lives(slot));
            slot.is_some_and(|slot| self.dependents(slot.group).any(|group| self.slots_of(group).any(blocks)))
        };
        self.to_restart.iter().map(|(id, _)| *id).filter(|id| !blocked(id)).collect()
    }

    /// Whether the end of something will give one of those that wait their turn.
    fn a_restart_is_under_way(&self) -> bool {
        let ends = |slot: &Slot| lives(slot) && (slot.is_ending() || self.to_stop.contains(&slot.id));
        let groups = self.to_restart.iter().filter_map(|(id, _)| self.slots.get(id)).map(|slot| slot.group);
        groups.into_iter().any(|id| self.dependents(id).any(|group| self.slots_of(group).any(ends)))
    }

    /// Stops those whose turn has come.
    pub(super) fn advance_stops(&mut self, now: Now) {
        loop {
            let mut ready = self.ready_to_stop();
            if ready.is_empty() && !self.to_stop.is_empty() && !self.a_stop_is_under_way() {
                // A circle.
                ready.clone_from(&self.to_stop);
            }
            if ready.is_empty() {
                return;
            }
            self.to_stop.retain(|slot| !ready.contains(slot));
            for slot in ready {
                self.tell(slot, ProcessEvent::Stop(Patience::Limited), now);
            }
        }
    }

    fn ready_to_stop(&self) -> Vec<SlotId> {
        let goes = |slot: &Slot| is_leaving(slot) || self.to_stop.contains(&slot.id);
        let blocks = |slot: &Slot| !slot.state.is_at_rest() && goes(slot);
        let blocked = |id: &&SlotId| {
            let slot = self.slots.get(id).filter(|slot| !slot.state.is_at_rest());
            slot.is_some_and(|slot| self.dependents(slot.group).any(|group| self.slots_of(group).any(blocks)))
        };
        self.to_stop.iter().filter(|slot| !blocked(slot)).copied().collect()
    }

    /// Whether the end of something will give one of those that wait their turn.
    fn a_stop_is_under_way(&self) -> bool {
        let groups = self.to_stop.iter().filter_map(|id| self.slots.get(id)).map(|slot| slot.group);
        groups.into_iter().any(|id| self.dependents(id).any(|group| self.slots_of(group).any(is_leaving)))
    }

    /// In how many steps those end that still live, but for these: by wave, and inside it by who depends on whom.
    pub(super) fn steps_without(&self, asked: &[SlotId]) -> u32 {
        let ranks = self.ranks();
        let living =
            |slot: &&Slot| !slot.state.is_at_rest() && !asked.contains(&slot.id) && !is_leaving(slot);
        let groups: BTreeSet<GroupId> = self.slots.values().filter(living).map(|slot| slot.group).collect();
        let steps = groups.iter().map(|id| (ranks.get(id).copied(), self.depth(*id, groups.len())));
        u32::try_from(steps.collect::<BTreeSet<_>>().len()).unwrap_or(u32::MAX)
    }

    /// How long the longest chain of those is that depend on the group; no longer than this, should it be a circle.
    fn depth(&self, id: GroupId, most: usize) -> usize {
        let mut chain = BTreeSet::from([id]);
        for depth in 0..most {
            let names: BTreeSet<&str> = chain
                .iter()
                .filter_map(|id| self.groups.get(id))
                .map(|group| group.spec.settings.name.as_str())
                .collect();
            let depends = |group: &Group| {
                let on = &group.spec.settings.process.depends_on;
                on.iter().any(|name| names.contains(name.as_str()))
            };
            chain = self.groups.iter().filter(|(_, group)| depends(group)).map(|(id, _)| *id).collect();
            if chain.is_empty() {
                return depth;
            }
        }
        most
    }

    /// The wave of the shutdown in which each group is asked to end: its priority, or that of what it depends on when
    /// this one would be gone earlier.
    pub(super) fn ranks(&self) -> BTreeMap<GroupId, i32> {
        let own = |(id, group): (&GroupId, &Group)| (*id, group.spec.settings.process.priority);
        let mut ranks: BTreeMap<GroupId, i32> = self.groups.iter().map(own).collect();
        // As many rounds as the longest chain; each of them only raises ranks, so it ends even with a circle.
        loop {
            let mut raised = false;
            for (id, group) in &self.groups {
                for name in &group.spec.settings.process.depends_on {
                    let needed = self.group_named(name).and_then(|of| ranks.get(&of).copied());
                    if let (Some(needed), Some(rank)) = (needed, ranks.get_mut(id))
                        && *rank < needed
                    {
                        *rank = needed;
                        raised = true;
                    }
                }
            }
            if !raised {
                return ranks;
            }
        }
    }
}

/// Whether whoever depends on it may start, as far as this process goes.
fn is_met(slot: &Slot) -> bool {
    slot.is_up() || matches!(slot.state, ProcessState::Exited { expected: true, .. })
}

/// Whether it has a child, or is about to have one whatever it waits for.
fn lives(slot: &Slot) -> bool {
    slot.state.pid().is_some()
        || matches!(slot.state, ProcessState::Spawning { .. }) && slot.hindrance.is_none()
}

/// Whether it was asked to end for good and has not yet.
pub(super) const fn is_leaving(slot: &Slot) -> bool {
    slot.state.is_leaving()
}
