//! Queues whose workers crash again and again: one worker at a time is tried, the others wait in FATAL with the reason.

use std::sync::Arc;

use qfleet_model::crash_loop::Due;
use qfleet_model::link::JobRef;
use qfleet_model::process::{CUT_OFF, ProcessEvent, ProcessState, Wanted};
use qfleet_model::snapshot::Exit;

use super::group::GroupId;
use super::slot::Slot;
use super::{Fleet, Now, SlotId, Timer};

/// Where the probe is in its life.
enum Trial {
    /// Somewhere on its way.
    UnderWay,
    Up,
    /// It did not come up, or is not up any more.
    Failed,
    /// Somebody took it away.
    Lost,
}

impl Fleet {
    /// A worker has ended that nobody had asked to.
    pub(super) fn note_crash(&mut self, id: SlotId, exit: &Exit, now: Now) {
        let Some(slot) = self.slots.get(&id).filter(|slot| slot.is_worker()) else { return };
        // Whoever sent it a signal wanted it to drain.
        if self.phase.is_ending() || matches!(exit, Exit::Code(0 | CUT_OFF)) {
            return;
        }
        let how = match (slot.served, &slot.state, exit) {
            (false, ProcessState::Backoff { why, .. } | ProcessState::Fatal { why, .. }, _) => why.clone(),
            (_, _, Exit::Code(code)) => format!("exit code {code}"),
            (_, _, Exit::Signal(name)) => format!("signal {name}"),
        };
        let of = slot.group;
        let Some(group) = self.groups.get_mut(&of).filter(|group| !group.removed) else { return };
        if group.breaker.crashed(id.0, how, now.moment) {
            let name: Arc<str> = Arc::from(group.spec.settings.name.as_str());
            let text = format!("{}; one worker at a time is tried from now on", group.breaker.why());
            self.log(true, name, None, text);
        }
        self.wake_for_breaker(of);
    }

    fn wake_for_breaker(&mut self, id: GroupId) {
        if let Some(due) = self.groups.get(&id).and_then(|group| group.breaker.due()) {
            self.wake(due, Timer::CrashLoop(id));
        }
    }

    /// What the jobs of a dead worker were is known now, and how many of them were set aside.
    pub(super) fn note_crashed_jobs(&mut self, label: &str, jobs: &[JobRef], buried: u32, now: Now) {
        let Some(slot) = self.slots.values().find(|slot| &*slot.label == label) else { return };
        let (process, of) = (slot.id.0, slot.group);
        let Some(group) = self.groups.get_mut(&of) else { return };
        if buried > 0 {
            group.breaker.set_aside(now.moment);
        }
        group.breaker.known(process, jobs);
        self.wake_for_breaker(of);
        self.touched.insert(of);
    }

    /// The worker has ended jobs and lives.
    pub(super) fn note_work(&mut self, id: SlotId, now: Now) {
        let Some(of) = self.slots.get(&id).map(|slot| slot.group) else { return };
        if self.groups.get(&of).is_some_and(|group| group.breaker.probe() == Some(id.0)) {
            self.close_breaker(of, "the worker on trial has ended a job", now);
        }
    }

    /// An operator wants it so, or the settings have changed: all may start.
    pub(super) fn forget_crashes(&mut self, id: GroupId, now: Now) {
        if let Some(group) = self.groups.get(&id)
            && group.breaker.is_open()
        {
            self.close_breaker(id, "somebody wants them to start", now);
        }
    }

