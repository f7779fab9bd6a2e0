//! `overlap`: while workers of a group are to be replaced it has more than it should, as many as may be missing at once, so
//! that those whose turn it is go only when as many as ever are ready. The spare ones have the numbers after the last, and
//! drain when nobody is left to be replaced.

use std::sync::Arc;

use qfleet_model::rollout::{does_not_come_up, room};

use super::group::{Group, GroupId};
use super::slot::Slot;
use super::{Fleet, Now};

impl Fleet {
    /// How many more a group needs now: somebody is being replaced, or is to be, and nobody is to be missing meanwhile.
    fn spare_needed(&self, group: &Group) -> u32 {
        if !group.spec.settings.process.overlap {
            return 0;
        }
        let under_way = self.remaining(group).filter(|slot| slot.turn.is_some()).count();
        let at_once = match &group.rollout {
            Some(running) => running.rollout.batch(),
            None => usize::from(!group.wants.is_empty()),
        };
        u32::try_from(at_once.max(under_way)).unwrap_or(u32::MAX).min(group.width())
    }

    /// Brings spare workers of a group when they are needed, and lets them go when they are not needed any more.
    pub(super) fn advance_spare(&mut self, id: GroupId, now: Now) {
        self.forget_vain_wants(id);
        let Some(group) = self.groups.get(&id) else { return };
        if self.phase.is_ending() {
            return;
        }
        let needed = self.spare_needed(group);
        if needed > group.spare || (needed < group.spare && self.is_whole(group)) {
            self.set_spare(id, needed, now);
        } else if self.spare_of(group).any(|spare| does_not_come_up(&spare.standing())) {
            self.halt_rollout(
                id,
                "not restarted: the further worker that `overlap` wants does not become ready",
            );
        }
    }

    /// Nobody is taken away yet: those that are to do the work are not ready.
    pub(super) fn awaits_spare(&self, group: &Group) -> bool {
        group.spare < self.spare_needed(group)
            || self.spare_of(group).any(|spare| !spare.is_up() && !spare.held)
    }

    fn set_spare(&mut self, id: GroupId, spare: u32, now: Now) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let (name, before) = (group.spec.settings.name.clone(), std::mem::replace(&mut group.spare, spare));
        let text = match spare > before {
            true => "`overlap`: a further worker comes up before one is replaced",
            false => "`overlap`: nobody is left to be replaced, the further worker drains",
        };
        self.log(false, Arc::from(name), None, text);
        let fresh = self.resize(id, now);
        self.start_fresh(&fresh, now);
    }

    /// The group could do without its spare workers: a replacement that has failed is not up yet either.
    fn is_whole(&self, group: &Group) -> bool {
        let own: Vec<_> = self.own_of(group).map(Slot::standing).collect();
        room(&own, 1) > 0
    }

    /// Those of a group that are not about to go, but for the spare ones.
    pub(super) fn own_of<'f>(&'f self, group: &'f Group) -> impl Iterator<Item = &'f Slot> {
        self.remaining(group).take(self.own_count(group))
    }

    fn spare_of<'f>(&'f self, group: &'f Group) -> impl Iterator<Item = &'f Slot> {
        self.remaining(group).skip(self.own_count(group))
    }

    /// Slots are kept by number, and the spare ones have the highest.
    fn own_count(&self, group: &Group) -> usize {
        self.remaining(group).count().saturating_sub(group.spare as usize)
    }
}
