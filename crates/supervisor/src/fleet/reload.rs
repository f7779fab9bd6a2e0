//! What a changed manifest means: only what changed is touched, and an operator's word outlives it. Single groups come
//! and go when somebody asks for them.

use std::collections::HashMap;
use std::sync::Arc;

use qfleet_manifest::settings::{Group as GroupSettings, Overall};
use qfleet_model::command::{ProcessResult, Refusal};
use qfleet_model::process::{Patience, ProcessEvent, ProcessState};
use qfleet_model::words::counted;
use serde::{Deserialize, Serialize};

use super::group::{GroupId, Spec};
use super::slot::Slot;
use super::{AskId, Effect, Fleet, Now, Purpose, SlotId, TakenGroup};

/// A manifest that was read, compared with the one in force.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Names of its groups, in its order.
    pub order: Vec<String>,
    /// What differs.
    pub changes: Vec<GroupChange>,
    /// Each of them in words, where there is more to say than its kind.
    pub words: Vec<String>,
    /// What holds for all groups together, when that differs, and how in words.
    pub overall: Option<(Overall, Vec<String>)>,
    /// Lines for the answer about what is not the fleet's.
    pub also: Vec<ProcessResult>,
}

impl Plan {
    /// A line of the answer for each change.
    fn results(&self) -> Vec<ProcessResult> {
        let line = |(at, change): (usize, &GroupChange)| {
            ProcessResult::ok(change.name(), change.said(self.words.get(at)))
        };
        let overall = self.overall.iter().flat_map(|(_, words)| words);
        let overall = overall.map(|text| ProcessResult::ok("fleet", format!("changed: {text}")));
        self.changes.iter().enumerate().map(line).chain(overall).collect()
    }
}

/// What differs in one group.
#[derive(Debug, Clone)]
pub enum GroupChange {
    /// It is new.
    Added(Arc<GroupSettings>),
    /// It is gone: its processes drain.
    Removed(String),
    /// Its processes have to be replaced, one after the other.
    Restart(Arc<GroupSettings>),
    /// Its processes can go on: they are told, or only their number changes.
    InPlace(Arc<GroupSettings>),
}

impl GroupChange {
    fn name(&self) -> &str {
        match self {
            Self::Added(settings) | Self::Restart(settings) | Self::InPlace(settings) => &settings.name,
            Self::Removed(name) => name,
        }
    }

    /// What becomes of the group.
    fn said(&self, words: Option<&String>) -> String {
        match (self, words) {
            (Self::Added(_), None) => String::from("added"),
            (Self::Removed(_), None) => String::from("removed"),
            (Self::Restart(_), None) => String::from("changed, processes are replaced"),
            (Self::InPlace(_), None) => String::from("changed"),
            (Self::Added(_) | Self::Removed(_), Some(words)) => words.clone(),
            (Self::Restart(_) | Self::InPlace(_), Some(words)) => format!("changed: {words}"),
        }
    }
}

/// What is to be done when the manifest has been read.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Wish {
    /// Change what differs, or only say what would change.
    Reload {
        /// Change nothing.
        dry_run: bool,
        /// Forget what operators stopped and scaled.
        reset: bool,
    },
    /// Keep it, and say what differs.
    Reread,
    /// End everything and begin anew.
    StartOver,
}

impl Wish {
    const fn purpose(self) -> Purpose {
        match self {
            Self::Reload { dry_run: true, .. } | Self::StartOver => Purpose::Look,
            Self::Reload { dry_run: false, .. } => Purpose::Apply,
            Self::Reread => Purpose::Keep,
        }
    }
}

impl Fleet {
    pub(super) fn begin_reload(&mut self, ask: AskId, wish: Wish) {
        self.reloads.insert(ask, wish);
        self.effects.push(Effect::ReadManifest { ask, purpose: wish.purpose() });
    }

