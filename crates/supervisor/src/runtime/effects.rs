//! The only place where a decision touches the world: starts children, signals them, talks to them, and knows what of
//! each child is ours to close when it has ended.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use qfleet_manifest::per_process::OneProcess;
use qfleet_manifest::settings::{Group, Logging, Manifest, Work};
use qfleet_model::link::ToChild;
use qfleet_model::process::{Pid, SIGKILL, Signal};
use qfleet_model::start::{DrainLimit, Start};
use qfleet_os::signal::{self, SendError};
use qfleet_os::spawn::{self, Launch, Launched, OwnImage, launch};
use qfleet_os::tree::{self, Member};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::identities::Identities;
use super::input::Input;
use super::ledgers::Ledgers;
use super::letterbox::Letterbox;
use super::logs::capture::{Capture, Scratch, Sink, scratch};
use super::logs::output::{Output, Source};
use super::logs::tail::{Shelf, Stream};
use super::notices::Notices;
use super::own_limits::OwnLimits;
use super::plan::{ChildPlan, Streams, json};
use super::probes::{Probe, Probing};
use super::trees::{Tree, Trees};
use super::worker_link::{Heard, Link};
use crate::fleet::{Effect, Event, SlotId};

/// Children started in one turn of the loop; in between it reaps, listens and answers.
const AT_ONCE: usize = 16;

/// SIGTERM and SIGQUIT, for workers whose link is gone.
const DRAIN: Signal = 15;
const DRAIN_AT_ONCE: Signal = 3;

/// What every child begins with.
#[derive(Debug)]
pub(super) struct ChildSetup {
    pub(super) image: OwnImage,
    pub(super) child_args: Vec<String>,
    /// The daemon's own variables.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The daemon's own, before it changed them.
    pub(super) limits: OwnLimits,
}

/// The world as the effects see it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) child: ChildSetup,
    pub(super) manifest: Arc<Manifest>,
    /// As in use since the beginning, whatever the manifest says by now.
    pub(super) logging: Logging,
    pub(super) identities: Identities,
    pub(super) ledgers: Ledgers,
    pub(super) trees: Trees,
    pub(super) shelf: Arc<Shelf>,
    pub(super) output: Output,
    pub(super) heard: mpsc::UnboundedSender<Heard>,
    pub(super) letterbox: Letterbox,
    /// To the loop: commands that nobody waits for any more.
    pub(super) probing: mpsc::UnboundedSender<Probing>,
    pub(super) scratch: Scratch,
    /// Readers of links and of output, and whoever waits for a manifest to be read.
    pub(super) tasks: JoinSet<()>,
    /// Children the fleet has asked for and that have not been started yet.
    pub(super) asked: VecDeque<Effect>,
    pub(super) children: HashMap<Pid, Child>,
    /// Output that is being read; that of a child may outlive it.
    pub(super) captures: Vec<Rc<Capture>>,
}

/// What of a living child is ours.
#[derive(Debug)]
pub(super) struct Child {
    /// `None` once it has closed.
    pub(super) link: Option<Rc<Link>>,
    /// Ledgers it was given.
    pub(super) ledgers: Vec<String>,
    /// Programs: where they read from, until they have closed it.
    pub(super) input: Option<Rc<Input>>,
    /// Programs: where they say how they are.
    pub(super) notices: Option<Rc<Notices>>,
    /// Programs: what their whole group is settled with when they have ended.
    pub(super) group: Option<Arc<Group>>,
    /// What keeps its descendants together.
    pub(super) tree: Option<Tree>,
    /// It is a probe.
    pub(super) probe: Option<Probe>,
    /// Descendants that were seen when it was signalled.
    pub(super) descendants: BTreeSet<Member>,
    /// It was asked to end.
    pub(super) asked: bool,
    /// It was killed, and whatever it leaves behind is to be killed too.
    pub(super) killed: bool,
    /// Closes when the child has been reaped.
    pub(super) alive: watch::Sender<()>,
}

