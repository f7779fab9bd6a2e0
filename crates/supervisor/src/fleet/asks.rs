//! Who waits for an answer, and when it can be given.

use qfleet_model::command::{ProcessResult, Refusal, Reply, Trouble};
use qfleet_model::process::{ProcessState, Wanted, said};
use qfleet_model::rollout::Replaced;
use serde::{Deserialize, Serialize};

use super::admission::{Hindrance, Until};
use super::slot::Slot;
use super::{AskId, Effect, Fleet, SlotId};

/// Somebody who waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) ask: AskId,
    pub(super) rows: Vec<Row>,
}

/// One line of the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) slot: SlotId,
    pub(super) name: String,
    pub(super) goal: Goal,
}

/// What a line waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Goal {
    /// That it is up.
    Started,
    /// That a later child than this one is up.
    Restarted {
        /// The incarnation to be replaced.
        old: u32,
    },
    /// That this child is gone.
    Stopped {
        /// Its incarnation.
        old: u32,
    },
    /// That the rollout it is part of has ended.
    Rollout,
    /// Nothing any more.
    Done {
        /// Whether it is as asked.
        ok: bool,
        /// In words.
        text: String,
        /// What went wrong, for programs.
        trouble: Option<Trouble>,
    },
}

impl Goal {
    pub(super) fn done(ok: bool, text: impl Into<String>) -> Self {
        Self::Done { ok, text: text.into(), trouble: None }
    }

    pub(super) fn failed(trouble: Trouble, text: impl Into<String>) -> Self {
        Self::Done { ok: false, text: text.into(), trouble: Some(trouble) }
    }

    /// What there is to say now, if there is.
    fn reached(&self, slot: Option<&Slot>) -> Option<Self> {
        match (self, slot) {
            (Self::Done { .. }, _) => None,
            (Self::Stopped { .. }, None) => Some(Self::done(true, "stopped")),
            (Self::Started | Self::Restarted { .. } | Self::Rollout, None) => {
                Some(Self::failed(Trouble::Ended, "removed meanwhile"))
            }
            (Self::Started, Some(slot)) => up(slot, "started"),
            (Self::Restarted { old }, Some(slot)) if slot.incarnation > *old => up(slot, "restarted"),
            (Self::Restarted { .. }, Some(slot)) if slot.state.is_at_rest() => {
                Some(Self::failed(Trouble::Ended, "stopped meanwhile"))
            }
            (Self::Stopped { old }, Some(slot)) if slot.state.is_at_rest() || slot.incarnation > *old => {
                Some(Self::done(true, "stopped"))
            }
            // Its stop had to wait for those that depend on it, and somebody started it in the meantime.
            (Self::Stopped { .. }, Some(slot)) if !slot.held && !slot.is_ending() => {
                Some(Self::failed(Trouble::Ended, "started again meanwhile"))
            }
            (Self::Restarted { .. } | Self::Stopped { .. } | Self::Rollout, Some(_)) => None,
        }
    }
}

fn up(slot: &Slot, word: &str) -> Option<Goal> {
    match &slot.state {
        ProcessState::Running { .. } => Some(Goal::done(true, word)),
        ProcessState::Backoff { why, .. } => {
            Some(Goal::failed(slot.trouble(), format!("{why}; it is tried again")))
        }
        ProcessState::Fatal { why, .. } => Some(Goal::failed(slot.trouble(), why.clone())),
        ProcessState::Exited { expected: true, .. } => Some(Goal::done(true, word)),
        ProcessState::Exited { exit, expected: false } => {
            Some(Goal::failed(Trouble::StartFailed, format!("ended {}", said(exit))))
        }
        ProcessState::Stopped => Some(Goal::failed(Trouble::Ended, "stopped meanwhile")),
        // It would be waited for without end; it comes up by itself once somebody has started what it needs.
        ProcessState::Spawning { wanted: Wanted::Up, .. } => match &slot.hindrance {
            Some(Hindrance { words, until: Until::SomebodyActs }) => {
                Some(Goal::failed(Trouble::StartFailed, format!("{words}; it starts as soon as that is up")))
            }
            Some(Hindrance { until: Until::Room | Until::EarlierGone | Until::DependencyUp, .. }) | None => {
                None
            }
        },
        ProcessState::Spawning { wanted: Wanted::Gone { .. }, .. }
        | ProcessState::Starting { .. }
        | ProcessState::Stopping { .. } => None,
    }
}

