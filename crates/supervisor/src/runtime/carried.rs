//! All that is handed over when another program takes this one's place, and how that one goes on with it.
//!
//! It is written as JSON with the numbers of the descriptors that stay open, into a file without a name: secrets are in it.
//! Writing takes nothing apart, so the same text serves to rehearse, and a replacement that fails leaves everything as it
//! was. Each part writes and reads itself; fields that are not known are left aside, those that are missing are filled in,
//! so that one version up and one down understand each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;

use qfleet_manifest::settings::{Group, Logging, Logs, Manifest};
use qfleet_model::process::Pid;
use qfleet_model::snapshot::{Exit, Upgrade};
use qfleet_model::start::Identity;
use qfleet_model::time::{Moment, WallTime};
use qfleet_model::words::counted;
use qfleet_os::replace::{Inherited, Surviving, nameless};
use qfleet_os::tree::Member;
use qfleet_os::{clock, usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::bytes::Bytes;
use super::dates::Dates;
use super::effects::Child;
use super::identities::{Identities, Names};
use super::input::{CarriedInput, Input};
use super::ledgers::Ledgers;
use super::leftovers::Leftovers;
use super::logs::capture::{Capture, Sink};
use super::logs::output::Source;
use super::logs::tail::{CarriedLog, Stream};
use super::logs::{Destination, destination};
use super::notices::{CarriedNotices, Notices};
use super::own_limits::OwnLimits;
use super::probes::Probe;
use super::reading::Kept;
use super::telling::CarriedTelling;
use super::trees::{Tree, Trees};
use super::turn::let_go_of_code;
use super::worker_link::{CarriedLink, Link};
use super::{Beginning, Setup, Supervisor, own_pid};
use crate::fleet::{Fleet, Now, SlotId};
use crate::handle::Handle;

/// Raised when an earlier program would misunderstand the state.
const FORMAT: u32 = 1;

/// How a child ended whose end nobody saw.
const UNSEEN: Exit = Exit::Code(-1);

/// What the daemon has outside of the supervisor, to be handed over with it.
pub trait Outside {
    /// Its state; descriptors in it stay open.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    fn carried<'a>(&'a self, surviving: &mut Surviving<'a>) -> serde_json::Result<Value>;
}

/// Nothing, where nothing else is to survive.
impl Outside for () {
    fn carried<'a>(&'a self, _: &mut Surviving<'a>) -> serde_json::Result<Value> {
        Ok(Value::Null)
    }
}

/// The state of a daemon as another program reads it.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// See [`FORMAT`].
    format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// Process number of the daemon.
    pub pid: i32,
    /// Descriptors that were left open.
    pub descriptors: Vec<RawFd>,
    /// The file of the program that takes over.
    pub program: PathBuf,
    /// The file of the program that wrote this.
    pub old_program: PathBuf,
    /// As [`Outside::carried`] gave it.
    pub outside: Value,
    supervisor: Carried,
}

/// Why a state cannot be gone on with.
#[derive(Debug)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot read the running daemon's state: {}", self.0)
    }
}

impl std::error::Error for Unreadable {}

impl State {
    /// Reads a state.
    ///
    /// # Errors
    /// It is none, or of a version that this program does not understand.
    pub fn read(file: &mut File) -> Result<Self, Unreadable> {
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|error| Unreadable(error.to_string()))?;
        let format = Self::format(&text)?;
        if format > FORMAT {
            return Err(Unreadable(format!("it is in format {format}, this program knows {FORMAT}")));
        }
        serde_json::from_slice(&text).map_err(|error| Unreadable(error.to_string()))
    }

    /// The numbers of its descriptors alone, for whoever can read nothing else of it.
    #[must_use]
    pub fn descriptors(text: &[u8]) -> Vec<RawFd> {
        #[derive(Default, Deserialize)]
        struct Only {
            descriptors: Vec<RawFd>,
        }
        serde_json::from_slice::<Only>(text).unwrap_or_default().descriptors
    }

    fn format(text: &[u8]) -> Result<u32, Unreadable> {
        #[derive(Deserialize)]
        struct Only {
            format: u32,
        }
        serde_json::from_slice::<Only>(text)
            .map(|only| only.format)
            .map_err(|error| Unreadable(error.to_string()))
    }

    /// The manifest in force, with log settings as they are in use.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        let logging = self.supervisor.logging.clone();
        let manifest = self.supervisor.manifest.clone();
        Manifest { logging: logging.unwrap_or_else(|| manifest.logging.clone()), ..manifest }
    }
}

