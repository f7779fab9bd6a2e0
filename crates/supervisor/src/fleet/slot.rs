//! One slot: the state of its process, and what is remembered of its past ones.

use std::sync::Arc;

use qfleet_manifest::settings::Group as GroupSettings;
use qfleet_manifest::units::shown;
use qfleet_model::command::Trouble;
use qfleet_model::link::{FromChild, Report};
use qfleet_model::name::ProcessName;
use qfleet_model::process::{
    Action, CUT_OFF, Past, Pid, ProcessEvent, ProcessKind, ProcessState, SIGKILL, Then, Wanted, said,
};
use qfleet_model::rollout::Standing;
use qfleet_model::snapshot::{Exit, StateWord};
use qfleet_model::time::{Moment, WallTime};
use qfleet_model::words::counted;
use serde::{Deserialize, Serialize};

use super::admission::{Hindrance, Until};
use super::group::{GroupId, Spec};
use super::view::ProcessSeen;
use super::{Effect, Fleet, Now, Owner, SlotId, Timer};

/// A place for one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) group: GroupId,
    pub(super) name: ProcessName,
    pub(super) label: Arc<str>,
    pub(super) state: ProcessState,
    /// What its living (or last) child was started with.
    pub(super) spec: Arc<Spec>,
    /// Its newest child was asked for before a reload that wants it replaced.
    #[serde(default)]
    pub(super) outdated: bool,
    /// Children asked for so far.
    #[serde(default)]
    pub(super) incarnation: u32,
    /// Why its child has not been started yet.
    pub(super) hindrance: Option<Hindrance>,
    /// It is FATAL because its whole group crashes too often, and is started again when that is over.
    #[serde(default)]
    pub(super) given_up: bool,
    /// It is being replaced in its turn: since when its process drains, or its new one comes up.
    pub(super) turn: Option<Moment>,
    /// What a probe has found: that it is not ready yet, or is unhealthy and waits to be replaced.
    #[serde(default)]
    pub(super) ailment: Option<String>,
    /// An operator stopped it; a reload does not start it.
    #[serde(default)]
    pub(super) held: bool,
    /// Not wanted any more; goes as soon as its process has ended.
    #[serde(default)]
    pub(super) retiring: bool,
    pub(super) since: WallTime,
    pub(super) started_at: Option<WallTime>,
    pub(super) stopped_at: Option<WallTime>,
    pub(super) exit: Option<Exit>,
    pub(super) error: Option<String>,
    /// What its newest child could not execute, and why.
    pub(super) not_executed: Option<Trouble>,
    #[serde(default)]
    pub(super) crashes: u32,
    pub(super) report: Option<Report>,
    /// Its living (or last) worker was ready at some time, and so may have had jobs.
    #[serde(default)]
    pub(super) served: bool,
    /// Ledger of the living worker.
    pub(super) ledger: Option<String>,
    /// Ledgers of earlier workers that the next one has to wait for.
    #[serde(default)]
    pub(super) after: Vec<String>,
    /// What others see of it, until something changes.
    #[serde(skip)]
    pub(super) seen: Option<Arc<ProcessSeen>>,
}

impl Slot {
    pub(super) fn new(id: SlotId, group: GroupId, name: ProcessName, spec: Arc<Spec>, now: Now) -> Self {
        Self {
            id,
            group,
            label: Arc::from(name.to_string()),
            name,
            state: ProcessState::Stopped,
            spec,
            outdated: false,
            incarnation: 0,
            hindrance: None,
            given_up: false,
            ailment: None,
            turn: None,
            held: false,
            retiring: false,
            since: now.wall,
            started_at: None,
            stopped_at: None,
            exit: None,
            error: None,
            not_executed: None,
            crashes: 0,
            report: None,
            served: false,
            ledger: None,
            after: Vec::new(),
            seen: None,
        }
    }

    /// Its number, as its process is told.
    pub(super) fn number(&self) -> u32 {
        let is_single = self.name.group == self.name.process;
        if is_single { self.spec.settings.process.numprocs_start } else { self.name.number }
    }

    pub(super) fn is_worker(&self) -> bool {
        self.spec.policy.kind == ProcessKind::Worker
    }

    pub(super) fn is_up(&self) -> bool {
        self.state.word() == StateWord::Running
    }

