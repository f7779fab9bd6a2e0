//! How many workers a group has that follows its backlog: somebody has looked, the rule decides, the group is resized.
//!
//! Fewer workers means what it means for `scale`: the highest numbers drain, and their jobs have all the time of their
//! own. An operator's `scale` wins for as long as it holds.

use qfleet_manifest::settings::{Work, WorkerSettings};
use qfleet_model::process::ProcessState;
use qfleet_model::scale::budget::{Member, Room, room};
use qfleet_model::scale::{Backlog, Budget, Facts, Rule};

use super::group::{Group, GroupId};
use super::slot::Slot;
use super::{Fleet, Now};

impl Group {
    /// What its number of workers follows, unless somebody else decides.
    pub(super) fn rule(&self) -> Option<&Rule> {
        let rule = self.spec.settings.process.scale.as_ref();
        rule.filter(|_| self.scaled.is_none() && !self.removed)
    }

    /// An operator's word does not count any more: what it led to is where the rule begins.
    pub(super) fn unscale(&mut self) {
        if let (Some(scaled), Some(rule)) = (self.scaled.take(), &self.spec.settings.process.scale) {
            self.scaler.begin_at(scaled, rule);
        }
    }
}

impl Fleet {
    /// Somebody has looked how much waits for a group, or could not.
    pub(super) fn backlog_found(&mut self, name: &str, found: &Result<Backlog, String>, now: Now) {
        let Some(id) = self.active(name).filter(|_| !self.phase.is_ending()) else { return };
        let Some(group) = self.groups.get(&id) else { return };
        let Some(rule) = group.rule().cloned() else { return };
        let facts = self.facts(group);
        let (from, why) = (group.scaler.wanted(), group.scaler.why().to_owned());
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.scaler.note(&rule, found, &facts, now.moment);
        let room = rule.budget.as_ref().map_or(Room::FREE, |budget| self.room(id, budget));
        let Some(group) = self.groups.get_mut(&id) else { return };
        let to = group.scaler.step(&rule, room, now.moment);
        let (name, because) = (group.spec.settings.name.clone(), group.scaler.why().to_owned());
        self.changed |= because != why;
        if let Some(to) = to {
            self.log(false, name.into(), None, format!("scaled from {from} to {to}: {because}"));
            let fresh = self.resize(id, now);
            self.start_fresh(&fresh, now);
        }
    }

    fn facts(&self, group: &Group) -> Facts {
        let slots: Vec<&Slot> = self.remaining(group).collect();
        let reports = || slots.iter().filter(|slot| slot.is_up()).filter_map(|slot| slot.report.as_ref());
        let settings = match &group.spec.settings.work {
            Work::Queue(settings) | Work::Pool(settings) => Some(settings),
            Work::Program { .. } | Work::Schedule(_) => None,
        };
        Facts {
            ready: count(slots.iter().filter(|slot| slot.is_up()).count()),
            concurrency: settings.map_or(1, |settings| settings.concurrency),
            running: reports().map(|report| report.running).sum(),
            finished: group.finished,
            crashes: slots.iter().map(|slot| u64::from(slot.crashes)).sum(),
            rate_limit: settings.and_then(rate_limit),
            hindrance: not_up(&slots).or_else(|| shut_gates(&slots, settings)),
            frozen: frozen(&slots),
        }
    }

    /// Its slots that are not about to go.
    pub(super) fn remaining<'f>(&'f self, group: &'f Group) -> impl Iterator<Item = &'f Slot> {
        group.slots.iter().filter_map(|id| self.slots.get(id)).filter(|slot| !slot.retiring)
    }

    /// What its budget leaves to a group.
    fn room(&self, id: GroupId, budget: &Budget) -> Room {
        let shares = |group: &Group| {
            let rule = group.spec.settings.process.scale.as_ref();
            rule.and_then(|rule| rule.budget.as_ref()).is_some_and(|other| other.name == budget.name)
        };
        let sharing: Vec<(&GroupId, &Group)> =
            self.groups.iter().filter(|(_, group)| shares(group)).collect();
        let members: Vec<Member> = sharing.iter().map(|(_, group)| member(group)).collect();
        let at = sharing.iter().position(|(other, _)| **other == id);
        at.map_or(Room::FREE, |at| room(budget.max, &members, at))
    }
}

fn member(group: &Group) -> Member {
    let (wanted, alive) = (group.width(), count(group.slots.len()));
    match group.rule() {
        Some(rule) => Member { min: rule.min, wanted, alive, need: group.scaler.need() },
        // Somebody else decides, and it is not to be shared.
        None => Member { min: wanted, wanted, alive, need: wanted },
    }
}

/// Why the number stays as it is.
fn frozen(slots: &[&Slot]) -> Option<String> {
    if slots.iter().any(|slot| slot.held) {
        return Some(String::from("held by a `stop`"));
    }
    if slots.iter().all(|slot| slot.state.is_at_rest()) {
        return Some(String::from("not running"));
    }
    let outage = slots.iter().find_map(|slot| slot.report.as_ref().and_then(|report| report.outage.clone()));
    outage.map(|outage| format!("workers are cut off: {outage}"))
}

/// Who is not up keeps others from coming.
fn not_up(slots: &[&Slot]) -> Option<String> {
    slots.iter().find_map(|slot| {
        let why = match &slot.state {
            ProcessState::Spawning { .. } | ProcessState::Starting { old_worker: None, .. } => {
                "is not up yet"
            }
            ProcessState::Backoff { .. } => "does not stay up",
            ProcessState::Fatal { .. } => "was given up",
            // It waits for the jobs of an earlier one, as long as they take; the others are as they are.
            ProcessState::Starting { old_worker: Some(_), .. }
            | ProcessState::Stopped
            | ProcessState::Running { .. }
            | ProcessState::Stopping { .. }
            | ProcessState::Exited { .. } => return None,
        };
        Some(format!("`{}` {why}", slot.label))
    })
}

/// At least half of the workers find the endpoints of all their queues shut.
fn shut_gates(slots: &[&Slot], settings: Option<&WorkerSettings>) -> Option<String> {
    let lanes = settings.map_or(1, |settings| settings.lanes.len()).max(1);
    let up = slots.iter().filter(|slot| slot.is_up());
    let gates = |slot: &&&Slot| slot.report.as_ref().is_some_and(|report| report.gates.len() >= lanes);
    let shut: Vec<_> = up.clone().filter(gates).collect();
    let text = shut.first()?.report.as_ref()?.gates.join(", ");
    (shut.len() * 2 >= up.count()).then_some(text)
}

/// Starts a second over all hosts, where every queue has a limit.
fn rate_limit(settings: &WorkerSettings) -> Option<f64> {
    let limits = settings.lanes.iter().map(|lane| lane.rate_limit);
    let per_second =
        |limit: qfleet_manifest::queue::RateLimit| f64::from(limit.max) / limit.per.as_secs_f64().max(0.001);
    limits.map(|limit| limit.map(per_second)).sum::<Option<f64>>().filter(|limit| *limit > 0.0)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