/// The supervisor's part.
#[derive(Debug, Serialize, Deserialize)]
struct Carried {
    fleet: Fleet,
    manifest: Manifest,
    /// As in use, whatever a reload has read since.
    logging: Option<Logging>,
    /// The manifest as read last, when it is not in force.
    last_read: Option<Manifest>,
    last_read_identities: Option<Vec<(Names, Result<Identity, String>)>>,
    #[serde(default)]
    identities: Vec<(Names, Result<Identity, String>)>,
    #[serde(default)]
    children: Vec<CarriedChild>,
    #[serde(default)]
    captures: Vec<CarriedCapture>,
    #[serde(default)]
    logs: Vec<(SlotId, CarriedLog, CarriedLog)>,
    #[serde(default)]
    ledgers: HashMap<String, PathBuf>,
    #[serde(default)]
    leftovers: Leftovers,
    #[serde(default)]
    earlier: BTreeMap<String, String>,
    #[serde(default)]
    dates: BTreeMap<String, WallTime>,
    #[serde(default)]
    telling: CarriedTelling,
    /// Soft and hard limit that children get.
    open_files: (u64, u64),
    /// The same of core dumps, that programs get.
    #[serde(default)]
    cores: Option<(u64, u64)>,
    #[serde(default)]
    last_ask: u64,
    first_int: Option<Moment>,
    started_at: WallTime,
    upgrade: Option<Upgrade>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedChild {
    pid: Pid,
    /// With the number it names the process for good.
    started_at: Option<u64>,
    link: Option<CarriedLink>,
    #[serde(default)]
    ledgers: Vec<String>,
    input: Option<CarriedInput>,
    notices: Option<CarriedNotices>,
    group: Option<Arc<Group>>,
    tree: Option<Tree>,
    /// It is a probe, which is not gone on with.
    #[serde(default)]
    probe: bool,
    #[serde(default)]
    descendants: BTreeSet<Member>,
    #[serde(default)]
    asked: bool,
    #[serde(default)]
    killed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedCapture {
    pid: Pid,
    descriptor: RawFd,
    name: Arc<str>,
    stream: Stream,
    /// Whose log it goes to; a recovery's goes to none.
    slot: Option<SlotId>,
    /// Where its lines go; an earlier version had one place for all.
    to: Option<Destination>,
    /// The beginning of a line.
    #[serde(default)]
    partial: Bytes,
    until: Option<Moment>,
}

impl Supervisor {
    /// Everything as it is now, in a file for another program, and the descriptors that have to stay open for it.
    pub(super) fn carried(&self, new_program: PathBuf) -> io::Result<(File, Surviving<'_>)> {
        let mut surviving = Surviving::default();
        let supervisor = self.carried_part(&mut surviving);
        let outside = self.outside.carried(&mut surviving)?;
        let state = State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: own_pid(),
            descriptors: surviving.numbers(),
            program: new_program,
            old_program: self.program.clone(),
            outside,
            supervisor,
        };
        Ok((nameless(&serde_json::to_vec(&state)?)?, surviving))
    }

    fn carried_part<'a>(&'a self, surviving: &mut Surviving<'a>) -> Carried {
        let world = &self.world;
        let limits = world.child.limits;
        let is_in_force = Arc::ptr_eq(&self.kept.manifest, &world.manifest);
        Carried {
            fleet: self.fleet.clone(),
            manifest: Manifest::clone(&world.manifest),
            logging: Some(world.logging.clone()),
            last_read: (!is_in_force).then(|| Manifest::clone(&self.kept.manifest)),
            last_read_identities: self.kept.identities.as_ref().map(Identities::carried),
            identities: world.identities.carried(),
            children: world.children.iter().map(|(pid, child)| child.carried(*pid, surviving)).collect(),
            captures: world.captures.iter().map(|capture| capture.carried(surviving)).collect(),
            logs: world.shelf.carried(),
            ledgers: world.ledgers.carried(),
            leftovers: self.leftovers.clone(),
            earlier: self.earlier.clone(),
            dates: self.dates.known().clone(),
            telling: self.telling.carried(),
            open_files: (limits.open_files.soft, limits.open_files.hard),
            cores: Some((limits.cores.soft, limits.cores.hard)),
            last_ask: self.last_ask,
            first_int: self.first_int,
            started_at: self.started_at,
            upgrade: self.upgrade.clone(),
        }
    }