impl Fleet {
    /// Remembers who waits for what; answered as soon as every line is done, maybe at once.
    pub(super) fn wait_for(&mut self, ask: AskId, rows: Vec<Row>) {
        self.asks.push(Pending { ask, rows });
        self.changed = true;
    }

    /// Answers everybody whose every line is done.
    pub(super) fn answer_asks(&mut self) {
        let slots = &self.slots;
        for pending in &mut self.asks {
            for row in &mut pending.rows {
                if let Some(done) = row.goal.reached(slots.get(&row.slot)) {
                    row.goal = done;
                }
            }
        }
        let is_done =
            |pending: &mut Pending| pending.rows.iter().all(|row| matches!(row.goal, Goal::Done { .. }));
        for pending in self.asks.extract_if(.., is_done) {
            self.effects.push(Effect::Answer(pending.ask, Ok(reply(pending.rows))));
        }
    }

    /// A slot will not be restarted after all: an operator stops it.
    pub(super) fn note_not_restarted(&mut self, slot: SlotId) {
        let rows = self.asks.iter_mut().flat_map(|pending| &mut pending.rows);
        for row in rows.filter(|row| row.slot == slot && matches!(row.goal, Goal::Restarted { .. })) {
            row.goal = Goal::failed(Trouble::Ended, "stopped meanwhile");
            self.changed = true;
        }
    }

    /// A slot has gone: whoever waits for it to be up waits in vain, which is no failure of a group that has become
    /// smaller.
    pub(super) fn note_gone(&mut self, slot: SlotId, whole_group: bool) {
        let rows = self.asks.iter_mut().flat_map(|pending| &mut pending.rows);
        let in_vain = |row: &&mut Row| {
            row.slot == slot && matches!(row.goal, Goal::Started | Goal::Restarted { .. } | Goal::Rollout)
        };
        for row in rows.filter(in_vain) {
            const GONE: &str = "removed meanwhile";
            row.goal = if whole_group { Goal::failed(Trouble::Ended, GONE) } else { Goal::done(true, GONE) };
            self.changed = true;
        }
    }

    /// A rollout has ended; this is what became of its processes.
    pub(super) fn note_replaced(&mut self, ask: AskId, results: &[Replaced]) {
        let Some(pending) = self.asks.iter_mut().find(|pending| pending.ask == ask) else { return };
        for replaced in results {
            let still_open =
                |row: &&mut Row| row.slot.0 == replaced.process && matches!(row.goal, Goal::Rollout);
            if let Some(row) = pending.rows.iter_mut().find(still_open) {
                let why = self.slots.get(&row.slot).and_then(|slot| match &slot.hindrance {
                    Some(hindrance) if slot.is_stuck() => Some(&*hindrance.words),
                    Some(_) | None => slot.error.as_deref().filter(|_| slot.is_failing()),
                });
                row.goal = match (&replaced.problem, why) {
                    (None, _) => Goal::done(true, "restarted"),
                    (Some(problem), None) => Goal::done(false, problem.clone()),
                    (Some(problem), Some(why)) => Goal::done(false, format!("{problem}: {why}")),
                };
            }
        }
        self.changed = true;
    }

    /// Draining begins: who waits for something to be up waits in vain.
    pub(super) fn refuse_waiting(&mut self) {
        let in_vain = |pending: &mut Pending| {
            pending.rows.iter().any(|row| matches!(row.goal, Goal::Started | Goal::Restarted { .. }))
        };
        for pending in self.asks.extract_if(.., in_vain) {
            self.effects.push(Effect::Answer(pending.ask, Err(Refusal::ShuttingDown)));
        }
    }

    /// The daemon ends.
    pub(super) fn refuse_all(&mut self) {
        for pending in std::mem::take(&mut self.asks) {
            self.effects.push(Effect::Answer(pending.ask, Err(Refusal::ShuttingDown)));
        }
    }
}

fn reply(rows: Vec<Row>) -> Reply {
    let results = rows.into_iter().map(|row| {
        let (ok, text, trouble) = match row.goal {
            Goal::Done { ok, text, trouble } => (ok, text, trouble),
            Goal::Started | Goal::Restarted { .. } | Goal::Stopped { .. } | Goal::Rollout => {
                (false, String::from("unfinished"), None)
            }
        };
        ProcessResult { name: row.name, ok, text, trouble }
    });
    Reply { results: results.collect() }
}
