//! The loop: waits for what happens, hands it to the fleet, carries out what the fleet says. One thread, the main one,
//! and nothing in it waits for anything else.
//!
//! Each turn: reap first, then what came over links, then timers, then commands and signals, then what others have found
//! out; then a few of the children
//! that were asked for are started; then the new state is published. So a child that died at once is never taken for
//! one that is up, and hundreds of starts do not keep the daemon from answering. With nothing due it sleeps.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use jiff::tz::TimeZone;
use qfleet_manifest::problem::Problems;
use qfleet_manifest::settings::Manifest;
use qfleet_model::command::{Refusal, Reply};
use qfleet_model::process::Pid;
use qfleet_model::snapshot::Upgrade;
use qfleet_model::time::{Moment, WallTime};
use qfleet_os::clock;
use qfleet_os::reap::{Reaper, become_subreaper};
use qfleet_os::service::Service;
use qfleet_os::signal::Held;
use qfleet_os::spawn::OwnImage;
use qfleet_os::wall::WallClock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use crate::fleet::view::Seen;
use crate::fleet::{AskId, Effect, Ended, Event, Fleet, Now};
use crate::handle::{Handle, Request};

mod asking;
pub(crate) mod bytes;
mod carried;
mod dates;
mod effects;
mod environment;
mod hearing;
mod identities;
mod input;
mod ledgers;
mod leftovers;
pub(crate) mod letterbox;
pub mod logs;
mod notices;
mod own_limits;
mod plan;
pub(crate) mod probes;
mod reading;
mod reads;
mod telling;
mod trees;
mod turn;
mod upgrade;
mod words;
mod worker_link;

pub use carried::{Outside, State, Unreadable};
pub use reads::{Progress, Stuck};

use dates::Dates;
use effects::{ChildSetup, World};
use ledgers::Ledgers;
use leftovers::Leftovers;
use letterbox::Letterbox;
use own_limits::OwnLimits;
use probes::Probing;
use reading::{Kept, Read};
use reads::Reads;
use telling::Telling;
use trees::Trees;
use upgrade::Upgrading;
use worker_link::Heard;

/// Commands that may wait for the loop; more wait at their door.
const REQUESTS: usize = 64;

/// Reads the manifest again, and warns of what the one in force, which it is given, had not. Runs on a thread of its own, so
/// it may block for a moment, and says which file it has come to.
pub type Reload = Arc<dyn Fn(&Manifest, &Progress) -> Result<Manifest, Problems> + Send + Sync>;

/// All a supervisor needs to know.
pub struct Setup {
    /// What to run.
    pub manifest: Manifest,
    /// Reads the manifest again.
    pub reload: Reload,
    /// What every child begins as.
    pub image: OwnImage,
    /// Arguments that make our binary play the part of a child.
    pub child_args: Vec<String>,
    /// The environment the daemon was started with.
    pub environment: Vec<(OsString, OsString)>,
    /// Directory of the ledgers; made if it is not there.
    pub state_dir: PathBuf,
    /// Whether children get control groups of their own, where that is possible.
    pub use_cgroups: bool,
    /// Who started the daemon and wants to know how it is.
    pub service: Service,
    /// The file that the running program was started from.
    pub program: PathBuf,
    /// What others have to hand over when another program takes our place.
    pub outside: Rc<dyn Outside>,
}

impl fmt::Debug for Setup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the manifest nor the environment belongs into a log.
        out.debug_struct("Setup").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// Runs a fleet.
