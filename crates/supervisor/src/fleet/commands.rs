//! What each command means.

use std::collections::BTreeSet;

use qfleet_model::command::{Command, ProcessResult, Refusal, Reply, Trouble};
use qfleet_model::name::Selector;
use qfleet_model::process::{Patience, ProcessEvent, ProcessState, Signal};
use qfleet_model::rollout::Rollout;
use qfleet_model::snapshot::StateWord;

use super::asks::{Goal, Row};
use super::group::{GroupId, Rolling};
use super::reload::Wish;
use super::slot::Slot;
use super::view::similar;
use super::{AskId, Effect, Fleet, Now, SlotId};

/// More processes than this in one group are surely a slip of the finger; a manifest may have no more, either.
const MOST_PROCESSES: u32 = 1_000;

/// What is said of a schedule that was named together with everything else.
const WAITS: &str = "waits for its time";

impl Fleet {
    pub(super) fn asked(&mut self, ask: AskId, command: Command, now: Now) {
        let refused = match command {
            Command::Shutdown { wait } => {
                self.shut_down(false, now);
                match self.phase.ending_mut() {
                    Some(ending) if wait => ending.asks.push(ask),
                    _ => self.answer(ask, Vec::new()),
                }
                Ok(())
            }
            Command::Signal { names, signal } => self.send_signal(ask, &names, signal),
            _ if self.phase.is_ending() => Err(Refusal::ShuttingDown),
            Command::Start { names } => self.start(ask, &names, now),
            Command::Stop { names } => self.stop(ask, &names, now),
            Command::Restart { names, now: true, .. } => self.restart_at_once(ask, &names, now),
            Command::Restart { names, now: false, batch } => self.restart_rolling(ask, &names, batch, now),
            Command::Scale { group, to } => self.scale(ask, &group, to, now),
            Command::Reload { dry_run, reset } => {
                self.begin_reload(ask, Wish::Reload { dry_run, reset });
                Ok(())
            }
            Command::Reread => {
                self.begin_reload(ask, Wish::Reread);
                Ok(())
            }
            Command::StartOver => {
                self.begin_reload(ask, Wish::StartOver);
                Ok(())
            }
            Command::Upgrade { binary } => {
                self.effects.push(Effect::Upgrade { ask, binary });
                Ok(())
            }
            Command::AddGroup { group } => self.take_group(ask, group),
            Command::RemoveGroup { group } => self.drop_group(ask, group, now),
            Command::Input { name, text } => self.input(ask, &name, text),
        };
        if let Err(refusal) = refused {
            self.effects.push(Effect::Answer(ask, Err(refusal)));
        }
    }

    pub(super) fn answer(&mut self, ask: AskId, results: Vec<ProcessResult>) {
        self.effects.push(Effect::Answer(ask, Ok(Reply { results })));
    }

    fn start(&mut self, ask: AskId, names: &[Selector], now: Now) -> Result<(), Refusal> {
        let chosen = self.select(names)?;
        let (chosen, waiting) = self.without_waiting(names, chosen, now);
        let mut rows = self.rows(&chosen, |slot| match slot.state {
            ProcessState::Running { .. } => Goal::done(true, "already started"),
            _ => Goal::Started,
        });
        rows.extend(self.rows(&waiting, |_| Goal::done(true, WAITS)));
        self.leave_out_retiring(names, &mut rows);
        for group in self.groups_of(&chosen) {
            self.forget_crashes(group, now);
        }
        for slot in self.by_priority(|slot| chosen.contains(&slot)) {
            if self.release(slot) {
                self.start_or_run(slot, now);
            }
        }
        self.wait_for(ask, rows);
        Ok(())
    }

    fn stop(&mut self, ask: AskId, names: &[Selector], now: Now) -> Result<(), Refusal> {
        let chosen = self.select(names)?;
        let rows = self.rows(&chosen, |slot| {
            if slot.state.is_at_rest() {
                let is_schedule = slot.spec.schedule().is_some();
                Goal::done(true, if is_schedule { "held until it is started" } else { "not running" })
            } else {
                Goal::Stopped { old: slot.incarnation }
            }
        });
        chosen.iter().for_each(|slot| self.hold(*slot));
        let last_first = self.by_priority(|slot| chosen.contains(&slot)).into_iter().rev();
        self.stop_in_turn(last_first, now);
        for group in self.groups_of(&chosen) {
            self.schedule_changed(group);
        }
        self.wait_for(ask, rows);
        Ok(())
    }