    /// Its process has settings from before a reload that wants it replaced.
    pub(super) fn is_behind(&self) -> bool {
        self.outdated && !self.state.is_at_rest()
    }

    /// It did not come up the last time, and `error` says why.
    pub(super) fn is_failing(&self) -> bool {
        matches!(self.state.word(), StateWord::Backoff | StateWord::Fatal)
    }

    /// It was asked to end, whatever follows.
    pub(super) fn is_ending(&self) -> bool {
        matches!(
            self.state,
            ProcessState::Stopping { .. } | ProcessState::Spawning { wanted: Wanted::Gone { .. }, .. }
        )
    }

    /// It was up, and is being replaced because it did not do what it should.
    fn is_faulty(&self) -> bool {
        matches!(&self.state, ProcessState::Stopping { fault: Some(fault), .. } if fault.was_up)
    }

    /// It waits to be started, and nothing that is under way will end that.
    pub(super) fn is_stuck(&self) -> bool {
        let hindrance =
            self.hindrance.as_ref().filter(|_| matches!(self.state, ProcessState::Spawning { .. }));
        hindrance.is_some_and(|hindrance| hindrance.until == Until::SomebodyActs)
    }

    /// Why it did not come up the last time.
    pub(super) fn trouble(&self) -> Trouble {
        self.not_executed.unwrap_or(Trouble::StartFailed)
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.state.due(&self.spec.policy)
    }

    /// As the rules of replacement see it.
    pub(super) fn standing(&self) -> Standing {
        let leaves = matches!(self.state, ProcessState::Stopping { then: Then::Stay, .. });
        let past = match &self.state {
            ProcessState::Spawning { past, .. }
            | ProcessState::Starting { past, .. }
            | ProcessState::Running { past, .. }
            | ProcessState::Backoff { past, .. } => *past,
            ProcessState::Stopped
            | ProcessState::Stopping { .. }
            | ProcessState::Exited { .. }
            | ProcessState::Fatal { .. } => Past::default(),
        };
        Standing {
            process: self.id.0,
            state: self.state.word(),
            incarnation: self.incarnation,
            // What waits for something that is not coming will not be up soon, either.
            failed_starts: if self.is_stuck() { u32::MAX } else { past.failed_starts },
            wanted: !self.retiring && !leaves && !self.state.is_at_rest(),
        }
    }

    /// The first part of its ledgers' file names.
    pub(super) fn ledger_stem(&self) -> String {
        self.label.replace(':', ".")
    }

    /// Takes note of what a change of state means for the record.
    fn record(&mut self, before: StateWord, now: Now) {
        self.seen = None;
        let word = self.state.word();
        if word != before {
            self.since = now.wall;
        }
        if !matches!(word, StateWord::Stopping | StateWord::Starting) {
            self.turn = None;
        }
        match &self.state {
            ProcessState::Running { .. } if word == before => {}
            ProcessState::Running { .. } => (self.error, self.ailment) = (None, None),
            ProcessState::Backoff { why, .. } | ProcessState::Fatal { why, .. } => {
                self.error = Some(why.clone());
            }
            ProcessState::Exited { exit, expected: false } => {
                self.error = Some(format!("ended {}", said(exit)));
            }
            ProcessState::Exited { expected: true, .. }
            | ProcessState::Stopped
            | ProcessState::Spawning { .. }
            | ProcessState::Starting { .. }
            | ProcessState::Stopping { .. } => {}
        }
    }
}