pub struct Supervisor {
    fleet: Fleet,
    beginning: Beginning,
    /// Where the tasks of `world` live, between two runs of the loop too.
    local: Rc<LocalSet>,
    world: World,
    reload: Reload,
    requests: mpsc::Receiver<Request>,
    letterbox: Letterbox,
    heard: mpsc::UnboundedReceiver<Heard>,
    probing: mpsc::UnboundedReceiver<Probing>,
    read: mpsc::UnboundedSender<Read>,
    /// One manifest is read at a time, so that the one asked for last is in force in the end.
    to_read: Reads,
    reads: mpsc::UnboundedReceiver<Read>,
    reaper: Reaper,
    received: Held,
    leftovers: Leftovers,
    /// Trees of an earlier daemon's programs among them: the program's full name by the tree's mark.
    earlier: BTreeMap<String, String>,
    dates: Dates,
    /// `None` where the system does not tell when its clock was set; then it shows at the next date.
    wall: Option<WallClock>,
    telling: Telling,
    answers: HashMap<AskId, oneshot::Sender<Result<Reply, Refusal>>>,
    after_publishing: Vec<(AskId, Result<Reply, Refusal>)>,
    last_ask: u64,
    first_int: Option<Moment>,
    seen: watch::Sender<Arc<Seen>>,
    manifest: watch::Sender<Arc<Manifest>>,
    last_read: watch::Sender<Arc<Manifest>>,
    kept: Kept,
    started_at: WallTime,
    publish: bool,
    exit: Option<Ended>,
    program: PathBuf,
    outside: Rc<dyn Outside>,
    upgrading: Upgrading,
    /// What became of the last attempt.
    upgrade: Option<Upgrade>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Supervisor").field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

/// How a run of the loop came to its end.
#[derive(Debug)]
pub enum Lived {
    /// The fleet has been drained.
    Ended(Ended),
    /// Another program is to take our place: close the doors, then call [`Supervisor::replace`].
    Replaced(Box<Supervisor>),
}

/// What there is to do before the first turn.
enum Beginning {
    /// What the fleet's beginning asks for.
    Fresh(Vec<Effect>),
    /// Nothing (any more).
    Over,
}

impl Supervisor {
    /// Prepares everything and starts nothing. To be called on the main thread, inside a single-threaded runtime, before
    /// any child or door exists: from here on the process takes its signals, reaps its children and the orphans among
    /// their children, and may have as many open files as the system allows (children get the old limit).
    ///
    /// # Errors
    /// The signals cannot be read, or the state directory cannot be made or read.
    pub fn new(setup: Setup) -> io::Result<(Self, Handle)> {
        let mut ledgers = Ledgers::new(setup.state_dir.clone())?;
        let now = Now { moment: clock::now(), wall: clock::wall() };
        let groups = setup.manifest.groups.iter().cloned().map(Arc::new);
        let mut fleet = Fleet::new(groups, setup.manifest.overall, now);
        let trees = Trees::new(&setup.state_dir, setup.use_cgroups);
        let mut leftovers = Leftovers::default();
        let dates = Dates::read(&setup.state_dir);
        let earlier = leftovers.take_over_earlier(&trees, &setup.manifest, now.moment);
        let began = Event::Began {
            ledgers: ledgers.find()?,
            earlier: earlier.values().cloned().collect(),
            dates: dates.known().clone(),
        };
        let first_effects = fleet.handle(began, now);
        let limits = OwnLimits::change()?;
        let beginning = Beginning::Fresh(first_effects);
        let (supervisor, handle) = Self::assemble(setup, fleet, ledgers, trees, limits, now, beginning)?;
        Ok((Self { leftovers, earlier, dates, ..supervisor }, handle))
    }

    fn assemble(
        setup: Setup,
        mut fleet: Fleet,
        ledgers: Ledgers,
        trees: Trees,
        limits: OwnLimits,
        now: Now,
        beginning: Beginning,
    ) -> io::Result<(Self, Handle)> {
        let Setup { manifest, reload, image, child_args, environment, service, program, outside, .. } = setup;
        let (received, reaper) = (Held::register()?, Reaper::register()?);
        become_subreaper()?;
        let keeping = trees.keeping();
        // Doors open before the loop turns for the first time, and should not show a fleet at rest.
        let seen = watch::Sender::new(Arc::new(fleet.seen(own_pid(), now.wall)));
        let manifest = Arc::new(manifest);
        let (heard_sender, heard) = mpsc::unbounded_channel();
        let (read, reads) = mpsc::unbounded_channel();
        let (request_sender, requests) = mpsc::channel(REQUESTS);
        let letterbox = Letterbox::default();
        let (probing_sender, probing) = mpsc::unbounded_channel();
        let child = ChildSetup { image, child_args, environment, limits };
        let supervisor = Self {
            fleet,
            beginning,
            local: Rc::default(),
            world: World::new(
                child,
                manifest.clone(),
                ledgers,
                trees,
                heard_sender,
                letterbox.clone(),
                probing_sender.clone(),
            )?,
            reload,
            requests,
            letterbox,
            heard,
            probing,
            read,
            to_read: Reads::default(),
            reads,
            reaper,
            received,
            leftovers: Leftovers::default(),
            earlier: BTreeMap::new(),
            dates: Dates::default(),
            wall: WallClock::listen()
                .inspect_err(|error| tracing::debug!("cannot hear of changes of the clock: {error}"))
                .ok(),
            telling: Telling::new(service, now.moment),
            answers: HashMap::new(),
            after_publishing: Vec::new(),
            last_ask: 0,
            first_int: None,
            seen,
            last_read: watch::Sender::new(manifest.clone()),
            kept: Kept { manifest: manifest.clone(), identities: None },
            manifest: watch::Sender::new(manifest),
            started_at: now.wall,
            publish: false,
            exit: None,
            program,
            outside,
            upgrading: Upgrading::default(),
            upgrade: None,
        };
        let handle = Handle {
            requests: request_sender,
            letterbox: supervisor.letterbox.clone(),
            probing: probing_sender,
            seen: supervisor.seen.subscribe(),
            manifest: supervisor.manifest.subscribe(),
            last_read: supervisor.last_read.subscribe(),
            logs: supervisor.world.shelf.clone(),
            output: supervisor.world.output.clone(),
            logging: Arc::new(supervisor.world.logging.clone()),
            keeping,
            zone: TimeZone::try_system().unwrap_or(TimeZone::UTC),
        };
        Ok((supervisor, handle))
    }
}

fn own_pid() -> Pid {
    i32::try_from(std::process::id()).unwrap_or(0)
}
