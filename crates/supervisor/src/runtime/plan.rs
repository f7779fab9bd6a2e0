//! What a new child becomes: its part, its user and limits, its environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use qfleet_manifest::per_process::OneProcess;
use qfleet_manifest::probes::Sign;
use qfleet_manifest::settings::{Group, Logs, ScheduleSettings, Work};
use qfleet_model::process::{Pid, SIGKILL};
use qfleet_model::start::{EnvFile, Identity, Preparation, Role};
use qfleet_os::tree::MARK;
use serde::Serialize;

use super::effects::World;
use super::environment::{OWN_VARIABLES, environment, inherited};
use super::logs::tail::Stream;
use super::logs::{Destination, destination};
use super::notices::{Notices, VARIABLE};
use super::own_limits::OwnLimits;
use super::trees::{Kind, Tree};
use crate::fleet::{RunFor, SlotId};

/// New files of children are not writable by others, unless the manifest says otherwise.
const UMASK: u32 = 0o022;

/// In the environment of a probe: the process number of the child it is about.
const PROBED: &str = "QFLEET_PROBED_PID";

/// Where the output of a child goes.
pub(super) struct Streams {
    stdout: Destination,
    stderr: Destination,
    /// Everything goes where standard output goes.
    pub(super) redirect_stderr: bool,
}

