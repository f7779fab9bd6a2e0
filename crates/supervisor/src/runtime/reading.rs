//! Reads the manifest again, on a thread of its own, and says what the fleet has to do about it.

use std::sync::Arc;

use qfleet_manifest::diff::{Change, describe, diff, needs_daemon_restart, overall};
use qfleet_manifest::problem::Problem;
use qfleet_manifest::settings::Manifest;
use qfleet_model::command::ProcessResult;

use super::Reload;
use super::identities::Identities;
use super::reads::{Progress, Wish};
use crate::fleet::{AskId, GroupChange, Plan, Purpose};

/// A manifest that was read for somebody.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) ask: AskId,
    pub(super) purpose: Purpose,
    /// The manifest with everybody it names, or its problems in words.
    pub(super) result: Result<(Manifest, Identities), String>,
}

/// The manifest as it was read last, whether it is in force or not.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) manifest: Arc<Manifest>,
    /// Everybody it names, until they are taken over.
    pub(super) identities: Option<Identities>,
}

/// Reads the manifest and looks up the users it names. May block.
pub(super) fn read((ask, purpose): Wish, reload: &Reload, in_force: &Manifest, progress: &Progress) -> Read {
    let result = match reload(in_force, progress) {
        Err(problems) => Err(problems.to_string()),
        Ok(manifest) => {
            let identities = Identities::look_up(&manifest.groups);
            match identities.problems().join("\n") {
                problems if problems.is_empty() => Ok((manifest, identities)),
                problems => Err(problems),
            }
        }
    };
    Read { ask, purpose, result }
}

/// Warnings of a manifest that the one in force does not have.
pub(super) fn new_warnings<'a>(
    running: &'a Manifest,
    wanted: &'a Manifest,
) -> impl Iterator<Item = &'a Problem> {
    wanted.warnings.iter().filter(|warning| !running.warnings.contains(warning))
}

/// A warning in one line.
fn warned(Problem { at, what, hint, .. }: &Problem) -> String {
    let at = if at.is_empty() { String::new() } else { format!("`{at}`: ") };
    let hint = hint.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
    format!("warning: {at}{what}{hint}")
}

/// What it takes to get from one manifest to another.
pub(super) fn plan(running: &Manifest, wanted: &Manifest) -> Plan {
    let also = needs_daemon_restart(running, wanted).into_iter();
    let warned = new_warnings(running, wanted).map(warned);
    let lines = describe(&running.groups, &wanted.groups);
    let changes = diff(&running.groups, &wanted.groups);
    Plan {
        order: wanted.groups.iter().map(|group| group.name.clone()).collect(),
        changes: changes.into_iter().map(change).collect(),
        overall: (running.overall != wanted.overall)
            .then(|| (wanted.overall, overall(&running.overall, &wanted.overall))),
        also: also.chain(warned).map(|text| ProcessResult::ok("daemon", text)).collect(),
        words: lines
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(_, what)| what.to_owned())
            .collect(),
    }
}

fn change(change: Change) -> GroupChange {
    match change {
        Change::Added(group) => GroupChange::Added(Arc::new(group)),
        Change::Removed(name) => GroupChange::Removed(name),
        Change::Restart { to, .. } => GroupChange::Restart(Arc::new(to)),
        Change::InPlace { to } => GroupChange::InPlace(Arc::new(to)),
    }
}