    fn close_breaker(&mut self, id: GroupId, why: &str, now: Now) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.breaker.close();
        let (name, slots): (Arc<str>, _) =
            (Arc::from(group.spec.settings.name.as_str()), group.slots.clone());
        self.log(false, name, None, format!("{why}: all workers are started again"));
        for id in slots {
            let waits = |slot: &Slot| slot.given_up && may_start(slot);
            if self.slots.get(&id).is_some_and(waits) {
                self.tell(id, ProcessEvent::Start, now);
            }
        }
    }

    /// With an open breaker nobody starts but its probe.
    pub(super) fn advance_breaker(&mut self, id: GroupId, now: Now) {
        let is_open = |fleet: &Self| fleet.groups.get(&id).is_some_and(|group| group.breaker.is_open());
        if !is_open(self) || self.phase.is_ending() {
            return;
        }
        let before = self.groups.get(&id).and_then(|group| group.breaker.due());
        self.look_at_probe(id, now);
        match self.groups.get_mut(&id).map(|group| group.breaker.look(now.moment)) {
            Some(Due::Probe) => self.start_probe(id, now),
            Some(Due::Over) => self.close_breaker(id, "the worker on trial stays up", now),
            Some(Due::Nothing) | None => {}
        }
        if is_open(self) {
            self.give_up_others(id, now);
        }
        if self.groups.get(&id).and_then(|group| group.breaker.due()) != before {
            self.wake_for_breaker(id);
        }
    }

    fn look_at_probe(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(probe) = group.breaker.probe() else { return };
        match self.slots.get(&SlotId(probe)).map_or(Trial::Lost, trial) {
            Trial::UnderWay => {}
            Trial::Up => group.breaker.up(now.moment),
            // A child that could not even be spawned.
            Trial::Failed => {
                group.breaker.crashed(probe, String::from("it cannot be started"), now.moment);
            }
            Trial::Lost => group.breaker.lost(now.moment),
        }
    }

    /// The lowest number of those that wait. When nobody does, there is nothing to try.
    fn start_probe(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let slots = &self.slots;
        let waits = |id: &&SlotId| slots.get(id).is_some_and(may_start);
        match group.slots.iter().find(waits).copied() {
            Some(slot) => {
                group.breaker.probing(slot.0);
                self.tell(slot, ProcessEvent::Start, now);
                self.log_slot(slot, false, String::from("is tried alone, after the crashes of its queue"));
            }
            None => group.breaker.close(),
        }
    }

    /// Whoever is about to start, now or after its own pause, waits until the probe has proven itself.
    fn give_up_others(&mut self, id: GroupId, now: Now) {
        let Some(group) = self.groups.get(&id) else { return };
        let (why, probe) = (group.breaker.why(), group.breaker.probe());
        for id in group.slots.clone() {
            let Some(slot) = self.slots.get(&id).filter(|_| probe != Some(id.0)) else { continue };
            let goes = match &slot.state {
                ProcessState::Backoff { .. } => true,
                // Once it has been launched, its child comes.
                ProcessState::Spawning { wanted: Wanted::Up, .. } => self.waiting.contains(&id),
                ProcessState::Fatal { why: shown, .. } => slot.given_up && *shown != why,
                ProcessState::Spawning { wanted: Wanted::Gone { .. }, .. }
                | ProcessState::Stopped
                | ProcessState::Starting { .. }
                | ProcessState::Running { .. }
                | ProcessState::Stopping { .. }
                | ProcessState::Exited { .. } => false,
            };
            if goes {
                self.tell(id, ProcessEvent::GiveUp { why: why.clone() }, now);
                self.waiting.retain(|other| *other != id);
            }
            if let Some(slot) = self.slots.get_mut(&id).filter(|_| goes) {
                slot.given_up = true;
            }
        }
    }
}

/// It was given up, for whatever reason, and nobody wants it down.
fn may_start(slot: &Slot) -> bool {
    matches!(slot.state, ProcessState::Fatal { .. }) && !slot.held && !slot.retiring
}

fn trial(slot: &Slot) -> Trial {
    match &slot.state {
        ProcessState::Running { .. } => Trial::Up,
        ProcessState::Spawning { wanted: Wanted::Up, .. } | ProcessState::Starting { .. } => Trial::UnderWay,
        ProcessState::Backoff { .. } | ProcessState::Fatal { .. } => Trial::Failed,
        ProcessState::Spawning { wanted: Wanted::Gone { .. }, .. }
        | ProcessState::Stopping { .. }
        | ProcessState::Stopped
        | ProcessState::Exited { .. } => Trial::Lost,
    }
}