impl World {
    /// A world without children; starts the writers of logs.
    ///
    /// # Errors
    /// They cannot be started.
    pub(super) fn new(
        child: ChildSetup,
        manifest: Arc<Manifest>,
        ledgers: Ledgers,
        trees: Trees,
        heard: mpsc::UnboundedSender<Heard>,
        letterbox: Letterbox,
        probing: mpsc::UnboundedSender<Probing>,
    ) -> io::Result<Self> {
        Ok(Self {
            child,
            identities: Identities::default(),
            ledgers,
            trees,
            shelf: Arc::default(),
            output: Output::start(&manifest.logging)?,
            logging: manifest.logging.clone(),
            manifest,
            heard,
            letterbox,
            probing,
            scratch: scratch(),
            tasks: JoinSet::new(),
            asked: VecDeque::new(),
            children: HashMap::new(),
            captures: Vec::new(),
        })
    }

    /// Starts the next few of the children that were asked for.
    pub(super) fn start_some(&mut self) -> Vec<Event> {
        let next: Vec<Effect> = self.asked.drain(..self.asked.len().min(AT_ONCE)).collect();
        next.into_iter().filter_map(|effect| self.start(effect)).collect()
    }

    fn start(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Spawn { slot, name, number, group, ledger, after, run } => {
                let one = OneProcess { group: &group.name, name: &name, number };
                let plan = self.plan_slot(slot, one, &group, ledger.as_deref(), &after, run);
                Some(match plan.and_then(|plan| self.launch_logged(plan)) {
                    Ok(pid) => Event::Spawned { slot, pid },
                    Err(why) => Event::SpawnFailed { slot, why },
                })
            }
            Effect::Recover { recovery, name, group, ledger } => {
                let plan = self.plan_recovery(&name, group.as_deref(), ledger);
                let pid = plan
                    .and_then(|plan| self.launch_logged(plan))
                    .map_err(|why| tracing::warn!(process = name, "cannot recover its jobs: {why}"))
                    .ok();
                Some(Event::RecoverySpawned { recovery, pid })
            }
            _ => None,
        }
    }

    /// Starts a child whose output goes to the logs.
    fn launch_logged(&mut self, mut plan: ChildPlan) -> Result<Pid, String> {
        let (name, slot) = (plan.name.clone(), plan.slot);
        let streams = plan.streams.take();
        let heard = self.heard.clone();
        self.launch(plan, heard, |world, pid, printed, alive| match &streams {
            Some(streams) => world.log_output(pid, printed, &name, slot, streams, alive),
            None => Ok(()),
        })
    }

    /// Starts a child; what it says goes to `heard`, and `hear` makes something of what it will print to standard output and
    /// standard error.
    pub(super) fn launch(
        &mut self,
        plan: ChildPlan,
        heard: mpsc::UnboundedSender<Heard>,
        hear: impl FnOnce(&mut Self, Pid, [OwnedFd; 2], &watch::Receiver<()>) -> io::Result<()>,
    ) -> Result<Pid, String> {
        let args: Vec<&str> = self.child.child_args.iter().map(String::as_str).collect();
        let shown = format!("qfleet: {}", plan.name);
        let what = Launch {
            image: &self.child.image,
            args: &args,
            env: &plan.environment,
            name: &shown,
            input: plan.input,
        };
        let Launched { pid, link, stdout, stderr, stdin } = launch(&what).map_err(|error| {
            plan.notices.iter().for_each(|notices| notices.remove());
            format!("cannot start a process: {error}{}", spawn::advice(&error))
        })?;
        let input = stdin.map(Input::new);
        let start = Start { name: plan.name.to_string(), preparation: plan.preparation, role: plan.role };
        let (alive, still_alive) = watch::channel(());
        let link = hear(self, pid, [stdout, stderr], &still_alive)
            .and_then(|()| Link::new(pid, link, heard))
            .and_then(|link| Ok(link.send(&ToChild::Start(Box::new(start))).map(|_| link)?));
        let link = match link {
            Ok(link) => {
                self.tasks.spawn_local(link.clone().serve());
                Some(link)
            }
            Err(error) => {
                // It sees the link end and goes; its exit is what the fleet hears of.
                tracing::warn!(process = %plan.name, "cannot talk to the new process: {error}");
                None
            }
        };
        if let Some(notices) = plan.notices.clone() {
            let mark = plan.tree.as_ref().map(|tree| tree.mark.clone());
            self.tasks.spawn_local(notices.serve(pid, mark, self.letterbox.clone(), still_alive));
        }
        let child = Child {
            link,
            ledgers: plan.ledgers,
            input,
            notices: plan.notices,
            group: plan.group,
            tree: plan.tree,
            probe: None,
            descendants: BTreeSet::new(),
            asked: false,
            killed: false,
            alive,
        };
        self.children.insert(pid, child);
        Ok(pid)
    }

    /// Passes what a new child prints on to where it is to go.
    fn log_output(
        &mut self,
        pid: Pid,
        printed: [OwnedFd; 2],
        name: &Arc<str>,
        slot: Option<SlotId>,
        streams: &Streams,
        alive: &watch::Receiver<()>,
    ) -> io::Result<()> {
        let logs = slot.map(|slot| self.shelf.open(slot)).unwrap_or_default();
        for (stream, descriptor) in [Stream::Stdout, Stream::Stderr].into_iter().zip(printed) {
            let stream = if streams.redirect_stderr { Stream::Stdout } else { stream };
            let sink = Sink {
                log: logs.of(stream).clone(),
                slot,
                output: self.output.clone(),
                source: Source { name: name.clone(), stream, to: streams.to(stream).clone() },
                partial: Vec::new(),
            };
            let capture = Capture::new(pid, descriptor, sink)?;
            self.tasks.spawn_local(capture.clone().serve(self.scratch.clone(), alive.clone()));
            self.captures.push(capture);
        }
        Ok(())
    }

    /// Takes note of readers and writers that are through.
    pub(super) fn clear_tasks(&mut self) {
        let mut some = false;
        while self.tasks.try_join_next().is_some() {
            some = true;
        }
        if some {
            // A reader that is through has let go of it.
            self.captures.retain(|capture| Rc::strong_count(capture) > 1);
        }
    }

    /// Sends a signal; whoever is gone by now does not need it. One that kills goes to all that descends from the child.
    pub(super) fn signal(&mut self, pid: Pid, signal: Signal, group: bool) {
        if let Some(child) = self.children.get_mut(&pid).filter(|_| group) {
            child.note_descendants(pid, signal == SIGKILL);
        }
        let sent = if group { signal::send_child(pid, signal) } else { signal::send(pid, signal) };
        match sent {
            Ok(()) | Err(SendError::NoSuchProcess) => {}
            Err(error) => tracing::warn!(pid, "cannot send signal {}: {error}", signal::name(signal)),
        }
    }

    /// Tells a worker to drain; one that does not listen any more is told by a signal.
    pub(super) fn drain(&mut self, pid: Pid, limit: DrainLimit) {
        if !self.say(pid, &ToChild::Drain { limit }) {
            let now = matches!(limit, DrainLimit::AtMost(limit) if limit.is_zero());
            self.signal(pid, if now { DRAIN_AT_ONCE } else { DRAIN }, false);
        }
    }

    /// Tells a worker its changed settings; one that has closed its link is about to end anyway.
    pub(super) fn tune(&self, pid: Pid, group: &Group) {
        if let Work::Queue(settings) | Work::Pool(settings) = &group.work {
            match json(settings) {
                Ok(settings) => drop(self.say(pid, &ToChild::Tune { settings })),
                Err(error) => tracing::error!(pid, "cannot tell it its settings: {error}"),
            }
        }
    }

    /// Whether this is a child that we started and have not reaped.
    pub(super) fn is_child(&self, pid: Pid) -> bool {
        self.children.contains_key(&pid)
    }

    fn say(&self, pid: Pid, message: &ToChild) -> bool {
        let link = self.children.get(&pid).and_then(|child| child.link.as_ref());
        link.is_some_and(|link| link.send(message).unwrap_or(false))
    }
}

impl Child {
    /// Takes note of who descends from it, before it may leave them behind. A control group knows that by itself.
    fn note_descendants(&mut self, pid: Pid, killed: bool) {
        self.asked = true;
        self.killed |= killed;
        match self.tree.as_ref().map(|tree| &tree.leaf) {
            Some(None) => {
                self.descendants.extend(tree::below([pid]).into_iter().filter(|member| member.pid != pid));
            }
            Some(Some(leaf)) if killed => {
                // At once, so that nobody has the time to react to the end of another.
                let _ = leaf.kill();
            }
            Some(Some(_)) | None => {}
        }
    }
}
