//! What a new child becomes: its part, its user and limits, its environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use qfleet_manifest::settings::{Group, Work};
use qfleet_model::start::{Identity, Preparation, Role};
use qfleet_os::tree::MARK;
use serde::Serialize;

use super::effects::World;
use super::environment::{environment, inherited};
use super::trees::{Kind, Tree};
use crate::fleet::SlotId;

/// New files of children are not writable by others, unless the manifest says otherwise.
const UMASK: u32 = 0o022;

/// A child to start.
pub(super) struct ChildPlan {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) preparation: Preparation,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Whose output it is; a recovery's is not kept.
    pub(super) slot: Option<SlotId>,
    pub(super) redirect_stderr: bool,
    /// Ledgers it is given.
    pub(super) ledgers: Vec<String>,
    /// Programs: settings for what they leave behind.
    pub(super) group: Option<Arc<Group>>,
    /// What keeps its descendants together; a recovery has none.
    pub(super) tree: Option<Tree>,
}

impl World {
    /// The next child of a slot.
    pub(super) fn plan_slot(
        &mut self,
        slot: SlotId,
        name: Arc<str>,
        group: &Arc<Group>,
        ledger: Option<&str>,
        after: &[String],
    ) -> Result<ChildPlan, String> {
        let user = self.identities.of(group)?;
        let mut preparation = self.preparation(group, user.clone());
        let role = match (&group.work, ledger) {
            (Work::Queue(settings) | Work::Pool(settings), Some(own)) => Role::Worker {
                settings: json(settings)?,
                ledger: self
                    .ledgers
                    .place(own, user.as_ref())
                    .map_err(|error| format!("cannot place its ledger: {error}"))?,
                after: after.iter().map(|name| self.ledgers.path(name)).collect(),
            },
            (Work::Program { argv }, _) => {
                preparation.parent_death = Some(group.process.stop_signal);
                Role::Program { argv: argv.clone() }
            }
            (Work::Queue(_) | Work::Pool(_), None) => return Err(String::from("a worker needs a ledger")),
        };
        let is_program = matches!(group.work, Work::Program { .. });
        let kind = if is_program { Kind::Program } else { Kind::Worker };
        let tree = self.trees.plant(kind, &name);
        preparation.cgroup = tree.leaf.as_ref().map(|leaf| leaf.path().to_owned());
        let mut environment = self.environment_of(group, &name, user.as_ref());
        environment.push((MARK.into(), tree.mark.clone().into()));
        Ok(ChildPlan {
            name,
            role,
            preparation,
            environment,
            slot: Some(slot),
            redirect_stderr: is_program && group.process.redirect_stderr,
            ledgers: ledger.map(str::to_owned).into_iter().chain(after.iter().cloned()).collect(),
            group: is_program.then(|| group.clone()),
            tree: Some(tree),
        })
    }

    /// A child that gives back what a dead worker held. Who can open the ledger is who made it.
    pub(super) fn plan_recovery(
        &mut self,
        name: &str,
        group: Option<&Group>,
        ledger: String,
    ) -> Result<ChildPlan, String> {
        // Those of a worker nobody knows any more are among the manifest's, if they are anywhere.
        let connections = match group.map(|group| &group.work) {
            Some(Work::Queue(settings) | Work::Pool(settings)) => &settings.connections,
            Some(Work::Program { .. }) | None => &self.manifest.connections,
        };
        let settings = json(&BTreeMap::from([("connections", connections)]))?;
        let user = self.ledgers.owner(&ledger);
        let user = match group {
            Some(group) if user.is_some() => self.identities.of(group)?.or(user),
            Some(_) | None => user,
        };
        let environment = match group {
            Some(group) => self.environment_of(group, name, user.as_ref()),
            None => inherited(&self.child.environment, &self.manifest.secret_variables).cloned().collect(),
        };
        Ok(ChildPlan {
            name: Arc::from(format!("{name} (recovery)")),
            role: Role::Recover { settings, ledger: self.ledgers.path(&ledger) },
            preparation: Preparation { user, umask: Some(UMASK), ..Preparation::default() },
            environment,
            slot: None,
            redirect_stderr: false,
            ledgers: vec![ledger],
            group: None,
            tree: None,
        })
    }

    fn environment_of(
        &self,
        group: &Group,
        name: &str,
        user: Option<&Identity>,
    ) -> Vec<(OsString, OsString)> {
        environment(&self.child.environment, &self.manifest.secret_variables, group, name, user)
    }

    fn preparation(&self, group: &Group, user: Option<Identity>) -> Preparation {
        let process = &group.process;
        let mut limits = process.limits.clone();
        // The daemon has raised its own; some programs break above what they are used to.
        limits.entry("nofile".to_owned()).or_insert((self.child.open_files.soft, self.child.open_files.hard));
        Preparation {
            user,
            cwd: process.cwd.clone(),
            umask: Some(process.umask.unwrap_or(UMASK)),
            nice: process.nice,
            limits,
            cgroup: None,
            parent_death: None,
        }
    }
}

/// Settings as they travel to a child.
pub(super) fn json(settings: &impl Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(settings).map_err(|error| format!("cannot write its settings: {error}"))
}
