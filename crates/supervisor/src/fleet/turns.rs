//! Turns of replacement: workers that reached a limit of theirs and rolling restarts, under the one rule of
//! [`qfleet_model::turns`].

use std::collections::VecDeque;

use qfleet_model::link::Recycle;
use qfleet_model::process::{Patience, Pid, ProcessEvent, ProcessState};
use qfleet_model::rollout::room;
use qfleet_model::time::Moment;
use qfleet_model::turns::{Candidate, at_once, counts_until, next};
use serde::{Deserialize, Serialize};

use super::group::{Group, GroupId};
use super::{Fleet, Now, SlotId, Timer};

/// A worker that wants to be replaced.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Want {
    slot: SlotId,
    /// The worker that asked; another one has other limits.
    pid: Pid,
    /// When, on the scale of [`Fleet::tick`].
    asked: u64,
}

impl Group {
    /// Whether this child has asked to be replaced, and had no turn yet.
    pub(super) fn asks_for(&self, slot: SlotId, pid: Pid) -> bool {
        self.wants.iter().any(|want| want.slot == slot && want.pid == pid)
    }
}

impl Fleet {
    /// A worker asks to be replaced.
    pub(super) fn wants_replacement(&mut self, id: SlotId, pid: Pid, because: Recycle) {
        let asked = self.next_tick();
        let Some(slot) = self.slots.get(&id) else { return };
        let group = slot.group;
        if let Some(group) = self.groups.get_mut(&group) {
            group.wants.push_back(Want { slot: id, pid, asked });
        }
        self.touched.insert(group);
        self.log_slot(id, false, format!("wants to be replaced: `{}` reached", because.key()));
    }

    /// Orders those who ask.
    pub(super) fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Replaces as many of those who asked for it as may be missing now.
    pub(super) fn give_turns(&mut self, now: Now) {
        let asks = |group: &Group| group.rollout.is_some() || !group.wants.is_empty();
        if self.phase.is_ending() || !self.groups.values().any(asks) {
            return;
        }
        let most = at_once(self.overall.replace_at_once, self.slots.len());
        loop {
            let under_way = self.turns_under_way(now);
            let Some(chosen) = next(&self.candidates(most), under_way.len()) else {
                // Some of them may take so long that they do not count any more.
                self.turns_at = under_way.into_iter().min();
                if let Some(at) = self.turns_at {
                    self.wake(at, Timer::Turns);
                }
                return;
            };
            self.give_turn(&chosen, now);
        }
    }

    /// Until when each turn counts that counts now. One that waits for somebody to act would hold up the others for
    /// nothing.
    fn turns_under_way(&self, now: Now) -> Vec<Moment> {
        let moving = self.slots.values().filter(|slot| !slot.is_stuck());
        let until = moving.filter_map(|slot| slot.turn).map(counts_until);
        until.filter(|until| *until > now.moment).collect()
    }

    /// The next of each group that can spare one.
    fn candidates(&self, most: usize) -> Vec<Candidate> {
        let asking: Vec<GroupId> = self
            .groups
            .iter()
            .filter(|(_, group)| group.rollout.is_some() || !group.wants.is_empty())
            .map(|(id, _)| *id)
            .collect();
        asking.into_iter().filter_map(|id| self.candidate(id, most)).collect()
    }

    fn candidate(&self, id: GroupId, most: usize) -> Option<Candidate> {
        let group = self.groups.get(&id)?;
        if self.awaits_spare(group) {
            return None;
        }
        let standings = self.standings(group);
        let (process, asked, batch) = match &group.rollout {
            Some(running) => (running.rollout.next(&standings)?, running.asked, running.rollout.batch()),
            None => {
                let want = group.wants.front().filter(|_| room(&standings, 1) > 0)?;
                (want.slot.0, want.asked, 1)
            }
        };
        // Somebody who asked for a larger batch knows what they do.
        let beside = most.max(batch) - 1;
        Some(Candidate { group: id.0, process, asked, served: group.served, beside })
    }

    /// Workers that have ended meanwhile, or are about to, are replaced anyway.
    pub(super) fn forget_vain_wants(&mut self, id: GroupId) {
        let (groups, slots) = (&mut self.groups, &self.slots);
        let Some(group) = groups.get_mut(&id) else { return };
        group.wants.retain(|want| {
            let state = slots.get(&want.slot).map(|slot| &slot.state);
            matches!(state, Some(ProcessState::Running { pid, .. }) if *pid == want.pid)
        });
    }

    fn give_turn(&mut self, chosen: &Candidate, now: Now) {
        let served = self.next_tick();
        let slot = SlotId(chosen.process);
        if let Some(group) = self.groups.get_mut(&GroupId(chosen.group)) {
            group.served = served;
            match &mut group.rollout {
                Some(running) => running.rollout.begin(chosen.process),
                None => forget(&mut group.wants, slot),
            }
        }
        self.tell(slot, ProcessEvent::Restart(Patience::JobsOwn), now);
        if let Some(slot) = self.slots.get_mut(&slot) {
            slot.turn = Some(now.moment);
        }
    }
}

fn forget(wants: &mut VecDeque<Want>, slot: SlotId) {
    wants.retain(|want| want.slot != slot);
}