impl Streams {
    pub(super) fn to(&self, stream: Stream) -> &Destination {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

/// A child to start.
pub(super) struct ChildPlan {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) preparation: Preparation,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// Whose output it is; a recovery's is not kept.
    pub(super) slot: Option<SlotId>,
    /// Where what it prints goes; `None`: to whoever starts it.
    pub(super) streams: Option<Streams>,
    /// People may write to it.
    pub(super) input: bool,
    /// Ledgers it is given.
    pub(super) ledgers: Vec<String>,
    /// Programs: settings for what they leave behind.
    pub(super) group: Option<Arc<Group>>,
    /// What keeps its descendants together; a recovery has none.
    pub(super) tree: Option<Tree>,
    /// Programs: where they say how they are, if somebody waits for it.
    pub(super) notices: Option<Rc<Notices>>,
}

impl World {
    /// The next child of a slot.
    pub(super) fn plan_slot(
        &mut self,
        slot: SlotId,
        one: OneProcess<'_>,
        group: &Arc<Group>,
        ledger: Option<&str>,
        after: &[String],
        run: Option<RunFor>,
    ) -> Result<ChildPlan, String> {
        let user = self.identities.of(group)?;
        let mut preparation = self.preparation(group, one, user.clone());
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
                Role::Program { argv: argv.iter().map(|word| one.fill(word)).collect() }
            }
            (Work::Schedule(schedule), _) => {
                preparation.parent_death = Some(group.process.stop_signal);
                self.role_of_run(group, schedule, run)?
            }
            (Work::Queue(_) | Work::Pool(_), None) => return Err(String::from("a worker needs a ledger")),
        };
        let notices = self.notices_of(slot, group, user.as_ref())?;
        let is_program = matches!(group.work, Work::Program { .. } | Work::Schedule(_));
        let streams = self.streams(Some(group), one.name);
        let kind = if is_program { Kind::Program } else { Kind::Worker };
        let tree = self.trees.plant(kind, one.name);
        preparation.cgroup = tree.leaf.as_ref().map(|leaf| leaf.path().to_owned());
        let mut environment = self.environment_of_one(group, one, user.as_ref());
        environment.extend(variables_of_run(group, run));
        environment.push((MARK.into(), tree.mark.clone().into()));
        if let Some(notices) = &notices {
            environment.retain(|(name, _)| name != VARIABLE);
            environment.push((VARIABLE.into(), notices.path().into()));
            preparation.fixed_variables.push(VARIABLE.to_owned());
        }
        Ok(ChildPlan {
            name: Arc::from(one.name),
            role,
            preparation,
            environment,
            slot: Some(slot),
            streams: Some(streams),
            input: is_program,
            ledgers: ledger.map(str::to_owned).into_iter().chain(after.iter().cloned()).collect(),
            group: is_program.then(|| group.clone()),
            tree: Some(tree),
            notices,
        })
    }

    /// Where the next process of this slot says that it is ready, where that is waited for.
    fn notices_of(
        &self,
        slot: SlotId,
        group: &Group,
        user: Option<&Identity>,
    ) -> Result<Option<Rc<Notices>>, String> {
        let waits = group.process.ready.as_ref().is_some_and(|ready| ready.sign == Sign::Notify);
        waits
            .then(|| Notices::open(self.ledgers.dir(), slot, user))
            .transpose()
            .map_err(|error| format!("cannot make the socket for its `READY=1`: {error}"))
    }

    /// What runs at a date: the command, or first whoever finds out whether another host has this date.
    fn role_of_run(
        &self,
        group: &Group,
        schedule: &ScheduleSettings,
        run: Option<RunFor>,
    ) -> Result<Role, String> {
        let argv = schedule.argv.clone();
        // What an operator wants now is no date, and is for this host.
        let (Some(redis), Some(run)) = (&schedule.once, run) else { return Ok(Role::Program { argv }) };
        Ok(Role::Once {
            settings: json(redis)?,
            key: format!("qfleet:schedule:{}:{}", group.name, run.date.to_rfc3339()),
            agreed_for: run.agreed_for,
            elsewhere: group.process.exitcodes.first().copied().unwrap_or_default(),
            argv,
        })
    }

    /// A command that is to find out how a process is: as that one's own child would run, but for its session.
    pub(super) fn plan_probe(
        &mut self,
        one: OneProcess<'_>,
        group: &Group,
        of: Pid,
        argv: Vec<String>,
    ) -> Result<ChildPlan, String> {
        let user = self.identities.of(group)?;
        let mut preparation = self.preparation(group, one, user.clone());
        preparation.parent_death = Some(SIGKILL);
        preparation.fixed_variables.push(PROBED.to_owned());
        // No process has this name, so none waits for what an earlier daemon's probe has left.
        let name = format!("{} (probe)", one.name);
        let tree = self.trees.plant(Kind::Program, &name);
        preparation.cgroup = tree.leaf.as_ref().map(|leaf| leaf.path().to_owned());
        let mut environment = self.environment_of_one(group, one, user.as_ref());
        environment.push((MARK.into(), tree.mark.clone().into()));
        environment.push((PROBED.into(), of.to_string().into()));
        Ok(ChildPlan {
            name: Arc::from(name),
            role: Role::Program { argv },
            preparation,
            environment,
            slot: None,
            streams: None,
            input: false,
            ledgers: Vec::new(),
            group: None,
            tree: Some(tree),
            notices: None,
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
            Some(Work::Program { .. } | Work::Schedule(_)) | None => &self.manifest.connections,
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
            streams: Some(self.streams(group, name)),
            input: false,
            ledgers: vec![ledger],
            group: None,
            tree: None,
            notices: None,
        })
    }

    /// Those of a process of this group; a recovery is taken for the process whose jobs it gives back.
    fn streams(&self, group: Option<&Group>, process: &str) -> Streams {
        let usual = Logs::default();
        let logs = group.map_or(&usual, |group| &group.process.logs);
        let to = |stream| destination(logs, &self.logging, process, stream);
        let redirect_stderr = group.is_some_and(|group| {
            matches!(group.work, Work::Program { .. } | Work::Schedule(_)) && group.process.redirect_stderr
        });
        Streams { stdout: to(Stream::Stdout), stderr: to(Stream::Stderr), redirect_stderr }
    }

    /// With what stands for one process filled in.
    fn environment_of_one(
        &self,
        group: &Group,
        one: OneProcess<'_>,
        user: Option<&Identity>,
    ) -> Vec<(OsString, OsString)> {
        let mut environment = self.environment_of(group, one.name, user);
        for (name, value) in &mut environment {
            if let Some(written) = name.to_str().and_then(|name| group.process.environment.get(name)) {
                *value = one.fill(written).into();
            }
        }
        environment
    }

    fn environment_of(
        &self,
        group: &Group,
        name: &str,
        user: Option<&Identity>,
    ) -> Vec<(OsString, OsString)> {
        environment(&self.child.environment, &self.manifest.secret_variables, group, name, user)
    }

    fn preparation(&self, group: &Group, one: OneProcess<'_>, user: Option<Identity>) -> Preparation {
        let process = &group.process;
        let filled = |path: &Path| match path.to_str() {
            Some(text) => PathBuf::from(one.fill(text)),
            None => path.to_owned(),
        };
        let env_files = process.env_files.iter();
        let mut limits = process.limits.clone();
        // The daemon has raised its own; some programs break above what they are used to.
        let OwnLimits { open_files, cores } = self.child.limits;
        limits.entry("nofile".to_owned()).or_insert((open_files.soft, open_files.hard));
        // Workers hold secrets in memory and leave no core dumps, as the daemon does.
        if matches!(group.work, Work::Program { .. } | Work::Schedule(_)) {
            limits.entry("core".to_owned()).or_insert((cores.soft, cores.hard));
        }
        Preparation {
            user,
            cwd: process.cwd.as_deref().map(filled),
            umask: Some(process.umask.unwrap_or(UMASK)),
            nice: process.nice,
            no_new_privileges: process.no_new_privileges,
            limits,
            cgroup: None,
            env_files: env_files.map(|file| EnvFile { path: filled(&file.path), ..*file }).collect(),
            fixed_variables: OWN_VARIABLES
                .iter()
                .chain([&MARK])
                .map(|name| (*name).to_owned())
                .chain(process.environment.keys().cloned())
                .collect(),
            parent_death: None,
        }
    }
}

/// Variables for a run: of which schedule, and for which date.
fn variables_of_run(group: &Group, run: Option<RunFor>) -> Vec<(OsString, OsString)> {
    let Work::Schedule(_) = &group.work else { return Vec::new() };
    let name = ("QFLEET_SCHEDULE".into(), group.name.clone().into());
    let date = run.map(|run| ("QFLEET_SCHEDULE_DATE".into(), run.date.to_rfc3339().into()));
    std::iter::once(name).chain(date).collect()
}

/// Settings as they travel to a child.
pub(super) fn json(settings: &impl Serialize) -> Result<serde_json::Value, String> {
    serde_json::to_value(settings).map_err(|error| format!("cannot write its settings: {error}"))
}