    /// Goes on where another program was, with its descriptors. `setup` is as for [`Supervisor::new`], with the state's own
    /// manifest. What is missing is an error, unless we are the old program that is put back: `given_back` is why then.
    ///
    /// # Errors
    /// As [`Supervisor::new`]; a descriptor is not there.
    pub fn take_over(
        setup: Setup,
        state: State,
        inherited: &Inherited,
        given_back: Option<&str>,
    ) -> io::Result<(Self, Handle)> {
        let lenient = given_back.is_some();
        let carried = state.supervisor;
        let mut ledgers = Ledgers::new(setup.state_dir.clone())?;
        ledgers.resume(carried.ledgers);
        let limits = OwnLimits::resume(carried.open_files, carried.cores)?;
        let dates = Dates::resume(&setup.state_dir, carried.dates);
        let trees = Trees::new(&setup.state_dir, setup.use_cgroups);
        let now = Now { moment: clock::now(), wall: carried.started_at };
        let (mut supervisor, handle) =
            Self::assemble(setup, carried.fleet, ledgers, trees, limits, now, Beginning::Over)?;
        let in_force = Arc::new(carried.manifest);
        supervisor.world.identities = Identities::resume(carried.identities);
        supervisor.put_in_force(in_force.clone());
        supervisor.keep(Kept {
            manifest: carried.last_read.map_or(in_force, Arc::new),
            identities: carried.last_read_identities.map(Identities::resume),
        });
        supervisor.world.shelf.resume(carried.logs);
        supervisor.take_over_children(carried.children, inherited, lenient)?;
        supervisor.take_over_output(carried.captures, inherited, lenient)?;
        supervisor.leftovers = carried.leftovers;
        supervisor.earlier = carried.earlier;
        supervisor.dates = dates;
        supervisor.last_ask = carried.last_ask;
        supervisor.first_int = carried.first_int;
        supervisor.upgrade = carried.upgrade.map(|upgrade| match given_back {
            Some(why) => Upgrade { error: Some(why.to_owned()), ..upgrade },
            None => upgrade,
        });
        supervisor.telling.resume(&carried.telling);
        supervisor.go_on();
        Ok((supervisor, handle))
    }

    fn take_over_children(
        &mut self,
        children: Vec<CarriedChild>,
        inherited: &Inherited,
        lenient: bool,
    ) -> io::Result<()> {
        for carried in children {
            let CarriedChild {
                pid,
                started_at,
                link,
                ledgers,
                input,
                notices,
                group,
                tree,
                probe,
                descendants,
                asked,
                killed,
            } = carried;
            let heard = self.world.heard.clone();
            let link = link.map(|link| Link::resume(pid, link, inherited, heard)).transpose();
            let input = input.map(|input| Input::resume(input, inherited)).transpose();
            let notices = notices.map(|notices| Notices::resume(notices, inherited)).transpose();
            let child = Child {
                link: excused(link, lenient)?,
                ledgers,
                input: excused(input, lenient)?,
                notices: excused(notices, lenient)?,
                group: group.map(|group| self.fleet.known_settings(group)),
                tree,
                probe: probe.then(Probe::unwanted),
                descendants,
                asked,
                killed,
                alive: watch::channel(()).0,
            };
            self.world.children.insert(pid, child);
            if !is_ours(pid, started_at) {
                self.upgrading.lost.push(pid);
            }
        }
        Ok(())
    }

    fn take_over_output(
        &mut self,
        captures: Vec<CarriedCapture>,
        inherited: &Inherited,
        lenient: bool,
    ) -> io::Result<()> {
        for CarriedCapture { pid, descriptor, name, stream, slot, to, partial, until } in captures {
            let usual = || destination(&Logs::default(), &self.world.logging, &name, stream);
            let to = to.unwrap_or_else(usual);
            let logs = slot.map(|slot| self.world.shelf.open(slot)).unwrap_or_default();
            let sink = Sink {
                log: logs.of(stream).clone(),
                slot,
                output: self.world.output.clone(),
                source: Source { name, stream, to },
                partial: partial.0,
            };
            let capture =
                inherited.get(descriptor).and_then(|descriptor| Capture::new(pid, descriptor, sink));
            if let Some(capture) = excused(capture.map(Some), lenient)? {
                capture.until.set(until);
                self.world.captures.push(capture);
            }
        }
        Ok(())
    }