    fn restart_at_once(&mut self, ask: AskId, names: &[Selector], now: Now) -> Result<(), Refusal> {
        let chosen = self.select(names)?;
        let (chosen, waiting) = self.without_waiting(names, chosen, now);
        for group in self.groups_of(&chosen) {
            self.halt_rollout(group, "not restarted: overtaken by a restart of all at once");
            self.forget_crashes(group, now);
        }
        let mut rows = self.rows(&chosen, |slot| Goal::Restarted { old: slot.incarnation });
        rows.extend(self.rows(&waiting, |_| Goal::done(true, WAITS)));
        self.leave_out_retiring(names, &mut rows);
        let chosen = self.by_priority(|slot| chosen.contains(&slot));
        let ready: Vec<SlotId> = chosen.into_iter().filter(|slot| self.release(*slot)).collect();
        self.restart_in_turn(&ready, now);
        self.wait_for(ask, rows);
        Ok(())
    }

    fn restart_rolling(
        &mut self,
        ask: AskId,
        names: &[Selector],
        batch: Option<u32>,
        now: Now,
    ) -> Result<(), Refusal> {
        let chosen = self.select(names)?;
        let groups = self.groups_of(&chosen);
        if let Some(group) =
            groups.iter().filter_map(|id| self.groups.get(id)).find(|it| it.rollout.is_some())
        {
            return Err(Refusal::RolloutUnderWay { group: group.spec.settings.name.clone() });
        }
        let (chosen, waiting) = self.without_waiting(names, chosen, now);
        let mut rows = self.rows(&chosen, |slot| match slot.spec.schedule() {
            Some(_) => Goal::Restarted { old: slot.incarnation },
            None => Goal::Rollout,
        });
        rows.extend(self.rows(&waiting, |_| Goal::done(true, WAITS)));
        self.leave_out_retiring(names, &mut rows);
        let ready: BTreeSet<SlotId> = chosen.into_iter().filter(|slot| self.release(*slot)).collect();
        self.wait_for(ask, rows);
        // Runs of a schedule have nobody beside them who could take turns.
        let is_run = |slot: &SlotId| self.slots.get(slot).is_some_and(|slot| slot.spec.schedule().is_some());
        for slot in ready.iter().copied().filter(is_run).collect::<Vec<_>>() {
            self.restart_or_run(slot, Patience::JobsOwn, now);
        }
        for group in groups {
            if self.groups.get(&group).is_some_and(|group| group.schedule.is_some()) {
                continue;
            }
            self.forget_crashes(group, now);
            self.roll(group, |slot| ready.contains(&slot.id), batch, Some(ask));
        }
        Ok(())
    }

    /// Opens a rollout of these processes of the group; its first turns are given when the event has been dealt with.
    pub(super) fn roll(
        &mut self,
        id: GroupId,
        wanted: impl Fn(&Slot) -> bool,
        batch: Option<u32>,
        ask: Option<AskId>,
    ) {
        let asked = self.next_tick();
        let Some(group) = self.groups.get_mut(&id) else { return };
        let slots = group.slots.iter().filter_map(|slot| self.slots.get(slot));
        let chosen: Vec<_> =
            slots.filter(|slot| wanted(slot)).map(|slot| (slot.id.0, slot.incarnation)).collect();
        if !chosen.is_empty() {
            let batch = batch.map_or(1, |batch| usize::try_from(batch).unwrap_or(usize::MAX));
            group.rollout = Some(Rolling { rollout: Rollout::new(chosen, batch), ask, asked });
            self.touched.insert(id);
        }
    }