    pub(super) fn manifest_read(&mut self, ask: AskId, result: Result<Plan, String>, now: Now) {
        let Some(wish) = self.reloads.remove(&ask) else { return };
        let refusal = match result {
            Err(problems) => Refusal::BadManifest { problems },
            Ok(_) if self.phase.is_ending() => Refusal::ShuttingDown,
            Ok(plan) => {
                let results = match wish {
                    Wish::Reload { dry_run, reset } => self.reload(plan, dry_run, reset, now),
                    Wish::Reread => plan.results(),
                    Wish::StartOver => {
                        self.shut_down(true, now);
                        Vec::new()
                    }
                };
                return self.answer(ask, results);
            }
        };
        self.effects.push(Effect::Answer(ask, Err(refusal)));
    }

    fn reload(&mut self, plan: Plan, dry_run: bool, reset: bool, now: Now) -> Vec<ProcessResult> {
        let mut results = plan.results();
        let behind = self.left_behind(&plan);
        results.extend(behind.iter().map(|(_, line)| line.clone()));
        if reset {
            results.extend(self.to_forget(&plan));
        }
        if !dry_run {
            if results.is_empty() {
                self.log(false, Arc::from("qfleet"), None, "reload: nothing has changed");
            }
            for line in &results {
                self.log(false, Arc::from(line.name.as_str()), None, format!("reload: {}", line.text));
            }
            self.carry_out(&plan, reset, now);
            for (id, _) in behind {
                // Those that are down come first: when one of them does not come up, the others stay as they are.
                let chosen = |slot: &Slot| {
                    Self::follows_reload(slot)
                        && (slot.is_behind() || matches!(slot.state, ProcessState::Fatal { .. }))
                };
                self.forget_crashes(id, now);
                self.roll(id, chosen, None, None);
            }
        }
        results.extend(plan.also);
        results
    }

    /// Groups that an earlier reload was to replace and has not, because its rolling restart ended before; with a line of
    /// the answer for each. What this plan replaces or removes is not among them.
    fn left_behind(&self, plan: &Plan) -> Vec<(GroupId, ProcessResult)> {
        let goes = |name: &str| {
            let mut changes = plan.changes.iter().filter(|change| change.name() == name);
            changes.any(|change| !matches!(change, GroupChange::InPlace(_)))
        };
        let groups = self.order.iter().filter_map(|id| Some((*id, self.groups.get(id)?)));
        groups
            .filter(|(_, group)| {
                group.rollout.is_none() && !group.removed && !goes(&group.spec.settings.name)
            })
            .filter_map(|(id, group)| {
                let slots = group.slots.iter().filter_map(|slot| self.slots.get(slot));
                let behind = slots.filter(|slot| slot.is_behind() && Self::follows_reload(slot)).count();
                let have = counted(behind, "process has", "processes have");
                let text = format!("{have} earlier settings (rolling restart)");
                (behind > 0).then(|| (id, ProcessResult::ok(group.spec.settings.name.as_str(), text)))
            })
            .collect()
    }

    /// Begins to add a group of the manifest as read last.
    pub(super) fn take_group(&mut self, ask: AskId, group: String) -> Result<(), Refusal> {
        if self.active(&group).is_some() {
            return Err(Refusal::AlreadyActive { group });
        }
        self.effects.push(Effect::TakeGroup { ask, group });
        Ok(())
    }

    pub(super) fn group_taken(&mut self, ask: AskId, taken: Result<TakenGroup, String>, now: Now) {
        let TakenGroup { settings, order } = match taken {
            Ok(taken) => taken,
            Err(name) => {
                let refusal = Refusal::NoMatch { name, hint: None };
                return self.effects.push(Effect::Answer(ask, Err(refusal)));
            }
        };
        self.log(false, Arc::from(settings.name.as_str()), None, "added");
        self.added(&settings, now);
        self.put_in_order(&order);
        self.changed = true;
        self.answer(ask, vec![ProcessResult::ok(settings.name.as_str(), "added")]);
    }