    /// The end of a take-over: says so, reads on, writes on, and notices who has ended meanwhile, before anybody looks.
    fn go_on(&mut self) {
        let local = self.local.clone();
        let _tasks_go_there = local.enter();
        if let Some(Upgrade { from, to, kept, error, .. }) = &self.upgrade {
            match error {
                None => {
                    let kept = counted(*kept, "process was", "processes were");
                    tracing::info!("upgraded from {from} to {to}: {kept} kept");
                }
                Some(why) => tracing::error!("not upgraded, the old program goes on: {why}"),
            }
        }
        let world = &mut self.world;
        for (pid, child) in &world.children {
            if let Some(notices) = child.notices.clone() {
                let (letterbox, alive) = (world.letterbox.clone(), child.alive.subscribe());
                let mark = child.tree.as_ref().map(|tree| tree.mark.clone());
                world.tasks.spawn_local(notices.serve(*pid, mark, letterbox, alive));
            }
            if let Some(link) = &child.link {
                world.tasks.spawn_local(link.clone().serve());
            }
            if let Some(input) = child.input.as_ref().filter(|input| input.has_waiting()) {
                world.tasks.spawn_local(input.clone().deliver());
            }
        }
        for capture in &world.captures {
            let child = world.children.get(&capture.pid);
            // Of one that has ended already nothing more is to be told.
            let alive = child.map_or_else(|| watch::channel(()).1, |child| child.alive.subscribe());
            world.tasks.spawn_local(capture.clone().serve(world.scratch.clone(), alive));
        }
        self.dates.write(&mut world.tasks);
        self.end_probes();
        self.reap();
        for pid in std::mem::take(&mut self.upgrading.lost) {
            if let Some(child) = self.world.children.remove(&pid) {
                tracing::warn!(pid, "it has ended while another program took the daemon's place");
                self.child_ended(pid, UNSEEN, child);
            }
        }
        self.publish = true;
        self.publish();
        let_go_of_code();
    }
}

impl Child {
    fn carried<'a>(&'a self, pid: Pid, surviving: &mut Surviving<'a>) -> CarriedChild {
        CarriedChild {
            pid,
            started_at: usage::of(pid).ok().map(|usage| usage.started_at),
            link: self.link.as_deref().map(|link| link.carried(surviving)),
            ledgers: self.ledgers.clone(),
            input: self.input.as_deref().map(|input| input.carried(surviving)),
            notices: self.notices.as_deref().map(|notices| notices.carried(surviving)),
            group: self.group.clone(),
            tree: self.tree.clone(),
            probe: self.probe.is_some(),
            descendants: self.descendants.clone(),
            asked: self.asked,
            killed: self.killed,
        }
    }
}

impl Capture {
    fn carried<'a>(&'a self, surviving: &mut Surviving<'a>) -> CarriedCapture {
        let sink = self.sink.borrow();
        CarriedCapture {
            pid: self.pid,
            descriptor: surviving.keep(&self.stream),
            name: sink.source.name.clone(),
            stream: sink.source.stream,
            slot: sink.slot,
            to: Some(sink.source.to.clone()),
            partial: Bytes(sink.partial.clone()),
            until: self.until.get(),
        }
    }
}

/// What is missing, as nothing, where that is allowed.
fn excused<T>(found: io::Result<Option<T>>, lenient: bool) -> io::Result<Option<T>> {
    match found {
        Err(error) if lenient => {
            tracing::error!("something is lost: {error}");
            Ok(None)
        }
        other => other,
    }
}

/// Whether this is still the child it was; one that has ended and was not reaped is.
fn is_ours(pid: Pid, started_at: Option<u64>) -> bool {
    usage::of(pid).is_ok_and(|usage| {
        usage.parent == own_pid() && started_at.is_none_or(|started_at| started_at == usage.started_at)
    })
}