    fn scale(&mut self, ask: AskId, name: &str, to: u32, now: Now) -> Result<(), Refusal> {
        if to > MOST_PROCESSES {
            let what = format!("`{name}` cannot have {to} processes; {MOST_PROCESSES} is the limit");
            return Err(Refusal::BadRequest { what });
        }
        let id = self.group_named(name);
        let Some((id, group)) =
            id.and_then(|id| Some((id, self.groups.get_mut(&id).filter(|it| !it.removed)?)))
        else {
            return Err(self.no_match(name));
        };
        if group.schedule.is_some() {
            let what = format!("`{name}` is a schedule: each of its dates is one run");
            return Err(Refusal::BadRequest { what });
        }
        let before = group.width();
        // Where the manifest names no number, every one is somebody's word.
        let process = &group.spec.settings.process;
        group.scaled = (process.scale.is_some() || to != process.numprocs).then_some(to);
        // Whoever stopped the whole group did not ask for new processes in it.
        let slots = group.slots.clone();
        let held = |id: &SlotId| self.slots.get(id).is_some_and(|slot| slot.held);
        let all_held = !slots.is_empty() && slots.iter().all(held);
        let fresh = self.resize(id, now);
        if all_held {
            fresh.iter().for_each(|slot| self.hold(*slot));
        } else {
            self.start_fresh(&fresh, now);
        }
        let fresh = if all_held { BTreeSet::new() } else { fresh.into_iter().collect() };
        let mut rows = self.rows(&fresh, |_| Goal::Started);
        if rows.is_empty() {
            let text =
                if to == before { "unchanged".to_owned() } else { format!("scaled from {before} to {to}") };
            rows.push(Row { slot: SlotId(0), name: name.to_owned(), goal: Goal::done(true, text) });
        }
        self.wait_for(ask, rows);
        Ok(())
    }

    fn send_signal(&mut self, ask: AskId, names: &[Selector], signal: Signal) -> Result<(), Refusal> {
        let chosen = self.select(names)?;
        let mut signals = Vec::new();
        let rows = self.rows(&chosen, |slot| match slot.state.pid() {
            Some(pid) => {
                signals.push(Effect::Signal { pid, signal, group: false });
                Goal::done(true, "signalled")
            }
            None => Goal::failed(Trouble::NotRunning, "not running"),
        });
        self.effects.append(&mut signals);
        self.wait_for(ask, rows);
        Ok(())
    }

    fn input(&mut self, ask: AskId, name: &Selector, text: String) -> Result<(), Refusal> {
        let chosen = self.select(std::slice::from_ref(name))?;
        let (Some(slot), 1) = (chosen.first().and_then(|id| self.slots.get(id)), chosen.len()) else {
            let what = format!("`{name}` is not one process; name the one that is to read this");
            return Err(Refusal::BadRequest { what });
        };
        let pid = match slot.state {
            ProcessState::Stopping { .. } => None,
            _ => slot.state.pid(),
        };
        let name = slot.label.clone();
        let pid = pid.ok_or_else(|| Refusal::NotRunning { name: name.to_string() })?;
        self.effects.push(Effect::Input { ask, name, pid, text });
        Ok(())
    }

    /// Takes the slots of schedules from the chosen ones that are not to run now: whoever names everything does not mean
    /// that everything should run that waits for its time, and whoever names a schedule means one run. The others are held
    /// no more.
    fn without_waiting(
        &mut self,
        names: &[Selector],
        mut chosen: BTreeSet<SlotId>,
        now: Now,
    ) -> (BTreeSet<SlotId>, BTreeSet<SlotId>) {
        let mut waiting = BTreeSet::new();
        for id in self.groups_of(&chosen) {
            let Some(group) = self.groups.get(&id).filter(|group| group.schedule.is_some()) else { continue };
            let name = group.spec.settings.name.clone();
            let (of_group, one_by_one): (Vec<SlotId>, bool) = (
                group.slots.iter().copied().filter(|slot| chosen.contains(slot)).collect(),
                !names.iter().any(|it| matches!(it, Selector::All | Selector::Group(_))),
            );
            if one_by_one {
                continue;
            }
            for slot in &of_group {
                self.release(*slot);
                let at_rest = self.slots.get(slot).is_some_and(|slot| slot.state.is_at_rest());
                if at_rest {
                    chosen.remove(slot);
                    waiting.insert(*slot);
                }
            }
            if names.iter().any(|it| matches!(it, Selector::Group(group) if *group == name))
                && let Some(slot) = self.free_slot(id, now)
            {
                chosen.insert(slot);
                waiting.clear();
            }
            self.schedule_changed(id);
        }
        (chosen, waiting)
    }

    /// A schedule's slot gets a run of its own; one that has one already goes on.
    fn start_or_run(&mut self, slot: SlotId, now: Now) {
        let Some(it) = self.slots.get(&slot) else { return };
        match it.spec.schedule() {
            Some(_) if it.state.is_at_rest() => self.begin_run(slot, None, now),
            Some(_) => {}
            None => self.tell(slot, ProcessEvent::Start, now),
        }
    }