    /// Drops a group that is at rest.
    pub(super) fn drop_group(&mut self, ask: AskId, group: String, now: Now) -> Result<(), Refusal> {
        let Some(active) = self.active(&group).and_then(|id| self.groups.get(&id)) else {
            return Err(self.no_match(&group));
        };
        let at_rest = |id: &SlotId| self.slots.get(id).is_none_or(|slot| slot.state.is_at_rest());
        if !active.slots.iter().all(at_rest) {
            return Err(Refusal::StillRunning { group });
        }
        self.log(false, Arc::from(group.as_str()), None, "removed");
        self.removed(&group, now);
        self.changed = true;
        self.answer(ask, vec![ProcessResult::ok(group.as_str(), "removed")]);
        self.effects.push(Effect::GroupDropped { group });
        Ok(())
    }

    /// The group of this name, unless it only drains.
    pub(super) fn active(&self, name: &str) -> Option<GroupId> {
        self.group_named(name).filter(|id| self.groups.get(id).is_some_and(|group| !group.removed))
    }

    fn carry_out(&mut self, plan: &Plan, reset: bool, now: Now) {
        if let Some((overall, _)) = plan.overall {
            self.overall = overall;
        }
        for change in &plan.changes {
            match change {
                GroupChange::Added(settings) => self.added(settings, now),
                GroupChange::Removed(name) => self.removed(name, now),
                GroupChange::Restart(settings) => self.replace_all(settings, now),
                GroupChange::InPlace(settings) => self.change_in_place(settings, now),
            }
        }
        if reset {
            self.reset(now);
        }
        self.put_in_order(&plan.order);
        self.changed = true;
    }

    fn added(&mut self, settings: &Arc<GroupSettings>, now: Now) {
        // A group of this name may still be draining from an earlier reload; its slots are taken over.
        if self.group_named(&settings.name).is_some() {
            return self.replace_all(settings, now);
        }
        let id = self.add_group(Spec::new(settings.clone()), now);
        self.look_at_schedule(id, now);
        let fresh = self.groups.get(&id).map(|group| group.slots.clone()).unwrap_or_default();
        if settings.process.autostart {
            self.start_fresh(&fresh, now);
        }
    }

    fn removed(&mut self, name: &str, now: Now) {
        let Some(id) = self.group_named(name) else { return };
        self.halt_rollout(id, "not restarted: removed by a reload");
        if let Some(group) = self.groups.get_mut(&id) {
            group.removed = true;
        }
        self.resize(id, now);
    }

    fn replace_all(&mut self, settings: &Arc<GroupSettings>, now: Now) {
        let Some(id) = self.group_named(&settings.name) else { return };
        self.halt_rollout(id, "not restarted: overtaken by a reload");
        let fresh = self.adopt(id, settings, now);
        // What becomes a schedule runs at its next date; what it was until now ends.
        if self.groups.get(&id).is_some_and(|group| group.schedule.is_some()) {
            return self.end_all(id, now);
        }
        for slot in self.slots.values_mut().filter(|slot| slot.group == id) {
            slot.outdated = !slot.state.is_at_rest();
        }
        let chosen = |slot: &Slot| Self::follows_reload(slot) && !fresh.contains(&slot.id);
        self.roll(id, chosen, None, None);
    }

    fn end_all(&mut self, id: GroupId, now: Now) {
        let slots = self.groups.get(&id).map(|group| group.slots.clone()).unwrap_or_default();
        for slot in slots {
            self.tell(slot, ProcessEvent::Stop(Patience::JobsOwn), now);
        }
    }