impl Fleet {
    /// Tells a slot what happens to it, and takes note of what follows.
    pub(super) fn tell(&mut self, id: SlotId, event: ProcessEvent, now: Now) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let before = slot.state.word();
        let state = std::mem::replace(&mut slot.state, ProcessState::Stopped);
        let latest = self.phase.killed_by();
        let within = latest.map(|latest| slot.spec.policy.within(latest.since(now.moment)));
        let policy = within.as_ref().unwrap_or(&slot.spec.policy);
        let (mut state, mut actions) = state.step(event, policy, now.moment);
        if state.is_leaving() {
            actions.extend(latest.and_then(|latest| state.kill_by(latest)));
        }
        slot.state = state;
        slot.record(before, now);
        self.touched.insert(slot.group);
        for action in actions {
            self.act(id, &action, now);
        }
        self.announce(id, before, now);
        self.note_run_over(id, now);
    }

    fn act(&mut self, id: SlotId, action: &Action, now: Now) {
        match *action {
            Action::Spawn => self.ask_for_child(id, now),
            Action::Send(pid, signal) => {
                let settings = self.slots.get(&id).map(|slot| &slot.spec.settings.process);
                let group = settings.is_none_or(|process| match signal {
                    SIGKILL => process.kill_as_group,
                    _ => process.stop_as_group,
                });
                self.effects.push(Effect::Signal { pid, signal, group });
            }
            Action::Drain(pid, limit) => self.effects.push(Effect::Drain { pid, limit }),
            Action::WakeAt(at) => self.wake(at, Timer::Slot(id)),
        }
    }

    /// A child is wanted in the slot. It is started as soon as nothing speaks against it, maybe at once.
    fn ask_for_child(&mut self, id: SlotId, now: Now) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.incarnation += 1;
        slot.turn = slot.turn.map(|_| now.moment);
        slot.not_executed = None;
        slot.given_up = false;
        slot.ailment = None;
        slot.report = None;
        slot.served = false;
        slot.ledger = None;
        self.waiting.push(id);
    }

    /// Has the slot's child started, with the settings that are in force now.
    pub(super) fn launch(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if let Some(group) = self.groups.get(&slot.group) {
            slot.spec = group.spec.clone();
        }
        slot.outdated = false;
        if slot.is_worker() {
            self.last_ledger += 1;
            slot.ledger = Some(format!("{}.{}", slot.ledger_stem(), self.last_ledger));
        }
        let run = self.slots.get(&id).and_then(|slot| self.run_for(slot));
        let Some(slot) = self.slots.get_mut(&id) else { return };
        self.effects.push(Effect::Spawn {
            slot: id,
            name: slot.label.clone(),
            number: slot.number(),
            group: slot.spec.settings.clone(),
            ledger: slot.ledger.clone(),
            after: slot.after.clone(),
            run,
        });
    }

    pub(super) fn spawned(&mut self, id: SlotId, pid: Pid, now: Now) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.started_at = Some(now.wall);
        self.children.insert(pid, Owner::Slot(id));
        self.run_began(id, now);
        self.tell(id, ProcessEvent::Spawned(pid), now);
    }

    pub(super) fn slot_said(&mut self, id: SlotId, pid: Pid, message: FromChild, now: Now) {
        match message {
            FromChild::Failed { step, errno, error } => {
                if let Some(slot) = self.slots.get_mut(&id)
                    && step.starts_with("execute ")
                {
                    slot.not_executed = errno.map(not_executed);
                }
                self.tell(id, ProcessEvent::Failed { why: format!("cannot {step}: {error}") }, now);
            }
            FromChild::Waiting { pid: earlier } => {
                self.tell(id, ProcessEvent::Waiting { pid: earlier }, now);
                self.log_slot(id, false, format!("waits for the earlier worker with pid {earlier}"));
            }
            FromChild::Ready => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.after.clear();
                    slot.served = true;
                }
                self.tell(id, ProcessEvent::Ready, now);
            }
            FromChild::WantsReplacement { because } => self.wants_replacement(id, pid, because),
            FromChild::Report(report) => {
                if report.completed + report.retried + report.failed + report.discarded > 0 {
                    self.note_work(id, now);
                }
                if let Some(slot) = self.slots.get_mut(&id) {
                    // Counted since its start: a replacement begins at nothing.
                    let before = slot.report.as_ref().map_or(0, Report::ended);
                    if let Some(group) = self.groups.get_mut(&slot.group) {
                        let more = report.ended().saturating_sub(before);
                        group.finished = group.finished.saturating_add(more);
                    }
                    slot.report = Some(report);
                    slot.seen = None;
                    self.changed = true;
                }
            }
            FromChild::Elsewhere => self.runs_elsewhere(id),
            FromChild::CutOff { jobs } => self.note_jobs_cut_off(&jobs),
            FromChild::Recovered { returned, buried, started } => {
                self.log_recovered(id, returned, buried);
                if let Some(label) = self.slots.get(&id).map(|slot| slot.label.clone()) {
                    self.note_crashed_jobs(&label, &started, buried, now);
                }
            }
        }
    }

    fn log_recovered(&mut self, id: SlotId, returned: u32, buried: u32) {
        if returned + buried > 0 {
            let jobs = counted(returned, "job", "jobs");
            let text = format!("gave back {jobs} of the earlier worker, set {buried} aside");
            self.log_slot(id, buried > 0, text);
        }
    }

    /// The slot's child has ended; `left` are those of its ledgers that it did not clear away.
    pub(super) fn slot_ended(&mut self, id: SlotId, pid: Pid, exit: Exit, left: &[String], now: Now) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.exit = Some(exit.clone());
        slot.stopped_at = Some(now.wall);
        slot.after.retain(|ledger| left.contains(ledger));
        let dead = slot.ledger.take().filter(|ledger| left.contains(ledger));
        let (killed, asked) = match &slot.state {
            ProcessState::Stopping { killed, .. } => (*killed, true),
            _ => (false, false),
        };
        let cut_off = match slot.spec.policy.kind {
            ProcessKind::Worker => {
                // A signal of a terminal reaches a child that has not got its own session yet.
                slot.served && (killed || exit == Exit::Code(CUT_OFF) || matches!(exit, Exit::Signal(_)))
            }
            ProcessKind::Program => killed,
        };
        if asked && cut_off {
            self.phase.note_cut_off();
        }
        if killed && cut_off {
            self.note_killed(id);
        }
        if let Some(slot) = self.slots.get_mut(&id)
            && (slot.is_faulty()
                || slot.is_up() && (slot.is_worker() || !is_expected(&slot.spec.settings, &exit)))
        {
            slot.crashes += 1;
        }
        self.log_end(id, &exit, asked);
        if let Some(ledger) = dead {
            self.recover_for(id, ledger);
        }
        let crash = (!asked).then(|| exit.clone());
        self.tell(id, ProcessEvent::Ended { pid, exit }, now);
        if let Some(exit) = crash {
            self.note_crash(id, &exit, now);
        }
    }

    fn log_end(&mut self, id: SlotId, exit: &Exit, asked: bool) {
        if self.is_elsewhere(id) {
            return;
        }
        let Some(slot) = self.slots.get(&id) else { return };
        let expected = asked || (!slot.is_worker() && is_expected(&slot.spec.settings, exit));
        self.log_slot(id, !expected, format!("ended {}", said(exit)));
    }

    /// One log line for each change of state that an operator may look for later.
    fn announce(&mut self, id: SlotId, before: StateWord, now: Now) {
        if self.is_elsewhere(id) {
            return;
        }
        let Some(slot) = self.slots.get(&id) else { return };
        let (warning, text) = match &slot.state {
            state if state.word() == before => return,
            ProcessState::Running { .. } => (false, String::from("running")),
            ProcessState::Backoff { why, .. } => (true, format!("{why}; it is tried again after a pause")),
            ProcessState::Fatal { why, .. } => match slot.due() {
                Some(at) => {
                    let pause = shown(at.since(now.moment));
                    (true, format!("given up: {why}; it is tried once more in {pause}"))
                }
                None => (true, format!("given up: {why}")),
            },
            ProcessState::Stopping { then: Then::StartAgain, .. } => (false, String::from("being replaced")),
            ProcessState::Stopping { then: Then::Stay, .. } => (false, String::from("stopping")),
            ProcessState::Stopped
            | ProcessState::Spawning { .. }
            | ProcessState::Starting { .. }
            | ProcessState::Exited { .. } => return,
        };
        self.log_slot(id, warning, text);
    }

    pub(super) fn log_slot(&mut self, id: SlotId, warning: bool, text: String) {
        let Some(slot) = self.slots.get(&id) else { return };
        let (name, pid) = (slot.label.clone(), slot.state.pid());
        self.log(warning, name, pid, text);
    }
}

/// ENOENT and ENOTDIR mean that there is no such file; whatever else keeps it from being executed, it is there.
const fn not_executed(errno: i32) -> Trouble {
    match errno {
        2 | 20 => Trouble::NoFile,
        _ => Trouble::NotExecutable,
    }
}

fn is_expected(settings: &GroupSettings, exit: &Exit) -> bool {
    matches!(exit, Exit::Code(code) if settings.process.exitcodes.contains(code))
}