    pub(super) fn restart_or_run(&mut self, slot: SlotId, patience: Patience, now: Now) {
        let Some(it) = self.slots.get(&slot) else { return };
        if it.spec.schedule().is_some() && it.state.is_at_rest() {
            return self.begin_run(slot, None, now);
        }
        self.is_wanted_now(slot);
        self.tell(slot, ProcessEvent::Restart(patience), now);
    }

    /// Forgets an operator's stop. `false` when the slot is about to go and nothing can be started in it.
    fn release(&mut self, slot: SlotId) -> bool {
        match self.slots.get_mut(&slot) {
            Some(kept) if !kept.retiring => {
                kept.held = false;
                self.to_stop.retain(|other| *other != slot);
                true
            }
            _ => false,
        }
    }

    pub(super) fn hold(&mut self, slot: SlotId) {
        if let Some(kept) = self.slots.get_mut(&slot) {
            kept.held = true;
            // Its stop may have to wait, and be called off before it is its turn: then nothing of the restart is left.
            if self.to_restart.extract_if(.., |(other, _)| *other == slot).next().is_some() {
                self.note_not_restarted(slot);
            }
        }
    }

    /// What is being removed is not started. That is a failure only for who asked for just that: a group is as asked when
    /// those are up that are to stay.
    fn leave_out_retiring(&self, names: &[Selector], rows: &mut [Row]) {
        const GOES: &str = "being removed";
        for row in rows {
            let Some(slot) = self.slots.get(&row.slot).filter(|slot| slot.retiring) else { continue };
            let is_meant = |selector: &Selector| match selector {
                Selector::All => false,
                Selector::Group(_) => self.groups.get(&slot.group).is_none_or(|group| group.removed),
                Selector::Process(..) => true,
            };
            let meant = names.iter().any(|selector| selector.matches(&slot.name) && is_meant(selector));
            row.goal = if meant { Goal::failed(Trouble::Ended, GOES) } else { Goal::done(true, GOES) };
        }
    }

    /// The processes with these names.
    fn select(&self, names: &[Selector]) -> Result<BTreeSet<SlotId>, Refusal> {
        let mut chosen = BTreeSet::new();
        for selector in names {
            let matching = self.slots.values().filter(|slot| selector.matches(&slot.name));
            let mut found = false;
            chosen.extend(matching.map(|slot| slot.id).inspect(|_| found = true));
            let exists = match selector {
                Selector::All => true,
                Selector::Group(group) => self.group_named(group).is_some(),
                Selector::Process(..) => false,
            };
            if !found && !exists {
                return Err(self.no_match(&selector.to_string()));
            }
        }
        Ok(chosen)
    }

    pub(super) fn no_match(&self, name: &str) -> Refusal {
        let groups = self.groups.values().map(|group| group.spec.settings.name.as_str());
        let hint = similar(name, groups.chain(self.slots.values().map(|slot| &*slot.label)));
        Refusal::NoMatch { name: name.to_owned(), hint }
    }

    pub(super) fn group_named(&self, name: &str) -> Option<GroupId> {
        self.groups.iter().find(|(_, group)| group.spec.settings.name == name).map(|(id, _)| *id)
    }

    fn groups_of(&self, slots: &BTreeSet<SlotId>) -> BTreeSet<GroupId> {
        slots.iter().filter_map(|slot| self.slots.get(slot)).map(|slot| slot.group).collect()
    }

    /// A line of the answer for each, as they are listed.
    fn rows(&self, slots: &BTreeSet<SlotId>, mut goal: impl FnMut(&Slot) -> Goal) -> Vec<Row> {
        let listed = self.order.iter().filter_map(|id| self.groups.get(id)).flat_map(|group| &group.slots);
        let chosen = listed.filter(|slot| slots.contains(slot)).filter_map(|slot| self.slots.get(slot));
        chosen.map(|slot| Row { slot: slot.id, name: slot.label.to_string(), goal: goal(slot) }).collect()
    }

    /// Whether a slot of this state would be started by a reload that changes it.
    pub(super) fn follows_reload(slot: &Slot) -> bool {
        let runs = !slot.state.is_at_rest();
        let failed = matches!(slot.state.word(), StateWord::Fatal | StateWord::Exited);
        !slot.retiring && !slot.held && (runs || failed || slot.spec.settings.process.autostart)
    }
}