    fn change_in_place(&mut self, settings: &Arc<GroupSettings>, now: Now) {
        let Some(id) = self.group_named(&settings.name) else { return };
        self.adopt(id, settings, now);
        let Some(group) = self.groups.get(&id) else { return };
        let spec = group.spec.clone();
        for id in group.slots.clone() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.spec = spec.clone();
            if let Some(pid) = slot.state.pid().filter(|_| slot.is_worker()) {
                self.effects.push(Effect::Tune { pid, group: spec.settings.clone() });
            }
            if let Some(due) = self.slots.get(&id).and_then(Slot::due) {
                self.wake(due, super::Timer::Slot(id));
            }
        }
    }

    /// Gives the group its new settings and as many slots as they want; starts the new ones.
    fn adopt(&mut self, id: GroupId, settings: &Arc<GroupSettings>, now: Now) -> Vec<SlotId> {
        let Some(group) = self.groups.get_mut(&id) else { return Vec::new() };
        let numbers = |settings: &GroupSettings| {
            let between = settings.process.scale.as_ref().map(|rule| (rule.min, rule.max));
            (settings.process.numprocs, between)
        };
        let was = group.width();
        if numbers(&group.spec.settings) != numbers(settings) {
            group.scaled = None;
        }
        if let Some(rule) = &settings.process.scale {
            group.scaler.begin_at(was, rule);
        }
        group.removed = false;
        let before = std::mem::replace(&mut group.spec, Spec::new(settings.clone()));
        group.keep_schedule(before.timetable.as_ref(), now);
        self.forget_crashes(id, now);
        let Some(group) = self.groups.get(&id) else { return Vec::new() };
        let slots = group.slots.clone();
        let held = |id: &SlotId| self.slots.get(id).is_some_and(|slot| slot.held);
        let all_held = !slots.is_empty() && slots.iter().all(held);
        let fresh = self.resize(id, now);
        if all_held {
            fresh.iter().for_each(|slot| self.hold(*slot));
        } else if settings.process.autostart {
            self.start_fresh(&fresh, now);
        }
        self.look_at_schedule(id, now);
        fresh
    }

    /// A line of the answer for each word of an operator that a reset drops.
    fn to_forget(&self, plan: &Plan) -> Vec<ProcessResult> {
        let goes = |name: &str| {
            plan.changes.iter().any(|it| matches!(it, GroupChange::Removed(gone) if gone == name))
        };
        let line = |name: &str, text: String| ProcessResult::ok(name, text);
        let mut lines = Vec::new();
        for group in self.order.iter().filter_map(|id| self.groups.get(id)) {
            let name = group.spec.settings.name.as_str();
            if group.removed || goes(name) {
                continue;
            }
            lines.extend(group.scaled.map(|scaled| line(name, format!("no longer scaled to {scaled}"))));
            let held = group.slots.iter().filter_map(|id| self.slots.get(id)).filter(|slot| slot.held);
            lines.extend(held.map(|slot| line(&slot.label, String::from("no longer held by a `stop`"))));
        }
        lines
    }

    /// Forgets what operators stopped and scaled.
    fn reset(&mut self, now: Now) {
        for id in self.order.clone() {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.unscale();
            let autostart = group.spec.settings.process.autostart;
            let mut start = self.resize(id, now);
            let slots = self.groups.get(&id).map(|group| group.slots.clone()).unwrap_or_default();
            start.extend(slots.into_iter().filter(|slot| {
                self.slots.get_mut(slot).is_some_and(|slot| std::mem::take(&mut slot.held) && !slot.retiring)
            }));
            for slot in start {
                self.to_stop.retain(|other| *other != slot);
                if autostart {
                    self.tell(slot, ProcessEvent::Start, now);
                }
            }
        }
    }

    /// Lists the groups as the manifest does; those that only drain come last.
    fn put_in_order(&mut self, names: &[String]) {
        let place: HashMap<&str, usize> =
            names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        let groups = &self.groups;
        self.order.sort_by_key(|id| {
            groups
                .get(id)
                .and_then(|group| place.get(group.spec.settings.name.as_str()))
                .copied()
                .unwrap_or(usize::MAX)
        });
    }
}
