//! Seeded random histories against the fleet: commands, exits, reloads and time in any order, and what must hold
//! whatever happens.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::probes::{Health, Probe, Ready, Sign, Target};
use qfleet_manifest::queue::FailedJobs;
use qfleet_manifest::settings::{
    Autorestart, Group, Missed, Overall, Overlap, ProcessSettings, ScheduleSettings, Work, WorkerSettings,
};
use qfleet_model::command::{Command, Refusal, Reply, Trouble};
use qfleet_model::link::{FromChild, JobRef, Recycle, Report};
use qfleet_model::name::Selector;
use qfleet_model::notice::Notice;
use qfleet_model::observation::{Observation, ProbeTrouble, Question};
use qfleet_model::scale::{Backlog, Budget, Rule, Target as ScaleTarget};
use qfleet_model::snapshot::{Exit, GroupKind, StateWord};
use qfleet_model::start::DrainLimit;
use qfleet_model::time::{Moment, WallTime};
use qfleet_supervisor::fleet::view::{ProcessSeen, Seen, render};
use qfleet_supervisor::fleet::{
    AskId, Effect, Ended, Event, Fleet, GroupChange, Now, Plan, RecoveryId, SlotId, TakenGroup,
};
use qfleet_supervisor::{Watch, Watched};

#[path = "simulation/schedules.rs"]
mod schedules;

const KILL: i32 = 9;
const TERM: i32 = 15;

fn process(numprocs: u32) -> ProcessSettings {
    ProcessSettings {
        numprocs,
        scale: None,
        numprocs_start: 0,
        priority: 999,
        depends_on: vec![],
        autostart: true,
        startsecs: Duration::from_secs(1),
        startretries: 3,
        retry_fatal: Some(Duration::from_secs(600)),
        start_wait: Duration::from_secs(30),
        autorestart: Autorestart::Unexpected,
        exitcodes: vec![0],
        essential: false,
        overlap: false,
        stop_signal: TERM,
        stop_again: vec![],
        stop_as_group: true,
        kill_as_group: true,
        stop_wait: Duration::from_secs(30),
        kill_after: Duration::from_secs(10),
        user: None,
        group: None,
        cwd: None,
        umask: None,
        nice: None,
        no_new_privileges: None,
        limits: BTreeMap::new(),
        environment: BTreeMap::new(),
        env_files: vec![],
        inherit_environment: true,
        redirect_stderr: false,
        logs: Default::default(),
        ready: None,
        health: None,
        memory: None,
    }
}

fn queue(name: &str, numprocs: u32) -> Group {
    let work = Work::Queue(WorkerSettings {
        group: name.to_owned(),
        lanes: vec![],
        concurrency: 1,
        max_time: None,
        max_jobs: None,
        memory: None,
        sleep: Duration::from_secs(3),
        stop_wait: Duration::from_secs(30),
        kill_after: Duration::from_secs(10),
        connections: BTreeMap::new(),
        failed_jobs: FailedJobs::Redis,
        secret_variables: vec![],
    });
    Group { name: name.to_owned(), process: process(numprocs), work }
}

/// A queue whose number of workers follows its backlog.
fn scaled(name: &str, min: u32, max: u32, target: ScaleTarget) -> Group {
    let rule = Rule {
        min,
        max,
        target,
        cooldown: Duration::from_secs(4),
        step: 2,
        every: Duration::from_secs(1),
        budget: Some(Budget { name: "shared".to_owned(), max: 6 }),
    };
    let mut group = queue(name, min);
    group.process.scale = Some(rule);
    group
}

fn program(name: &str, numprocs: u32) -> Group {
    let work = Work::Program { argv: vec!["sleep".to_owned(), "60".to_owned()] };
    Group { name: name.to_owned(), process: process(numprocs), work }
}

fn written(fleet: &Fleet) -> serde_json::Value {
    serde_json::to_value(fleet).unwrap()
}

/// The fleet as the program has it that takes over.
fn successor(fleet: &Fleet) -> Fleet {
    serde_json::from_str(&serde_json::to_string(fleet).unwrap()).unwrap()
}

fn schedule(name: &str, cron: &str, overlap: Overlap) -> Group {
    let settings = ScheduleSettings {
        argv: vec!["true".to_owned()],
        cron: cron.to_owned(),
        zone: jiff::tz::TimeZone::UTC,
        overlap,
        timeout: None,
        jitter: Duration::ZERO,
        missed: Missed::Skip,
        once: None,
    };
    let process = ProcessSettings {
        autostart: false,
        startsecs: Duration::ZERO,
        startretries: 0,
        autorestart: Autorestart::Never,
        ..process(1)
    };
    Group { name: name.to_owned(), process, work: Work::Schedule(settings) }
}

fn schedule_settings(group: &mut Group) -> &mut ScheduleSettings {
    let Work::Schedule(settings) = &mut group.work else { panic!("{} is no schedule", group.name) };
    settings
}

/// Whose child it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Slot(SlotId),
    Recovery(RecoveryId),
}

#[derive(Debug, Clone)]
struct Child {
    owner: Owner,
    is_worker: bool,
    /// Files it was given; its own comes first.
    ledgers: Vec<String>,
    asked: bool,
    killed: bool,
    ready: bool,
}

/// Everything outside the fleet: children, files, people, time.
struct World {
    random: fastrand::Rng,
    /// When the program is replaced by another one in the middle.
    upgrades: fastrand::Rng,
    fleet: Fleet,
    now: Moment,
    /// How far the wall clock was set, in milliseconds.
    set_by: i64,
    /// The latest wall clock there has been before it was set.
    latest: i64,
    /// The last date each schedule has run for.
    ran: BTreeMap<String, WallTime>,
    /// Dates that are remembered over the daemon's end.
    remembered: BTreeMap<String, WallTime>,
    groups: Vec<Group>,
    children: BTreeMap<i32, Child>,
    files: BTreeSet<String>,
    next_pid: i32,
    next_ask: u64,
    open: BTreeMap<AskId, Command>,
    answers: BTreeMap<AskId, Result<Reply, Refusal>>,
    reads: Vec<AskId>,
    /// Groups that somebody wants back, and those there are to be had.
    takes: Vec<(AskId, String)>,
    dropped: Vec<Group>,
    /// Of which programs an earlier daemon has left something behind.
    earlier: BTreeSet<String>,
    asked_spawns: VecDeque<Effect>,
    published: Seen,
    settled: u32,
    ending: bool,
    exit: Option<u8>,
    again: bool,
    /// Children do what they are asked and never crash.
    calm: bool,
    /// Turns of replacement: since when the old process drains or the new one comes up; and how many there may be.
    turns: BTreeMap<SlotId, Moment>,
    /// Who is on trial in a group.
    probes: BTreeMap<String, SlotId>,
    most: Option<usize>,
    story: String,
}

impl World {
    fn new(seed: u64, groups: Vec<Group>) -> Self {
        let now = Moment::from_nanos(1_000_000_000_000);
        let wall = WallTime::from_seconds(1_767_225_600 + 1_000);
        let fleet =
            Fleet::new(groups.iter().cloned().map(Arc::new), Overall::default(), Now { moment: now, wall });
        Self {
            random: fastrand::Rng::with_seed(seed),
            upgrades: fastrand::Rng::with_seed(!seed),
            fleet,
            now,
            set_by: 0,
            latest: 0,
            ran: BTreeMap::new(),
            remembered: BTreeMap::new(),
            groups,
            children: BTreeMap::new(),
            files: BTreeSet::new(),
            next_pid: 100,
            next_ask: 0,
            open: BTreeMap::new(),
            answers: BTreeMap::new(),
            reads: vec![],
            takes: vec![],
            earlier: BTreeSet::new(),
            dropped: vec![],
            asked_spawns: VecDeque::new(),
            published: Seen::default(),
            settled: 0,
            ending: false,
            exit: None,
            again: false,
            calm: false,
            turns: BTreeMap::new(),
            probes: BTreeMap::new(),
            most: None,
            story: format!("seed {seed}"),
        }
    }

    fn now(&self) -> Now {
        let millis = i64::try_from(self.now.as_nanos() / 1_000_000).unwrap();
        Now { moment: self.now, wall: WallTime::from_millis(1_767_225_600_000 + millis + self.set_by) }
    }

    fn handle(&mut self, event: Event) {
        assert_eq!(self.exit, None, "an event after the end: {event:?} {}", self.story);
        writeln!(self.story, "\n{:?} {event:?}", self.now).unwrap();
        let is_look = matches!(event, Event::Observed(Observation::Backlog { .. }));
        let effects = match self.upgrades.u8(0..32) {
            0 => self.handle_as_two(event),
            _ => self.fleet.handle(event, self.now()),
        };
        for effect in effects.iter().filter(|_| is_look) {
            let ends_a_job = match effect {
                Effect::Drain { limit, .. } => *limit != DrainLimit::JobsOwn,
                Effect::Signal { .. } | Effect::Recover { .. } => true,
                _ => false,
            };
            assert!(!ends_a_job, "a running job is ended by scaling: {effect:?} {}", self.story);
        }
        let publishes = effects.iter().filter(|effect| **effect == Effect::Publish).count();
        assert!(publishes <= 1, "published {publishes} times: {}", self.story);
        let mut started = vec![];
        for effect in effects {
            if let Effect::Spawn { slot, group, .. } = &effect {
                started.push((*slot, group.clone()));
            }
            match effect {
                Effect::Spawn { .. } | Effect::Recover { .. } => self.asked_spawns.push_back(effect),
                other => self.carry_out(other),
            }
        }
        self.published = self.fleet.seen(1, WallTime::from_seconds(0));
        for (slot, group) in started {
            self.check_dependencies(&group);
            self.check_probe(slot, &group.name);
        }
        self.check();
        self.give_groups();
        // The daemon starts its children a few at a time, so much can happen in between.
        while self.exit.is_none() && (self.calm || self.random.bool()) && self.spawn_next() {}
    }

    /// The fleet is written down and read by the program that takes over. That one does what the old one would have done,
    /// and goes on.
    fn handle_as_two(&mut self, event: Event) -> Vec<Effect> {
        let mut successor = successor(&self.fleet);
        let now = self.now();
        let (effects, expected) = (successor.handle(event.clone(), now), self.fleet.handle(event, now));
        assert_eq!(effects, expected, "another program does something else: {}", self.story);
        assert_eq!(successor.wake_at(), self.fleet.wake_at(), "forgot a timer: {}", self.story);
        assert_eq!(written(&successor), written(&self.fleet), "forgot something: {}", self.story);
        self.fleet = successor;
        effects
    }

    /// Nothing starts before all it depends on is up.
    fn check_dependencies(&self, group: &Group) {
        for name in &group.process.depends_on {
            let is_met = |state| matches!(state, StateWord::Running | StateWord::Exited);
            let of_it = self.published.processes.iter().filter(|process| process.view.group == *name);
            let up = of_it.filter(|process| is_met(process.view.state)).count();
            let view = self.published.groups.iter().find(|view| view.name == *name);
            let wanted = view.unwrap_or_else(|| panic!("started without `{name}`: {}", self.story)).numprocs;
            assert!(up >= wanted as usize, "`{}` started before `{name}`: {}", group.name, self.story);
        }
    }

    /// While the workers of a group crash again and again, one at a time is tried.
    fn check_probe(&mut self, slot: SlotId, group: &str) {
        let view = self.published.groups.iter().find(|view| view.name == group);
        if view.is_none_or(|view| view.crash_loop.is_none()) {
            self.probes.remove(group);
            return;
        }
        let state = |slot: &SlotId| {
            self.published.processes.iter().find(|one| one.slot == *slot).map(|one| one.view.state)
        };
        if let Some(before) = self.probes.insert(group.to_owned(), slot) {
            let down = !matches!(state(&before), Some(StateWord::Starting | StateWord::Running));
            assert!(before == slot || down, "two probes in `{group}`: {}", self.story);
        }
    }

    /// In the end nothing is asked to go before all that depend on it are gone.
    fn check_end_of(&self, pid: i32) {
        if !self.ending || self.children[&pid].asked {
            return;
        }
        let process = self.published.processes.iter().find(|process| process.view.pid == Some(pid));
        // One that is not ready in time is asked to end whatever else goes on.
        let process = process.filter(|process| process.view.state == StateWord::Running);
        let Some(group) = process.map(|process| process.view.group.clone()) else { return };
        let own = self.groups.iter().find(|own| own.name == group);
        let in_circle = |other: &Group| own.is_some_and(|own| own.process.depends_on.contains(&other.name));
        for dependent in self.groups.iter().filter(|other| other.process.depends_on.contains(&group)) {
            if in_circle(dependent) {
                continue;
            }
            let mut of_it =
                self.published.processes.iter().filter(|process| process.view.group == dependent.name);
            let alive =
                of_it.any(|process| process.view.pid.is_some_and(|pid| self.children.contains_key(&pid)));
            assert!(!alive, "`{group}` is asked to end before `{}`: {}", dependent.name, self.story);
        }
    }

    fn is_depended_on(&self, name: &str) -> bool {
        let mut all = self.groups.iter().chain(&self.dropped);
        all.any(|group| group.process.depends_on.iter().any(|other| other == name))
    }

    fn spawn_next(&mut self) -> bool {
        let Some(effect) = self.asked_spawns.pop_front() else { return false };
        let event = self.spawn(effect);
        self.handle(event);
        true
    }

    fn spawn(&mut self, effect: Effect) -> Event {
        match effect {
            Effect::Spawn { slot, name, group, ledger, after, run, number: _ } => {
                if let Some(run) = run {
                    let (name, date) = (group.name.as_str(), run.date);
                    let last = self.ran.insert(name.to_owned(), date);
                    let is_later = last.is_none_or(|last| last < date);
                    assert!(is_later, "{name}: {date:?} after {last:?}: {}", self.story);
                }
                assert!(
                    !self.earlier.contains(&*name),
                    "`{name}` runs beside an earlier one: {}",
                    self.story
                );
                let is_worker = matches!(group.work, Work::Queue(_) | Work::Pool(_));
                assert_eq!(ledger.is_some(), is_worker);
                let owner = Owner::Slot(slot);
                assert!(
                    self.children.values().all(|child| child.owner != owner),
                    "a second child in one slot: {}",
                    self.story
                );
                if !self.calm && self.random.u8(0..20) == 0 {
                    return Event::SpawnFailed { slot, why: "out of memory".to_owned() };
                }
                let ledgers: Vec<String> = ledger.into_iter().chain(after).collect();
                if let Some(own) = ledgers.first() {
                    assert!(self.files.insert(own.clone()), "a ledger used twice: {}", self.story);
                }
                let pid = self.new_child(owner, is_worker, ledgers);
                self.turns.entry(slot).and_modify(|since| *since = self.now);
                writeln!(self.story, "  {slot:?} gets {pid} with {:?}", self.children[&pid].ledgers).unwrap();
                Event::Spawned { slot, pid }
            }
            Effect::Recover { recovery, ledger, .. } => {
                let owner = Owner::Recovery(recovery);
                assert!(self.children.values().all(|child| child.owner != owner));
                if !self.calm && self.random.u8(0..20) == 0 {
                    return Event::RecoverySpawned { recovery, pid: None };
                }
                let pid = self.new_child(owner, true, vec![ledger]);
                Event::RecoverySpawned { recovery, pid: Some(pid) }
            }
            other => panic!("not a spawn: {other:?}"),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        if !matches!(effect, Effect::Log(_) | Effect::Publish) {
            writeln!(self.story, "  {effect:?}").unwrap();
        }
        match effect {
            Effect::Signal { pid, signal, .. } => {
                if signal != 10 && self.children.contains_key(&pid) {
                    self.check_end_of(pid);
                }
                let story = &self.story;
                let child = self.children.get_mut(&pid);
                let child = child.unwrap_or_else(|| panic!("a signal to a stranger: {story}"));
                child.asked |= signal == KILL || signal == TERM;
                child.killed |= signal == KILL;
            }
            Effect::Drain { pid, .. } => {
                if let Owner::Slot(slot) = self.children[&pid].owner {
                    self.turn_given(slot);
                }
                if self.children.contains_key(&pid) {
                    self.check_end_of(pid);
                }
                let story = &self.story;
                let child = self.children.get_mut(&pid);
                let child = child.unwrap_or_else(|| panic!("a stranger told to drain: {story}"));
                assert!(child.is_worker);
                child.asked = true;
            }
            Effect::Tune { pid, .. } => {
                assert!(self.children.contains_key(&pid), "a stranger tuned: {}", self.story);
            }
            Effect::Answer(ask, answer) => {
                assert!(self.open.remove(&ask).is_some(), "answered twice: {ask:?} {}", self.story);
                self.answers.insert(ask, answer);
            }
            Effect::ReadManifest { ask, .. } => {
                self.reads.push(ask);
            }
            Effect::Settled => {
                self.settled += 1;
            }
            Effect::ShuttingDown { .. } => self.ending = true,
            Effect::Upgrade { ask, .. } => {
                self.open.remove(&ask);
                self.answers.insert(ask, Ok(Reply { results: vec![] }));
            }
            Effect::TakeGroup { ask, group } => self.takes.push((ask, group)),
            Effect::GroupDropped { group } => {
                let at = self.groups.iter().position(|other| other.name == group).unwrap();
                self.ran.remove(&group);
                self.dropped.push(self.groups.remove(at));
            }
            Effect::Input { ask, pid, .. } => {
                assert!(self.children.contains_key(&pid), "a stranger gets to read: {}", self.story);
                self.open.remove(&ask);
                self.answers.insert(ask, Ok(Reply { results: vec![] }));
            }
            Effect::Exit(Ended { code, again }) => {
                self.exit = Some(code);
                self.again = again;
            }
            Effect::Remember { schedule, date } => {
                self.remembered.insert(schedule, date);
            }
            Effect::Renamed { .. }
            | Effect::Gone { .. }
            | Effect::Log(_)
            | Effect::Publish
            | Effect::Spawn { .. }
            | Effect::Recover { .. } => {}
        }
    }

    fn new_child(&mut self, owner: Owner, is_worker: bool, ledgers: Vec<String>) -> i32 {
        self.next_pid += 1;
        let child = Child { owner, is_worker, ledgers, asked: false, killed: false, ready: false };
        self.children.insert(self.next_pid, child);
        self.next_pid
    }

    /// What holds for all groups together becomes this.
    fn reload_overall(&mut self, overall: Overall) {
        let ask = self.ask(Command::Reload { dry_run: false, reset: false });
        self.reads.clear();
        let order = self.groups.iter().map(|group| group.name.clone()).collect();
        let plan = Plan { order, overall: Some((overall, vec![])), ..Plan::default() };
        self.handle(Event::ManifestRead(ask, Ok(plan)));
    }

    /// Of each group all but one are up.
    fn check_floor(&self) {
        for group in &self.published.groups {
            let of_it = self.published.processes.iter().filter(|one| one.view.group == group.name);
            let down = of_it.filter(|one| one.view.state != StateWord::Running).count();
            assert!(down <= 1, "{} below its floor: {}", group.name, self.story);
        }
    }

    /// Somebody is taken away: so many may be, those left out whose process drains or comes up for long.
    fn turn_given(&mut self, slot: SlotId) {
        let Some(most) = self.most else { return };
        let counts = |since: &&Moment| self.now.since(**since) < Duration::from_secs(30);
        let under_way = self.turns.values().filter(counts).count();
        assert!(under_way < most, "{under_way} of {most} are missing: {}", self.story);
        self.turns.insert(slot, self.now);
    }

    /// What must hold after every event.
    fn check(&mut self) {
        let shown: BTreeSet<i32> =
            self.published.processes.iter().filter_map(|process| process.view.pid).collect();
        let alive: BTreeSet<i32> = self
            .children
            .iter()
            .filter(|(_, child)| matches!(child.owner, Owner::Slot(_)))
            .map(|(pid, _)| *pid)
            .collect();
        assert_eq!(shown, alive, "status shows other processes than there are: {}", self.story);
        let names: BTreeSet<_> = self.published.processes.iter().map(|process| &process.view.name).collect();
        assert_eq!(names.len(), self.published.processes.len(), "two slots of one name: {}", self.story);
        if let Some(at) = self.fleet.wake_at() {
            assert!(at >= self.now || self.exit.is_some(), "a timer that was forgotten: {}", self.story);
        }
        for view in &self.published.groups {
            let Some(scale) = view.scale.as_ref().filter(|_| view.manifest_numprocs.is_none()) else {
                continue;
            };
            let is_leaving = view.numprocs == 0;
            let fits = (scale.min..=scale.max).contains(&view.numprocs);
            assert!(fits || is_leaving, "{view:?} is out of its bounds: {}", self.story);
        }
        if !self.reads.is_empty() {
            return;
        }
        for group in &self.groups {
            let view = self.published.groups.iter().find(|view| view.name == group.name).unwrap();
            let slots = self.published.processes.iter().filter(|process| process.view.group == group.name);
            assert!(slots.count() >= view.numprocs as usize, "slots missing in status: {}", self.story);
        }
    }

    fn ask(&mut self, command: Command) -> AskId {
        self.next_ask += 1;
        let ask = AskId(self.next_ask);
        self.open.insert(ask, command.clone());
        self.handle(Event::Asked(ask, command));
        ask
    }

    /// As the runtime does it: at once.
    fn give_groups(&mut self) {
        while let Some((ask, name)) = self.takes.pop() {
            let taken = match self.dropped.iter().position(|group| group.name == name) {
                Some(at) => {
                    let group = self.dropped.remove(at);
                    self.groups.push(group.clone());
                    let order = self.groups.iter().map(|group| group.name.clone()).collect();
                    Ok(TakenGroup { settings: Arc::new(group), order })
                }
                None => Err(name),
            };
            self.handle(Event::GroupTaken(ask, taken));
        }
    }

    fn answer_reads(&mut self) {
        for ask in std::mem::take(&mut self.reads) {
            if self.random.u8(0..6) == 0 {
                self.handle(Event::ManifestRead(ask, Err("line 1: nonsense".to_owned())));
                continue;
            }
            let applies = matches!(self.open.get(&ask), Some(Command::Reload { dry_run: false, .. }));
            let (groups, plan) = self.new_manifest();
            if applies {
                self.dropped.retain(|dropped| groups.iter().all(|group| group.name != dropped.name));
                self.groups = groups;
            }
            self.handle(Event::ManifestRead(ask, Ok(plan)));
        }
    }

    /// A random neighbour of the manifest in force.
    fn new_manifest(&mut self) -> (Vec<Group>, Plan) {
        let mut groups = self.groups.clone();
        let mut changes = vec![];
        for _ in 0..self.random.usize(1..4) {
            let at = self.random.usize(0..=groups.len());
            let touched = |changes: &Vec<GroupChange>, name: &str| {
                changes.iter().any(|change| match change {
                    GroupChange::Removed(other) => other == name,
                    GroupChange::Added(group) | GroupChange::Restart(group) | GroupChange::InPlace(group) => {
                        group.name == name
                    }
                })
            };
            let Some(group) = groups.get_mut(at) else {
                let name = format!("extra{}", self.random.u8(0..3));
                if groups.iter().any(|group| group.name == name) || touched(&changes, &name) {
                    continue;
                }
                let group = match self.random.u8(0..3) {
                    0 => queue(&name, 2),
                    1 => program(&name, 1),
                    _ => schedule(&name, "* * * * *", Overlap::Skip),
                };
                changes.push(GroupChange::Added(Arc::new(group.clone())));
                groups.push(group);
                continue;
            };
            if touched(&changes, &group.name) {
                continue;
            }
            match self.random.u8(0..5) {
                // A manifest must not name what it does not have.
                0 if self.is_depended_on(&group.name) => {}
                0 => {
                    self.ran.remove(&group.name);
                    changes.push(GroupChange::Removed(groups.remove(at).name));
                }
                _ if matches!(group.work, Work::Schedule(_)) => {
                    let every = self.random.u8(1..4);
                    let settings = schedule_settings(group);
                    settings.cron = format!("*/{every} * * * *");
                    settings.overlap = [Overlap::Skip, Overlap::Queue, Overlap::Kill, Overlap::Allow]
                        [self.random.usize(0..4)];
                    changes.push(GroupChange::InPlace(Arc::new(group.clone())));
                }
                1 | 2 => {
                    group.process.numprocs = self.random.u32(0..4);
                    if let Some(rule) = &mut group.process.scale {
                        (rule.min, rule.max) = (1 + self.random.u32(0..2), 3 + self.random.u32(0..3));
                        group.process.numprocs = rule.min;
                    }
                    if matches!(group.work, Work::Queue(_)) {
                        group.process.overlap = self.random.bool();
                    }
                    changes.push(GroupChange::InPlace(Arc::new(group.clone())));
                }
                _ => {
                    group.process.stop_wait = Duration::from_secs(self.random.u64(0..60));
                    changes.push(GroupChange::Restart(Arc::new(group.clone())));
                }
            }
        }
        let order = groups.iter().map(|group| group.name.clone()).collect();
        (groups, Plan { order, changes, ..Plan::default() })
    }

    fn end_child(&mut self, pid: i32, exit: Exit) {
        let Some(child) = self.children.remove(&pid) else { return };
        let clean = matches!(exit, Exit::Code(0 | 75));
        // Who ends in good order clears away what it was given; what it waited for only if it came that far.
        let cleared = match child.owner {
            Owner::Slot(_) if clean && child.ready => child.ledgers.clone(),
            Owner::Slot(_) if clean => child.ledgers.first().into_iter().cloned().collect(),
            Owner::Slot(_) if child.ready => child.ledgers.iter().skip(1).cloned().collect(),
            Owner::Slot(_) => vec![],
            Owner::Recovery(_) if clean => child.ledgers.clone(),
            Owner::Recovery(_) => vec![],
        };
        for file in &cleared {
            self.files.remove(file);
        }
        let left = child.ledgers.into_iter().filter(|file| self.files.contains(file)).collect();
        self.handle(Event::ChildExited { pid, exit, left });
    }

    fn say(&mut self, pid: i32, message: FromChild) {
        if let (FromChild::Ready, Owner::Slot(slot)) = (&message, self.children[&pid].owner) {
            self.turns.remove(&slot);
        }
        self.handle(Event::FromChild { pid, message });
    }

    /// One child does something that fits its life.
    fn child_lives(&mut self) {
        let pids: Vec<i32> = self.children.keys().copied().collect();
        if pids.is_empty() {
            return;
        }
        let pid = pids[self.random.usize(0..pids.len())];
        let child = self.children[&pid].clone();
        if matches!(child.owner, Owner::Recovery(_)) {
            let code = i32::from(!self.calm && self.random.u8(0..4) == 0);
            return self.end_child(pid, Exit::Code(code));
        }
        if child.asked {
            let exit = if self.calm { Exit::Code(0) } else { self.any_exit() };
            return self.end_child(pid, exit);
        }
        match self.random.u8(0..10) {
            0..=5 if !child.ready => self.becomes_ready(pid, &child),
            // Seldom in calm times: some moment must come at which nobody is on the way.
            6 if child.is_worker && child.ready && (!self.calm || self.random.u8(0..4) == 0) => {
                self.say(pid, FromChild::WantsReplacement { because: Recycle::MaxTime });
            }
            7 if child.is_worker && child.ready => {
                let report = Report {
                    running: if self.calm { 0 } else { self.random.u32(0..2) },
                    completed: self.now.as_nanos() / 1_000_000_000,
                    gates: vec!["app held".to_owned(); usize::from(!self.calm && self.random.u8(0..8) == 0)],
                    ..Report::default()
                };
                self.say(pid, FromChild::Report(report));
            }
            8 if child.is_worker && !child.ready => self.say(pid, FromChild::Waiting { pid: 4242 }),
            9 if !self.calm => {
                let exit = self.any_exit();
                self.end_child(pid, exit);
            }
            _ => {}
        }
    }

    /// Nobody ends before it is killed; time runs from one timer to the next. Says how long the end took.
    fn stubborn_end(&mut self) -> Duration {
        let began = self.now;
        for _ in 0..10_000 {
            while self.exit.is_none() && self.spawn_next() {}
            if self.exit.is_some() {
                return self.now.since(began);
            }
            let killed = self.children.iter().find(|(_, child)| child.killed).map(|(pid, _)| *pid);
            match (killed, self.fleet.wake_at()) {
                (Some(pid), _) => self.end_child(pid, Exit::Signal("KILL".to_owned())),
                (None, Some(at)) => {
                    self.now = self.now.max(at);
                    self.handle(Event::TimePassed);
                }
                (None, None) => panic!("waits for ever: {}", self.story),
            }
        }
        panic!("does not end: {}", self.story);
    }

    fn becomes_ready(&mut self, pid: i32, child: &Child) {
        self.children.get_mut(&pid).unwrap().ready = true;
        if !child.is_worker {
            return self.handle(Event::LinkClosed { pid });
        }
        // Ready means that what it waited for has been recovered.
        for file in child.ledgers.iter().skip(1) {
            self.files.remove(file);
        }
        self.say(pid, FromChild::Ready);
    }

    /// Before much time passes, whoever nothing keeps from it is ready.
    fn all_become_ready(&mut self) {
        let slow = |child: &Child| matches!(child.owner, Owner::Slot(_)) && !child.ready && !child.asked;
        while let Some((pid, child)) = self.children.iter().find(|(_, child)| slow(child)) {
            let (pid, child) = (*pid, child.clone());
            self.becomes_ready(pid, &child);
        }
    }

    fn any_exit(&mut self) -> Exit {
        match self.random.u8(0..4) {
            0 => Exit::Code(0),
            1 => Exit::Code(1),
            2 => Exit::Code(75),
            _ => Exit::Signal("KILL".to_owned()),
        }
    }

    fn pass_time(&mut self, by: Duration) {
        self.now = self.now + by;
        self.handle(Event::TimePassed);
    }

    fn some_names(&mut self) -> Vec<Selector> {
        let group = |world: &mut Self| match world.random.usize(0..=world.groups.len()) {
            at if at < world.groups.len() => world.groups[at].name.clone(),
            _ => "nobody".to_owned(),
        };
        match self.random.u8(0..6) {
            0 => vec![Selector::All],
            1 => vec![Selector::Process(group(self), self.random.u8(0..3).to_string())],
            _ => vec![Selector::Group(group(self))],
        }
    }

    fn anything(&mut self) {
        match self.random.u8(0..45) {
            0 => {
                let names = self.some_names();
                self.ask(Command::Start { names });
            }
            1 => {
                let names = self.some_names();
                self.ask(Command::Stop { names });
            }
            2 | 3 => {
                let (names, now) = (self.some_names(), self.random.u8(0..4) == 0);
                let batch = self.random.bool().then(|| self.random.u32(0..4));
                self.ask(Command::Restart { names, now, batch });
            }
            4 => {
                let Some(Selector::Group(group)) = self.some_names().pop() else { return };
                let to = self.random.u32(0..4);
                self.ask(Command::Scale { group, to });
            }
            5 => {
                let names = self.some_names();
                self.ask(Command::Signal { names, signal: 10 });
            }
            6 => {
                let (dry_run, reset) = (self.random.u8(0..4) == 0, self.random.u8(0..4) == 0);
                self.ask(Command::Reload { dry_run, reset });
            }
            7 | 8 => self.answer_reads(),
            34 => {
                let Some(Selector::Group(group)) = self.some_names().pop() else { return };
                if self.is_depended_on(&group) {
                    return;
                }
                self.ask(Command::RemoveGroup { group });
            }
            35 => {
                let Some(group) = self.dropped.first().map(|group| group.name.clone()) else { return };
                self.ask(Command::AddGroup { group });
            }
            36 => {
                let name = Selector::Process("web".to_owned(), "web".to_owned());
                self.ask(Command::Input { name, text: "x".to_owned() });
            }
            37 => self.observe(),
            38 => self.earlier_goes(),
            39 => self.set_clock(),
            40 => self.upgrade(),
            41 | 42 => self.probe(),
            43 => self.speak(),
            31..=33 => {
                self.spawn_next();
            }
            9..=30 => self.child_lives(),
            _ => {
                let by = Duration::from_millis(self.random.u64(0..3000));
                self.pass_time(by);
            }
        }
    }

    /// One of those that an earlier daemon has left behind has ended.
    fn earlier_goes(&mut self) {
        if let Some(name) = self.earlier.pop_first() {
            self.handle(Event::EarlierGone { name });
        }
    }

    /// Somebody looks at what is to be watched.
    fn probe(&mut self) {
        let watches: Vec<Watch> =
            self.published.processes.iter().flat_map(|process| process.watches.clone()).collect();
        let Some(at) = (!watches.is_empty()).then(|| self.random.usize(0..watches.len())) else { return };
        let Watch { process, pid, what } = watches[at].clone();
        let question = match what {
            Watched::Ready(_) => Question::Ready,
            Watched::Health { .. } => Question::Healthy,
            Watched::Memory(most) => {
                let bytes = if self.calm { 0 } else { most + 1 };
                return self.handle(Event::Observed(Observation::Memory { process, pid, bytes }));
            }
        };
        let times = self.random.u32(1..5);
        let fails = !self.calm && self.random.u8(0..3) == 0;
        let trouble = fails.then(|| ProbeTrouble { why: "it does not answer".to_owned(), times });
        self.handle(Event::Observed(Observation::Probed { process, pid, question, trouble }));
    }

    /// Programs say how they are, whether anybody waits for it or not.
    fn speak(&mut self) {
        let of_web = self.published.processes.iter().filter(|it| it.view.group == "web");
        let pids: Vec<i32> = of_web.filter_map(|it| it.view.pid).collect();
        for pid in pids {
            let ready = self.calm || self.random.u8(0..3) == 0;
            let status = self.random.bool().then(|| "reading its rules".to_owned());
            let notice = Notice { ready, status };
            self.handle(Event::Observed(Observation::Notified { pid, notice }));
        }
    }

    /// The wall clock goes back by less than the shortest interval of a schedule, or forward by anything.
    fn set_clock(&mut self) {
        self.latest = self.latest.max(self.now().wall.as_millis());
        self.set_by += self.random.i64(-50_000..400_000);
        self.set_by += (self.latest - 50_000 - self.now().wall.as_millis()).max(0);
        self.handle(Event::ClockSet);
    }

    /// Another program takes over; whoever waits has been told so.
    fn upgrade(&mut self) {
        self.ask(Command::Upgrade { binary: None });
        if self.exit.is_none() && self.reads.is_empty() && self.asked_spawns.is_empty() {
            self.open.clear();
            self.handle(Event::AskersSentAway);
        }
    }

    /// Somebody outside the loop has found something out, maybe of what is not there any more.
    fn observe(&mut self) {
        let Some(Selector::Group(group)) = self.some_names().pop() else { return };
        let found = match self.random.u8(0..4) {
            0 => Err("redis does not answer".to_owned()),
            _ => Ok(Backlog { waiting: self.random.u64(0..200), paused: self.random.u8(0..8) == 0 }),
        };
        self.handle(Event::Observed(Observation::Backlog { group, found }));
    }

    /// Nothing bad happens any more: children do what they should, timers ring when they are due.
    fn calm_down(&mut self) {
        self.calm = true;
        while !self.earlier.is_empty() && self.exit.is_none() {
            self.earlier_goes();
        }
        for _ in 0..20_000 {
            self.answer_reads();
            while self.exit.is_none() && self.spawn_next() {}
            if self.exit.is_some() || (self.at_ease() && self.open.is_empty()) {
                return;
            }
            self.child_lives();
            if self.random.u8(0..8) == 0 && self.exit.is_none() {
                self.all_become_ready();
                self.probe();
                self.speak();
                while self.published.processes.iter().any(|it| it.watches.iter().any(is_readiness)) {
                    self.probe();
                }
                match self.fleet.wake_at() {
                    Some(at) => {
                        self.now = self.now.max(at);
                        self.handle(Event::TimePassed);
                    }
                    None => self.pass_time(Duration::from_secs(1)),
                }
            }
        }
        let states = self.published.processes.iter().map(|it| (&it.view.name, it.view.state));
        let states: Vec<_> = states.collect();
        panic!("it does not come to rest; open: {:?} {states:?} {}", self.open, self.story);
    }

    /// Every process is up or at rest, and every ledger belongs to a living worker.
    fn at_ease(&self) -> bool {
        let on_its_way =
            |state| matches!(state, StateWord::Starting | StateWord::Stopping | StateWord::Backoff);
        let waits = |process: &ProcessSeen| {
            let group = self.groups.iter().find(|group| group.name == process.view.group);
            let of_its = |other: &&Arc<ProcessSeen>| {
                group.is_some_and(|group| group.process.depends_on.contains(&other.view.group))
            };
            let mut needed = self.published.processes.iter().filter(of_its);
            process.view.pid.is_none() && needed.any(|other| other.view.state.is_down())
        };
        let mut processes = self.published.processes.iter();
        let settled = !processes.any(|process| on_its_way(process.view.state) && !waits(process));
        settled && self.files.iter().all(|file| self.is_held(file))
    }

    fn is_held(&self, file: &String) -> bool {
        let holds =
            |child: &Child| matches!(child.owner, Owner::Slot(_)) && child.ledgers.first() == Some(file);
        self.children.values().any(holds)
    }

    fn state_of(&self, name: &str) -> StateWord {
        self.published.processes.iter().find(|process| process.view.name == name).unwrap().view.state
    }

    fn answer(&self, ask: AskId) -> Vec<(String, bool, String)> {
        let reply = self.answers.get(&ask).unwrap_or_else(|| panic!("unanswered: {}", self.story));
        let results = reply.clone().unwrap().results;
        results.into_iter().map(|result| (result.name, result.ok, result.text)).collect()
    }

    fn begin(&mut self) {
        self.calm = true;
        self.handle(began(vec![], vec![]));
        self.calm_down();
    }

    fn pid_of(&self, name: &str) -> i32 {
        self.published.processes.iter().find(|process| process.view.name == name).unwrap().view.pid.unwrap()
    }
}

fn began(ledgers: Vec<String>, earlier: Vec<String>) -> Event {
    Event::Began { ledgers, earlier, dates: BTreeMap::new() }
}

fn is_readiness(watch: &Watch) -> bool {
    matches!(watch.what, Watched::Ready(_))
}

fn some_probe() -> Probe {
    let target = Target::Tcp("127.0.0.1:1".to_owned());
    Probe { target, interval: Duration::from_secs(1), timeout: Duration::from_secs(1) }
}

fn ready() -> Ready {
    Ready { sign: Sign::Probe(some_probe()), within: Duration::from_secs(60) }
}

fn notify() -> Ready {
    Ready { sign: Sign::Notify, ..ready() }
}

fn health() -> Health {
    Health { probe: some_probe(), failures: 3, start_period: Duration::ZERO }
}

#[test]
fn what_works_is_not_taken_away_together_with_what_does_not() {
    let mut web = program("web", 3);
    web.process.health = Some(health());
    let mut world = World::new(23, vec![web]);
    world.begin();
    let pids: Vec<i32> = world.children.keys().copied().collect();
    let say = |world: &mut World, number: usize, times: u32| {
        let process = format!("web:web_0{number}");
        let pid = world.pid_of(&process);
        let trouble = (times > 0).then(|| ProbeTrouble { why: "GET answered 500".to_owned(), times });
        let question = Question::Healthy;
        world.handle(Event::Observed(Observation::Probed { process, pid, question, trouble }));
    };
    let asked = |world: &World| world.children.values().filter(|child| child.asked).count();
    say(&mut world, 0, 2);
    assert_eq!(asked(&world), 0, "not often enough");
    say(&mut world, 0, 3);
    assert!(world.children[&pids[0]].asked);
    let zone = jiff::tz::TimeZone::UTC;
    let told = |world: &World, at: usize| {
        render(&world.published, world.now, &zone).processes[at].description.clone()
    };
    assert_eq!(told(&world, 0), "unhealthy: GET answered 500, 3 times in a row");
    say(&mut world, 1, 3);
    say(&mut world, 2, 9);
    assert_eq!(asked(&world), 1, "the others wait for it");
    assert!(told(&world, 1).ends_with(", unhealthy: GET answered 500, 3 times in a row"));
    say(&mut world, 2, 0);
    world.end_child(pids[0], Exit::Code(0));
    while world.state_of("web:web_00") != StateWord::Running {
        let newest = *world.children.keys().next_back().unwrap();
        world.handle(Event::LinkClosed { pid: newest });
        world.pass_time(Duration::from_secs(1));
    }
    assert!(world.children[&pids[1]].asked && !world.children[&pids[2]].asked, "it has recovered");
    world.calm_down();
    (0..3).for_each(|number| {
        let held = asked(&world);
        say(&mut world, number, 3);
        assert!(number == 0 || held > 0);
    });
    world.calm_down();
    assert!(world.published.processes.iter().all(|process| process.view.state == StateWord::Running));
}

#[test]
fn all_that_are_unhealthy_are_replaced_together_when_none_is_left_to_protect() {
    let mut web = program("web", 1);
    web.process.health = Some(health());
    web.process.memory = Some(1 << 20);
    let mut world = World::new(23, vec![web]);
    world.begin();
    let (process, pid) = ("web".to_owned(), world.pid_of("web"));
    let above = Observation::Memory { process, pid, bytes: (1 << 20) + 1 };
    world.handle(Event::Observed(above.clone()));
    assert!(world.children[&pid].asked, "the only one is replaced, too");
    world.handle(Event::Observed(above));
    world.calm_down();
    assert_ne!(world.pid_of("web"), pid);
}

#[test]
fn a_program_is_waited_for_until_it_is_ready() {
    let mut web = program("web", 1);
    web.process.ready = Some(ready());
    let mut after = program("after", 1);
    after.process.depends_on = vec!["web".to_owned()];
    let mut world = World::new(23, vec![web, after]);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    let pid = world.pid_of("web");
    world.handle(Event::LinkClosed { pid });
    world.pass_time(Duration::from_secs(5));
    let say = |world: &mut World, trouble: Option<ProbeTrouble>| {
        let (process, question) = ("web".to_owned(), Question::Ready);
        world.handle(Event::Observed(Observation::Probed { process, pid, question, trouble }));
    };
    say(&mut world, Some(ProbeTrouble { why: "connection refused".to_owned(), times: 1 }));
    let status = render(&world.published, world.now, &jiff::tz::TimeZone::UTC);
    assert_eq!(status.processes[0].description, "not ready yet: connection refused");
    assert_eq!(status.processes[1].description, "waiting for `web`");
    say(&mut world, None);
    assert_eq!(world.state_of("web"), StateWord::Running);
    world.calm_down();
    assert_eq!(world.state_of("after"), StateWord::Running);
}

#[test]
fn a_program_says_itself_that_it_is_ready() {
    let mut web = program("web", 1);
    web.process.ready = Some(notify());
    web.process.startsecs = Duration::from_secs(10);
    let mut world = World::new(23, vec![web]);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    let pid = world.pid_of("web");
    let told = |world: &World| {
        let status = render(&world.published, world.now, &jiff::tz::TimeZone::UTC);
        (status.processes[0].state, status.processes[0].description.clone())
    };
    let starting = |text: &str| (StateWord::Starting, text.to_owned());
    let say = |world: &mut World, pid: i32, ready: bool, status: Option<&str>| {
        let notice = Notice { ready, status: status.map(str::to_owned) };
        world.handle(Event::Observed(Observation::Notified { pid, notice }));
    };
    assert_eq!(told(&world), starting("not ready yet: waiting for its `READY=1`"));
    say(&mut world, pid, false, Some("reading its rules"));
    assert_eq!(told(&world), starting("not ready yet: reading its rules"));
    say(&mut world, pid + 1, true, None);
    world.pass_time(Duration::from_secs(20));
    assert_eq!(told(&world), starting("not ready yet: reading its rules"), "`startsecs` is not enough");
    // Its words may come before it is seen that it was executed.
    say(&mut world, pid, true, None);
    say(&mut world, pid, false, Some("takes requests"));
    assert_eq!(told(&world), starting(""), "what it says now is nothing to wait for");
    world.handle(Event::LinkClosed { pid });
    assert_eq!(told(&world).0, StateWord::Running);
    say(&mut world, pid, false, Some("takes requests"));
    say(&mut world, pid, true, None);
    world.pass_time(Duration::from_secs(100));
    assert_eq!(told(&world).0, StateWord::Running);
    assert_eq!(world.pid_of("web"), pid, "it is not taken for unhealthy");
}

#[test]
fn a_program_that_does_not_say_that_it_is_ready_has_failed() {
    let mut web = program("web", 1);
    web.process.ready = Some(notify());
    let mut world = World::new(23, vec![web]);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    let pid = world.pid_of("web");
    world.handle(Event::LinkClosed { pid });
    world.pass_time(Duration::from_secs(59));
    assert!(!world.children[&pid].asked);
    world.pass_time(Duration::from_secs(2));
    assert!(world.children[&pid].asked);
}

fn some_groups(with_schedules: bool) -> Vec<Group> {
    let mut last = queue("last", 2);
    last.process.priority = 1000;
    last.process.overlap = true;
    let mut redis = program("redis", 1);
    redis.process.stop_again = vec![(Duration::from_secs(10), 3)];
    redis.process.retry_fatal = Some(Duration::from_secs(5));
    let mut messages = queue("messages", 3);
    messages.process.depends_on = vec!["redis".to_owned()];
    let mut web = program("web", 1);
    web.process.depends_on = vec!["cron".to_owned(), "redis".to_owned()];
    web.process.ready = Some(notify());
    web.process.memory = Some(1 << 20);
    let mut cron = program("cron", 2);
    cron.process.health = Some(health());
    redis.process.ready = Some(ready());
    let groups = [messages, web, cron, redis, last].into_iter();
    groups.chain(some_schedules().into_iter().filter(|_| with_schedules)).collect()
}

fn some_scaled() -> Vec<Group> {
    let in_time = ScaleTarget::Time(Duration::from_secs(30));
    vec![scaled("sized", 1, 4, ScaleTarget::Size(20)), scaled("timed", 1, 5, in_time)]
}

fn some_schedules() -> Vec<Group> {
    let mut limited = schedule("limited", "* * * * *", Overlap::Kill);
    schedule_settings(&mut limited).timeout = Some(Duration::from_secs(20));
    schedule_settings(&mut limited).missed = Missed::RunOnce;
    let mut next = schedule("next", "*/2 * * * *", Overlap::Queue);
    next.process.depends_on = vec!["redis".to_owned()];
    vec![limited, schedule("many", "* * * * *", Overlap::Allow), next]
}

#[test]
fn whatever_happens_the_promises_hold() {
    for seed in 0..500 {
        let mut groups = some_groups(seed % 3 == 0);
        if seed % 3 == 1 {
            groups.extend(some_scaled());
        }
        let mut world = World::new(seed, groups);
        let ledgers = ["messages.messages_00.7", "messages.messages_01.3", "gone.gone_00.9", "web"];
        let ledgers: Vec<String> = ledgers.map(str::to_owned).into();
        world.files.extend(ledgers.iter().filter(|name| name.contains('_')).cloned());
        let earlier = vec!["web".to_owned(), "cron:cron_01".to_owned(), "gone".to_owned()];
        world.earlier.extend(earlier.iter().cloned());
        world.handle(began(ledgers, earlier));
        for _ in 0..250 {
            world.anything();
        }
        // Whatever an operator stopped is started again, so that every process must be up in the end.
        world.calm_down();
        world.ask(Command::Start { names: vec![Selector::All] });
        world.calm_down();
        assert_eq!(world.settled, 1);
        for group in world.published.groups.iter().filter(|group| group.kind != GroupKind::Schedule) {
            let slots: Vec<_> = world
                .published
                .processes
                .iter()
                .filter(|process| process.view.group == group.name)
                .map(|process| process.view.state)
                .collect();
            assert_eq!(slots, vec![StateWord::Running; group.numprocs as usize], "{}", world.story);
        }
        world.calm = false;
        world.ask(Command::Shutdown { wait: false });
        for _ in 0..20 {
            if world.exit.is_none() {
                world.child_lives();
            }
        }
        world.calm_down();
        assert!(matches!(world.exit, Some(0 | 75)), "{}", world.story);
        assert!(
            world.children.values().all(|child| child.asked),
            "somebody was left behind: {}",
            world.story
        );
        assert!(world.open.is_empty(), "somebody still waits: {}", world.story);
    }
}

#[test]
fn a_rolling_restart_never_takes_the_group_below_its_floor() {
    for seed in 0..200 {
        let mut world = World::new(seed, vec![queue("messages", 4), queue("emails", 2)]);
        world.begin();
        world.calm = true;
        let before: BTreeSet<i32> = world.children.keys().copied().collect();
        let ask = world.ask(Command::Restart { names: vec![Selector::All], now: false, batch: None });
        let again = world.ask(Command::Restart {
            names: vec![Selector::Group("emails".into())],
            now: false,
            batch: None,
        });
        assert_eq!(world.answers[&again], Err(Refusal::RolloutUnderWay { group: "emails".to_owned() }));
        for _ in 0..100_000 {
            if world.answers.contains_key(&ask) {
                break;
            }
            world.child_lives();
            for (group, floor) in [("messages", 3), ("emails", 1)] {
                let up = world.published.processes.iter().filter(|process| {
                    process.view.group == group && process.view.state == StateWord::Running
                });
                assert!(up.count() >= floor, "{group} below its floor: {}", world.story);
            }
        }
        let results = world.answer(ask);
        assert_eq!(results.len(), 6);
        assert!(results.iter().all(|(_, ok, text)| *ok && text == "restarted"), "{results:?}");
        assert!(world.children.keys().all(|pid| !before.contains(pid)), "{}", world.story);
    }
}

#[test]
fn a_rolling_restart_halts_when_a_replacement_does_not_become_ready() {
    let mut world = World::new(1, vec![queue("messages", 3)]);
    world.begin();
    let ask = world.ask(Command::Restart {
        names: vec![Selector::Group("messages".into())],
        now: false,
        batch: None,
    });
    for _ in 0..2 {
        let pid = world.pid_of("messages:messages_00");
        world.end_child(pid, Exit::Code(1));
        if let Some(at) = world.fleet.wake_at() {
            world.now = at;
            world.handle(Event::TimePassed);
        }
    }
    let pid = world.pid_of("messages:messages_00");
    world.end_child(pid, Exit::Code(1));
    let results = world.answer(ask);
    let why = "the new process does not become ready: ended before it was ready, with exit code 1";
    assert_eq!(results[0].2, why);
    assert_eq!(results[1].2, "not restarted: an earlier replacement does not become ready");
    assert_eq!(world.state_of("messages:messages_01"), StateWord::Running);
}

fn overlapping(name: &str, numprocs: u32) -> Group {
    let mut group = queue(name, numprocs);
    group.process.overlap = true;
    group
}

/// How many of a group are up, and how many there are.
fn up_of(world: &World, group: &str) -> (usize, usize) {
    let of_it = || world.published.processes.iter().filter(|process| process.view.group == group);
    (of_it().filter(|process| process.view.state == StateWord::Running).count(), of_it().count())
}

#[test]
fn with_overlap_no_worker_is_ever_missing_and_the_further_one_goes_in_the_end() {
    for seed in 0..200 {
        let mut world = World::new(seed, vec![overlapping("messages", 3), overlapping("emails", 1)]);
        world.begin();
        world.calm = true;
        let before: BTreeSet<i32> = world.children.keys().copied().collect();
        let ask = match seed % 2 {
            0 => {
                let batch = (seed % 4 == 0).then_some(2);
                Some(world.ask(Command::Restart { names: vec![Selector::All], now: false, batch }))
            }
            _ => {
                for pid in &before {
                    world.say(*pid, FromChild::WantsReplacement { because: Recycle::MaxJobs });
                }
                None
            }
        };
        for _ in 0..100_000 {
            let sizes = [("messages", 3), ("emails", 1)].map(|(group, floor)| {
                let (up, all) = up_of(&world, group);
                assert!((floor..=floor + 2).contains(&up), "{up} of {group} are up: {}", world.story);
                all - floor
            });
            if sizes == [0, 0] && world.children.keys().all(|pid| !before.contains(pid)) {
                break;
            }
            world.child_lives();
        }
        assert_eq!((up_of(&world, "messages"), up_of(&world, "emails")), ((3, 3), (1, 1)), "{}", world.story);
        if let Some(ask) = ask {
            let results = world.answer(ask);
            assert_eq!(results.len(), 4, "{results:?}");
            assert!(results.iter().all(|(_, ok, text)| *ok && text == "restarted"), "{results:?}");
        }
    }
}

#[test]
fn nobody_is_taken_away_when_the_further_worker_does_not_come_up() {
    let mut world = World::new(1, vec![overlapping("messages", 2)]);
    world.begin();
    let before: BTreeSet<i32> = world.children.keys().copied().collect();
    let names = vec![Selector::Group("messages".into())];
    let ask = world.ask(Command::Restart { names, now: false, batch: None });
    while !world.answers.contains_key(&ask) {
        if world.state_of("messages:messages_02") == StateWord::Starting {
            let pid = world.pid_of("messages:messages_02");
            world.end_child(pid, Exit::Code(1));
        }
        if let Some(at) = world.fleet.wake_at() {
            world.now = at;
            world.handle(Event::TimePassed);
        }
    }
    let results = world.answer(ask);
    let why = "not restarted: the further worker that `overlap` wants does not become ready";
    assert_eq!(results.iter().map(|(_, _, text)| text.as_str()).collect::<Vec<_>>(), [why, why]);
    assert_eq!(up_of(&world, "messages"), (2, 2), "{}", world.story);
    assert!(before.iter().all(|pid| !world.children[pid].asked));
}

#[test]
fn workers_that_reach_their_limits_together_are_replaced_in_turn() {
    let mut world = World::new(3, vec![queue("messages", 3)]);
    world.begin();
    let pids: Vec<i32> = world.children.keys().copied().collect();
    for pid in &pids {
        world.say(*pid, FromChild::WantsReplacement { because: Recycle::MaxJobs });
    }
    for turn in &pids {
        let asked: Vec<i32> =
            world.children.iter().filter(|(_, child)| child.asked).map(|(pid, _)| *pid).collect();
        assert_eq!(asked, [*turn], "one at a time");
        world.end_child(*turn, Exit::Code(0));
        let newest = *world.children.keys().next_back().unwrap();
        world.say(newest, FromChild::Ready);
    }
    assert!(world.children.values().all(|child| !child.asked));
}

#[test]
fn commands_answer_as_supervisorctl_words_it() {
    let mut world = World::new(5, vec![queue("messages", 1), program("web", 1)]);
    world.begin();
    let web = || vec![Selector::Group("web".into())];
    let start = world.ask(Command::Start { names: web() });
    assert_eq!(world.answer(start), [("web".into(), true, "already started".into())]);
    let stop = world.ask(Command::Stop { names: web() });
    assert!(!world.answers.contains_key(&stop), "answered before it is down");
    world.calm_down();
    assert_eq!(world.answer(stop), [("web".into(), true, "stopped".into())]);
    let again = world.ask(Command::Stop { names: web() });
    assert_eq!(world.answer(again), [("web".into(), true, "not running".into())]);
    let start = world.ask(Command::Start { names: web() });
    world.calm_down();
    assert_eq!(world.answer(start), [("web".into(), true, "started".into())]);
    let typo = world.ask(Command::Stop { names: vec![Selector::Group("mesages".into())] });
    let hint = Some("messages".to_owned());
    assert_eq!(world.answers[&typo], Err(Refusal::NoMatch { name: "mesages".to_owned(), hint }));
    let restart = world.ask(Command::Restart { names: vec![Selector::All], now: true, batch: None });
    world.calm_down();
    let restarted = |name: &str| (name.to_owned(), true, "restarted".to_owned());
    assert_eq!(world.answer(restart), [restarted("messages:messages_00"), restarted("web")]);
    let signal = world.ask(Command::Signal { names: web(), signal: 10 });
    assert_eq!(world.answer(signal), [("web".into(), true, "signalled".into())]);
}

#[test]
fn a_start_that_fails_is_answered_with_the_reason() {
    let mut world = World::new(5, vec![program("web", 1)]);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    let pid = world.pid_of("web");
    world.say(
        pid,
        FromChild::Failed { step: "execute `/no/such`".into(), errno: Some(2), error: "no such file".into() },
    );
    world.end_child(pid, Exit::Code(127));
    assert_eq!(world.state_of("web"), StateWord::Backoff);
    let ask = world.ask(Command::Start { names: vec![Selector::All] });
    let pid = world.pid_of("web");
    world.say(
        pid,
        FromChild::Failed { step: "execute `/no/such`".into(), errno: Some(2), error: "no such file".into() },
    );
    world.end_child(pid, Exit::Code(127));
    let text = "cannot execute `/no/such`: no such file; it is tried again";
    assert_eq!(world.answer(ask), [("web".into(), false, text.into())]);
}

#[test]
fn scale_holds_until_a_reload_changes_that_number() {
    let mut world = World::new(7, vec![queue("messages", 2), program("web", 1)]);
    world.begin();
    let ask = world.ask(Command::Scale { group: "messages".into(), to: 4 });
    world.calm_down();
    assert_eq!(world.answer(ask).len(), 2);
    let zone = jiff::tz::TimeZone::UTC;
    let status = render(&world.published, world.now, &zone);
    assert_eq!(status.groups[0].manifest_numprocs, Some(2));
    assert!(status.processes[3].description.ends_with(", scaled 4, manifest 2"));

    let mut changed = queue("messages", 2);
    changed.process.stop_wait = Duration::from_secs(5);
    let reload = |world: &mut World, group: Group| {
        let ask = world.ask(Command::Reload { dry_run: false, reset: false });
        world.reads.clear();
        let order = vec!["messages".to_owned(), "web".to_owned()];
        let changes = vec![GroupChange::InPlace(Arc::new(group))];
        world.handle(Event::ManifestRead(ask, Ok(Plan { order, changes, ..Plan::default() })));
        world.calm_down();
    };
    reload(&mut world, changed.clone());
    assert_eq!(world.published.groups[0].numprocs, 4);
    let ask = world.ask(Command::Reload { dry_run: true, reset: true });
    world.reads.clear();
    world.handle(Event::ManifestRead(ask, Ok(Plan::default())));
    assert_eq!(world.answer(ask), [("messages".into(), true, "no longer scaled to 4".into())]);
    assert_eq!(world.published.groups[0].numprocs, 4, "a dry run only tells");
    changed.process.numprocs = 1;
    reload(&mut world, changed);
    assert_eq!(world.published.groups[0].numprocs, 1);
    let left: Vec<_> = world.published.processes.iter().map(|process| process.view.name.as_str()).collect();
    assert_eq!(left, ["messages:messages_00", "web"]);

    world.ask(Command::Scale { group: "web".into(), to: 2 });
    world.calm_down();
    let names: Vec<_> = world.published.processes.iter().map(|process| process.view.name.clone()).collect();
    assert_eq!(names, ["messages:messages_00", "web:web_00", "web:web_01"]);
}

#[test]
fn an_operators_stop_survives_a_reload_and_a_reset_drops_it() {
    let mut world = World::new(9, vec![queue("messages", 2)]);
    world.begin();
    world.ask(Command::Stop { names: vec![Selector::Process("messages".into(), "1".into())] });
    world.calm_down();
    for (reset, expected) in [(false, StateWord::Stopped), (true, StateWord::Running)] {
        let ask = world.ask(Command::Reload { dry_run: false, reset });
        world.reads.clear();
        let changes = vec![GroupChange::Restart(Arc::new(queue("messages", 2)))];
        let plan = Plan { order: vec!["messages".to_owned()], changes, ..Plan::default() };
        world.handle(Event::ManifestRead(ask, Ok(plan)));
        world.calm_down();
        assert_eq!(world.state_of("messages:messages_00"), StateWord::Running);
        assert_eq!(world.state_of("messages:messages_01"), expected);
        let dropped = ("messages:messages_01".to_owned(), true, "no longer held by a `stop`".to_owned());
        assert_eq!(world.answer(ask).contains(&dropped), reset);
    }
}

#[test]
fn what_a_halted_reload_has_left_behind_is_told_and_done_by_the_next_one() {
    let mut world = World::new(1, vec![queue("messages", 3)]);
    world.begin();
    let reload = |world: &mut World, dry_run, changes| {
        let ask = world.ask(Command::Reload { dry_run, reset: false });
        world.reads.clear();
        let plan = Plan { order: vec!["messages".to_owned()], changes, ..Plan::default() };
        world.handle(Event::ManifestRead(ask, Ok(plan)));
        world.answer(ask)
    };
    let behind = |world: &World| {
        let views = render(&world.published, world.now, &jiff::tz::TimeZone::UTC).processes;
        views.iter().map(|view| view.description.contains("has earlier settings")).collect::<Vec<_>>()
    };
    // The first one does not come up.
    let fail = |world: &mut World| {
        for _ in 0..12 {
            let first = &world.published.processes[0].view;
            if let Some(pid) = first.pid {
                world.end_child(pid, Exit::Code(1));
            } else if let Some(at) = world.fleet.wake_at() {
                world.now = world.now.max(at);
                world.handle(Event::TimePassed);
            }
        }
    };
    reload(&mut world, false, vec![GroupChange::Restart(Arc::new(queue("messages", 3)))]);
    assert_eq!(behind(&world), [false; 3], "that is on its way");
    fail(&mut world);
    assert_eq!(behind(&world), [false, true, true]);
    let lines =
        [("messages".to_owned(), true, "2 processes have earlier settings (rolling restart)".to_owned())];
    assert_eq!(reload(&mut world, true, vec![]), lines);
    let kept = world.pid_of("messages:messages_01");
    assert_eq!(reload(&mut world, false, vec![]), lines);
    fail(&mut world);
    assert_eq!(world.pid_of("messages:messages_01"), kept, "the one that is down comes first");
    reload(&mut world, false, vec![]);
    world.calm_down();
    assert_eq!(behind(&world), [false; 3]);
    assert_ne!(world.pid_of("messages:messages_01"), kept);
    assert_eq!(reload(&mut world, false, vec![]), []);
}

#[test]
fn a_removed_group_drains_without_a_limit_and_is_listed_until_it_is_gone() {
    let mut world = World::new(11, vec![queue("messages", 1), queue("emails", 1)]);
    world.begin();
    let ask = world.ask(Command::Reload { dry_run: false, reset: false });
    world.reads.clear();
    let pid = world.pid_of("emails:emails_00");
    let plan = Plan {
        order: vec!["messages".to_owned()],
        changes: vec![GroupChange::Removed("emails".to_owned())],
        ..Plan::default()
    };
    world.groups.pop();
    world.handle(Event::ManifestRead(ask, Ok(plan)));
    assert_eq!(world.answer(ask), [("emails".into(), true, "removed".into())]);
    world.pass_time(Duration::from_secs(86_400));
    assert_eq!(world.state_of("emails:emails_00"), StateWord::Stopping);
    world.end_child(pid, Exit::Code(0));
    assert_eq!(world.published.groups.len(), 1);
    assert_eq!(world.published.processes.len(), 1);
}

#[test]
fn everything_starts_by_priority_and_ends_in_waves() {
    let mut first = queue("first", 1);
    first.process.priority = 1;
    let mut world = World::new(13, vec![queue("messages", 2), first, program("web", 1)]);
    world.begin();
    assert!(world.pid_of("first:first_00") < world.pid_of("messages:messages_00"));
    world.ask(Command::Shutdown { wait: false });
    let early = world.pid_of("first:first_00");
    let late = world.children.iter().filter(|(pid, _)| **pid != early);
    assert!(late.clone().all(|(_, child)| child.asked), "all of one priority are asked at the same time");
    assert!(!world.children[&early].asked, "what started first outlives what was started after it");
    let refused = world.ask(Command::Start { names: vec![Selector::All] });
    assert_eq!(world.answers[&refused], Err(Refusal::ShuttingDown));
    world.calm_down();
    assert_eq!(world.exit, Some(0));
}

/// A queue that needs a server of the same fleet.
fn queue_on_a_server() -> Vec<Group> {
    let mut messages = queue("messages", 2);
    messages.process.depends_on = vec!["redis".to_owned()];
    // Alone, the priority would end it last and start it first.
    messages.process.priority = 1;
    vec![messages, program("redis", 1), program("web", 1)]
}

#[test]
fn a_queue_starts_after_what_it_depends_on_and_ends_before_it() {
    let mut world = World::new(13, queue_on_a_server());
    world.calm = true;
    world.handle(began(vec![], vec![]));
    let zone = jiff::tz::TimeZone::UTC;
    let status = render(&world.published, world.now, &zone);
    assert_eq!(status.processes[0].description, "waiting for `redis`");
    assert_eq!(world.settled, 0, "it has not come up yet");
    world.calm_down();
    assert_eq!(world.state_of("messages:messages_00"), StateWord::Running);
    let redis = world.pid_of("redis");
    world.end_child(redis, Exit::Code(1));
    assert_eq!(world.state_of("messages:messages_00"), StateWord::Running, "who runs, runs on");
    world.calm_down();
    world.ask(Command::Shutdown { wait: false });
    let (redis, web) = (world.pid_of("redis"), world.pid_of("web"));
    assert!(!world.children[&redis].asked && world.children[&web].asked, "the rest goes at the same time");
    for number in 0..2 {
        let pid = world.pid_of(&format!("messages:messages_0{number}"));
        assert!(world.children[&pid].asked && !world.children[&redis].asked);
        world.end_child(pid, Exit::Code(0));
    }
    assert!(world.children[&redis].asked);
    world.end_child(redis, Exit::Code(0));
    world.end_child(web, Exit::Code(0));
    assert_eq!(world.exit, Some(0));
}

#[test]
fn a_start_that_would_wait_without_end_says_for_what_and_comes_when_it_can() {
    let mut groups = queue_on_a_server();
    groups[1].process.autostart = false;
    let mut world = World::new(13, groups);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    while world.settled == 0 {
        world.child_lives();
        world.pass_time(Duration::from_secs(1));
    }
    let ask = world.ask(Command::Start { names: vec![Selector::Group("messages".into())] });
    let text = "waiting for `redis`, which is STOPPED; it starts as soon as that is up";
    assert_eq!(world.answer(ask)[0], ("messages:messages_00".into(), false, text.into()));
    let restart =
        Command::Restart { names: vec![Selector::Group("messages".into())], now: false, batch: None };
    let ask = world.ask(restart);
    world.calm_down();
    assert!(!world.answer(ask)[0].1);
    world.ask(Command::Start { names: vec![Selector::Group("redis".into())] });
    world.calm_down();
    assert_eq!(world.state_of("messages:messages_01"), StateWord::Running);
    let ask = world.ask(Command::Stop { names: vec![Selector::All] });
    let redis = world.pid_of("redis");
    assert!(!world.children[&redis].asked, "also when everything is stopped by hand");
    world.calm_down();
    assert!(world.answer(ask).iter().all(|(_, ok, _)| *ok));
    assert_eq!(world.state_of("redis"), StateWord::Stopped);
}

#[test]
fn whoever_waits_for_one_that_waits_for_what_is_stopped_is_told_so() {
    let mut groups = queue_on_a_server();
    let mut last = program("last", 1);
    last.process.depends_on = vec!["messages".to_owned()];
    groups.push(last);
    let mut world = World::new(13, groups);
    world.begin();
    world.calm = true;
    world.ask(Command::Stop { names: vec![Selector::Group("redis".into())] });
    world.calm_down();
    let restart = |world: &mut World, now: bool| {
        let names = vec![Selector::Group("messages".into()), Selector::Group("last".into())];
        let ask = world.ask(Command::Restart { names, now, batch: None });
        for _ in 0..60 {
            world.child_lives();
            world.pass_time(Duration::from_secs(1));
        }
        world.answer(ask)
    };
    for now in [false, true] {
        let answer = restart(&mut world, now);
        let text = "`messages`, which waits for `redis`, which is STOPPED";
        let last = answer.iter().find(|(name, ..)| name == "last").unwrap();
        assert!(!last.1 && last.2.contains(text), "{answer:?}");
        let first = answer.iter().find(|(name, ..)| name == "messages:messages_00").unwrap();
        assert!(!first.1 && first.2.contains("waiting for `redis`, which is STOPPED"), "{answer:?}");
    }
    world.ask(Command::Start { names: vec![Selector::Group("redis".into())] });
    world.calm_down();
    assert_eq!(world.state_of("last"), StateWord::Running);
}

#[test]
fn a_restart_of_all_at_once_ends_who_depends_first_and_starts_it_last() {
    let mut groups = queue_on_a_server();
    let mut last = program("last", 1);
    last.process.depends_on = vec!["messages".to_owned()];
    groups.push(last);
    let mut world = World::new(13, groups);
    world.begin();
    world.calm = true;
    let names = ["last", "messages:messages_00", "messages:messages_01", "redis", "web"];
    let old = names.map(|name| world.pid_of(name));
    let asked =
        |world: &World| old.map(|pid| world.children.get(&pid).is_none_or(|child| child.asked)).to_vec();
    let ask = world.ask(Command::Restart { names: vec![Selector::All], now: true, batch: None });
    assert_eq!(asked(&world), [true, false, false, false, true]);
    // Who crashes on the way is new already, and still does not come up before what it needs has done so.
    world.end_child(old[1], Exit::Signal("KILL".to_owned()));
    assert_eq!(world.state_of("messages:messages_00"), StateWord::Starting);
    world.end_child(old[0], Exit::Code(0));
    assert_eq!(asked(&world), [true, true, true, false, true]);
    world.end_child(old[2], Exit::Code(0));
    assert_eq!(asked(&world), [true; 5]);
    assert_eq!(world.state_of("messages:messages_01"), StateWord::Starting, "it waits for the new server");
    world.end_child(old[3], Exit::Code(0));
    world.end_child(old[4], Exit::Code(0));
    world.calm_down();
    let answer = world.answer(ask);
    assert!(answer.iter().all(|(_, ok, text)| *ok && text == "restarted"), "{answer:?}");
    for (name, old) in names.iter().zip(old) {
        assert_eq!(world.state_of(name), StateWord::Running);
        assert_ne!(world.pid_of(name), old);
    }
}

#[test]
fn a_stop_in_the_middle_of_a_restart_of_all_is_the_later_word() {
    let mut world = World::new(13, queue_on_a_server());
    world.begin();
    world.calm = true;
    let redis = world.pid_of("redis");
    let restart = world.ask(Command::Restart { names: vec![Selector::All], now: true, batch: None });
    assert!(!world.children[&redis].asked);
    world.ask(Command::Stop { names: vec![Selector::Group("redis".into())] });
    world.calm_down();
    assert_eq!(world.state_of("redis"), StateWord::Stopped);
    let answer = world.answer(restart);
    assert!(answer.contains(&("redis".into(), false, "stopped meanwhile".into())), "{answer:?}");
    assert_eq!(world.state_of("messages:messages_00"), StateWord::Starting, "{answer:?}");
}

#[test]
fn what_a_smaller_number_takes_away_is_no_failure_of_a_restart() {
    let group = || vec![Selector::Group("messages".into())];
    let smaller = || Command::Scale { group: "messages".to_owned(), to: 1 };
    let restart = |now| Command::Restart { names: group(), now, batch: None };
    let begun = || {
        let mut world = World::new(13, vec![queue("messages", 3)]);
        world.begin();
        world.calm = true;
        world
    };
    let (kept, going, gone) = ("messages:messages_00", "messages:messages_01", "messages:messages_02");
    for command in [restart(false), restart(true), Command::Start { names: group() }] {
        let mut world = begun();
        world.ask(smaller());
        let ask = world.ask(command);
        world.calm_down();
        let answer = world.answer(ask);
        assert!(answer.iter().all(|(_, ok, _)| *ok), "{answer:?}");
        assert_eq!(answer[0].0, kept);
        assert_eq!(answer[1..], [going, gone].map(|name| (name.into(), true, "being removed".into())));
    }
    // Who asks for just that one is told that nothing comes of it.
    let mut world = begun();
    world.ask(smaller());
    let ask =
        world.ask(Command::Restart { names: vec![Selector::parse(gone).unwrap()], now: false, batch: None });
    assert_eq!(world.answer(ask), [(gone.into(), false, "being removed".into())]);
    // The other way round: it becomes smaller while it is being restarted.
    for now in [false, true] {
        let mut world = begun();
        let ask = world.ask(restart(now));
        world.ask(smaller());
        world.calm_down();
        let answer = world.answer(ask);
        assert!(answer.iter().all(|(_, ok, _)| *ok), "{now}: {answer:?}");
        assert_eq!(answer[0], (kept.into(), true, "restarted".into()));
        assert_eq!(answer[2], (gone.into(), true, "removed meanwhile".into()));
    }
}

/// Two groups each of which depends on the other, by a change of the manifest.
fn circle() -> World {
    let mut groups = vec![program("a", 1), program("b", 1)];
    groups[1].process.depends_on = vec!["a".to_owned()];
    let mut world = World::new(13, groups);
    world.begin();
    let mut changed = world.groups[0].clone();
    changed.process.depends_on = vec!["b".to_owned()];
    world.groups[0] = changed.clone();
    let ask = world.ask(Command::Reload { dry_run: false, reset: false });
    world.reads.clear();
    let changes = vec![GroupChange::InPlace(Arc::new(changed))];
    let plan = Plan { order: vec!["a".to_owned(), "b".to_owned()], changes, ..Plan::default() };
    world.handle(Event::ManifestRead(ask, Ok(plan)));
    world
}

#[test]
fn a_circle_that_two_manifests_made_ends_nevertheless() {
    let mut world = circle();
    world.calm = true;
    world.ask(Command::Restart { names: vec![Selector::All], now: true, batch: None });
    for pid in world.children.keys().copied().collect::<Vec<_>>() {
        assert!(world.children[&pid].asked);
        world.end_child(pid, Exit::Code(0));
    }
    world.ask(Command::Shutdown { wait: false });
    world.calm_down();
    assert!(world.exit.is_some());
}

#[test]
fn the_exit_code_says_whether_work_was_cut_off() {
    for (exit, code) in [(Exit::Code(0), 0), (Exit::Code(75), 75), (Exit::Signal("KILL".to_owned()), 75)] {
        let mut world = World::new(15, vec![queue("messages", 1)]);
        world.begin();
        world.handle(Event::Hurry);
        let pid = world.pid_of("messages:messages_00");
        world.end_child(pid, exit);
        world.calm_down();
        assert_eq!(world.exit, Some(code));
    }
    let mut world = World::new(15, vec![program("stubborn", 1)]);
    world.begin();
    world.ask(Command::Shutdown { wait: false });
    world.pass_time(Duration::from_secs(30));
    let pid = world.pid_of("stubborn");
    world.end_child(pid, Exit::Signal("KILL".to_owned()));
    assert_eq!(world.exit, Some(75));
}

#[test]
fn a_worker_that_a_terminals_signal_ends_before_it_was_ready_had_no_work_to_cut_off() {
    let mut world = World::new(15, vec![queue("messages", 1)]);
    world.handle(began(vec![], vec![]));
    while world.spawn_next() {}
    world.ask(Command::Shutdown { wait: false });
    let pid = world.pid_of("messages:messages_00");
    world.end_child(pid, Exit::Signal("INT".to_owned()));
    world.calm_down();
    assert_eq!(world.exit, Some(0));
}

#[test]
fn old_ledgers_go_to_the_slots_first_worker_and_the_rest_is_recovered() {
    let mut world = World::new(17, vec![queue("messages", 1), program("web", 1)]);
    let now = world.now();
    let ledgers = ["messages.messages_00.3", "messages.messages_00.12", "old.old_00.5", "README"];
    let effects = world.fleet.handle(began(ledgers.map(str::to_owned).into(), vec![]), now);
    let spawned = effects.iter().find_map(|effect| match effect {
        Effect::Spawn { ledger: Some(own), after, .. } => Some((own.clone(), after.clone())),
        _ => None,
    });
    let (own, after) = spawned.unwrap();
    assert_eq!(own, "messages.messages_00.13", "numbers are never used twice");
    assert_eq!(after, [ledgers[0], ledgers[1]]);
    let recovered: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Recover { ledger, group: None, .. } => Some(ledger.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(recovered, ["old.old_00.5"]);
}

#[test]
fn draining_limits_follow_who_asked() {
    let mut world = World::new(19, vec![queue("messages", 1)]);
    world.begin();
    let now = world.now();
    let limit = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|effect| match effect {
            Effect::Drain { limit, .. } => Some(limit),
            _ => None,
        })
    };
    let all = || vec![Selector::All];
    let restart = Event::Asked(AskId(900), Command::Restart { names: all(), now: false, batch: None });
    assert_eq!(limit(world.fleet.handle(restart, now)), Some(DrainLimit::JobsOwn));
    let stop = Event::Asked(AskId(901), Command::Stop { names: all() });
    let expected = Some(DrainLimit::AtMost(Duration::from_secs(30)));
    assert_eq!(limit(world.fleet.handle(stop, now)), expected);
    assert_eq!(limit(world.fleet.handle(Event::Hurry, now)), Some(DrainLimit::AtMost(Duration::ZERO)));
}

#[test]
fn a_group_at_rest_can_be_dropped_and_comes_back_from_the_manifest() {
    let mut world = World::new(13, vec![queue("messages", 1), program("web", 1)]);
    world.begin();
    world.calm_down();
    let remove = || Command::RemoveGroup { group: "web".to_owned() };
    let add = |group: &str| Command::AddGroup { group: group.to_owned() };
    let ask = world.ask(remove());
    assert_eq!(world.answers[&ask], Err(Refusal::StillRunning { group: "web".to_owned() }));
    let ask = world.ask(add("web"));
    assert_eq!(world.answers[&ask], Err(Refusal::AlreadyActive { group: "web".to_owned() }));
    world.ask(Command::Stop { names: vec![Selector::Group("web".into())] });
    world.calm_down();
    let ask = world.ask(remove());
    assert_eq!(world.answer(ask), [("web".into(), true, "removed".into())]);
    assert_eq!(world.published.groups.len(), 1);
    let ask = world.ask(remove());
    assert!(matches!(&world.answers[&ask], Err(Refusal::NoMatch { name, .. }) if name == "web"));
    let ask = world.ask(add("nobody"));
    assert!(matches!(&world.answers[&ask], Err(Refusal::NoMatch { name, .. }) if name == "nobody"));
    let ask = world.ask(add("web"));
    assert_eq!(world.answer(ask), [("web".into(), true, "added".into())]);
    world.calm_down();
    assert_eq!(world.state_of("web"), StateWord::Running, "the stop went with the group");
}

#[test]
fn everything_begins_anew_unless_somebody_wants_the_end() {
    for ended_meanwhile in [false, true] {
        let mut world = World::new(17, vec![queue("messages", 2), program("web", 1)]);
        world.begin();
        world.calm_down();
        world.calm = true;
        let ask = world.ask(Command::StartOver);
        world.reads.clear();
        world.handle(Event::ManifestRead(ask, Err("line 1: nonsense".to_owned())));
        assert!(matches!(&world.answers[&ask], Err(Refusal::BadManifest { .. })));
        assert_eq!(world.state_of("web"), StateWord::Running, "a broken manifest changes nothing");
        let ask = world.ask(Command::StartOver);
        world.reads.clear();
        world.handle(Event::ManifestRead(ask, Ok(Plan::default())));
        assert_eq!(world.answer(ask), [], "answered before the drain");
        assert!(world.published.shutting_down);
        let second = world.ask(Command::StartOver);
        assert_eq!(world.answers[&second], Err(Refusal::ShuttingDown));
        if ended_meanwhile {
            world.ask(Command::Shutdown { wait: false });
        }
        world.calm_down();
        assert_eq!((world.exit, world.again), (Some(0), !ended_meanwhile));
    }
}

#[test]
fn a_program_that_cannot_be_executed_says_why_to_programs_too() {
    for (errno, trouble) in
        [(Some(2), Trouble::NoFile), (Some(13), Trouble::NotExecutable), (None, Trouble::StartFailed)]
    {
        let mut web = program("web", 1);
        web.process.autostart = false;
        let mut world = World::new(19, vec![web]);
        world.begin();
        let ask = world.ask(Command::Start { names: vec![Selector::All] });
        world.spawn_next();
        let pid = world.pid_of("web");
        let step = "execute /no/such".to_owned();
        world.say(pid, FromChild::Failed { step, errno, error: "it cannot".to_owned() });
        world.end_child(pid, Exit::Code(127));
        let Ok(reply) = &world.answers[&ask] else { panic!("{:?}", world.answers[&ask]) };
        assert_eq!(reply.results[0].trouble, Some(trouble));
    }
}

#[test]
fn replacing_never_takes_more_than_its_share_from_the_fleet_or_a_queue() {
    for seed in 0..40 {
        let groups = (0..6).map(|number| queue(&format!("q{number}"), number % 3 + 1)).collect();
        let mut world = World::new(seed, groups);
        let most = if world.random.bool() { 1 } else { 3 };
        let overall = Overall { replace_at_once: Some(most), ..Overall::default() };
        world.begin();
        world.reload_overall(overall);
        world.most = Some(most as usize);
        let before: BTreeSet<i32> = world.children.keys().copied().collect();
        for pid in &before {
            if world.random.bool() {
                world.say(*pid, FromChild::WantsReplacement { because: Recycle::MaxTime });
            }
        }
        let names = vec![Selector::Group("q2".into()), Selector::Group("q5".into())];
        let ask = world.ask(Command::Restart { names, now: false, batch: None });
        for _ in 0..20_000 {
            world.check_floor();
            if world.answers.contains_key(&ask) && world.children.values().all(|child| !child.asked) {
                break;
            }
            world.child_lives();
            if world.random.u8(0..10) == 0 {
                let by = Duration::from_secs(world.random.u64(0..20));
                world.all_become_ready();
                world.pass_time(by);
            }
        }
        assert!(world.answer(ask).iter().all(|(_, ok, _)| *ok), "{}", world.story);
    }
}

#[test]
fn a_worker_with_a_long_job_does_not_hold_up_other_queues_for_ever() {
    let mut world = World::new(3, vec![queue("slow", 1), queue("quick", 1)]);
    world.begin();
    let (slow, quick) = (world.pid_of("slow:slow_00"), world.pid_of("quick:quick_00"));
    world.say(slow, FromChild::WantsReplacement { because: Recycle::MaxTime });
    world.say(quick, FromChild::WantsReplacement { because: Recycle::MaxTime });
    assert_eq!((world.children[&slow].asked, world.children[&quick].asked), (true, false));
    let at = world.fleet.wake_at().unwrap();
    assert_eq!(at.since(world.now), Duration::from_secs(30));
    world.pass_time(Duration::from_secs(30));
    assert!(world.children[&quick].asked, "the job of `slow` still runs, and does its work");
}

#[test]
fn queues_take_turns_and_who_asked_first_comes_first() {
    let mut world = World::new(3, vec![queue("large", 3), queue("small", 1), queue("other", 1)]);
    world.begin();
    let ask = |world: &mut World, name: &str| {
        let pid = world.pid_of(name);
        world.say(pid, FromChild::WantsReplacement { because: Recycle::MaxJobs });
    };
    for number in 0..3 {
        ask(&mut world, &format!("large:large_0{number}"));
    }
    ask(&mut world, "small:small_00");
    ask(&mut world, "other:other_00");
    let mut order = vec![];
    for _ in 0..5 {
        let asked = world.children.iter().find(|(_, child)| child.asked).map(|(pid, _)| *pid).unwrap();
        let Owner::Slot(slot) = world.children[&asked].owner else { panic!() };
        order.push(world.published.processes.iter().find(|one| one.slot == slot).unwrap().view.name.clone());
        world.end_child(asked, Exit::Code(0));
        let newest = *world.children.keys().next_back().unwrap();
        world.say(newest, FromChild::Ready);
    }
    let expected = ["large:large_00", "large:large_01", "small:small_00", "other:other_00", "large:large_02"];
    assert_eq!(order, expected);
}

#[test]
fn a_batch_is_replaced_at_a_time_and_the_answer_says_so() {
    let mut world = World::new(3, vec![queue("messages", 5)]);
    world.begin();
    let names = vec![Selector::Group("messages".into())];
    let ask = world.ask(Command::Restart { names, now: false, batch: Some(2) });
    let mut most = 0;
    for _ in 0..10_000 {
        let up = world.published.processes.iter().filter(|one| one.view.state == StateWord::Running).count();
        most = most.max(5 - up);
        if world.answers.contains_key(&ask) {
            break;
        }
        world.child_lives();
    }
    assert_eq!(most, 2, "{}", world.story);
    assert!(world.answer(ask).iter().all(|(_, ok, text)| *ok && text == "restarted"));
}

#[test]
fn no_more_than_fifty_workers_come_up_at_once_and_one_that_hangs_does_not_keep_its_place() {
    let mut world = World::new(3, vec![queue("many", 80), program("web", 1)]);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    let workers = |world: &World| world.children.values().filter(|child| child.is_worker).count();
    assert_eq!(workers(&world), 50);
    assert_eq!(world.children.len(), 51, "programs have nothing to do with it");
    let waits =
        render(&world.published, world.now, &jiff::tz::TimeZone::UTC).processes[60].description.clone();
    assert_eq!(waits, "waiting for its turn: 50 others are not up yet");
    // One becomes ready, and one waits for an earlier worker: two more may start.
    world.say(world.pid_of("many:many_00"), FromChild::Ready);
    assert_eq!(workers(&world), 51);
    world.say(world.pid_of("many:many_01"), FromChild::Waiting { pid: 4242 });
    assert_eq!(workers(&world), 52);
    // The others hang.
    world.pass_time(Duration::from_secs(30));
    let hanging = world.children.values().filter(|child| child.asked).count();
    assert_eq!(hanging, 50 - 1 + 1, "all that hang are killed, and nobody else");
    assert_eq!(workers(&world), 80, "their places are free");
}

#[test]
fn the_whole_end_stays_inside_its_budget_however_stubborn_its_processes_are() {
    for seed in 0..200 {
        let mut groups = some_groups(false);
        let mut dice = fastrand::Rng::with_seed(seed);
        for group in &mut groups {
            group.process.priority = dice.i32(0..3);
            group.process.stop_wait = Duration::from_secs(dice.u64(0..90));
        }
        let mut world = World::new(seed, groups);
        world.begin();
        let all = Duration::from_secs(dice.u64(2..90));
        world.reload_overall(Overall { shutdown_timeout: Some(all), ..Overall::default() });
        world.calm = dice.bool();
        for _ in 0..dice.usize(0..60) {
            world.anything();
        }
        world.answer_reads();
        let ask = world.ask(Command::Shutdown { wait: true });
        let took = world.stubborn_end();
        assert!(took <= all, "{took:?} of {all:?}: {}", world.story);
        assert!(matches!(world.exit, Some(0 | 75)));
        let told = world.answers.get(&ask);
        assert!(matches!(told, Some(Ok(_))), "{told:?} {}", world.story);
    }
}

#[test]
fn within_a_budget_everybody_is_asked_before_it_is_killed() {
    let (mut first, mut last) = (program("first", 1), program("last", 1));
    (first.process.priority, last.process.priority) = (1, 1000);
    let mut world = World::new(3, vec![queue("messages", 2), first, last]);
    world.begin();
    world.reload_overall(Overall { shutdown_timeout: Some(Duration::from_secs(12)), ..Overall::default() });
    let ask = world.ask(Command::Shutdown { wait: true });
    let names = ["last", "messages:messages_00", "first"];
    let pids = names.map(|name| world.pid_of(name));
    let asked =
        |world: &World| pids.map(|pid| world.children.get(&pid).map(|child| (child.asked, child.killed)));
    assert_eq!(asked(&world), [Some((true, false)), Some((false, false)), Some((false, false))]);
    // A quarter of the budget is kept for recovery, and a quarter for the two waves that follow.
    world.pass_time(Duration::from_secs(6));
    assert_eq!(asked(&world)[0], Some((true, true)));
    world.end_child(pids[0], Exit::Signal("KILL".to_owned()));
    assert_eq!(asked(&world), [None, Some((true, false)), Some((false, false))]);
    let waits = render(&world.published, world.now, &jiff::tz::TimeZone::UTC).ending;
    assert_eq!(waits.as_deref(), Some("waiting for 2 idle workers, 2 s left"));
    world.say(pids[1], FromChild::Report(Report { running: 3, ..Report::default() }));
    let jobs = vec![JobRef { queue: "messages".to_owned(), id: "8412".to_owned() }];
    world.say(pids[1], FromChild::CutOff { jobs });
    let waits = render(&world.published, world.now, &jiff::tz::TimeZone::UTC).ending;
    assert_eq!(waits.as_deref(), Some("waiting for 3 jobs of 1 queue and 1 idle worker, 2 s left"));
    world.end_child(pids[1], Exit::Code(75));
    let other = world.pid_of("messages:messages_01");
    world.end_child(other, Exit::Code(0));
    assert_eq!(asked(&world), [None, None, Some((true, false))]);
    world.end_child(pids[2], Exit::Code(0));
    assert_eq!(world.exit, Some(75));
    let cut: Vec<_> =
        world.answer(ask).into_iter().map(|(name, _, text)| format!("{name}: {text}")).collect();
    assert_eq!(
        cut,
        ["messages: job 8412 was cut off and given back", "last: did not end in time and was killed"]
    );
}

#[test]
fn an_essential_program_ends_the_fleet_once_and_the_exit_code_says_why() {
    let failed = Some(76);
    for (numprocs, autorestart, exit, code) in [
        (1, Autorestart::Never, Exit::Code(1), failed),
        (1, Autorestart::Never, Exit::Signal("SEGV".to_owned()), failed),
        (1, Autorestart::Never, Exit::Code(0), Some(0)),
        (1, Autorestart::Unexpected, Exit::Code(0), Some(0)),
        (1, Autorestart::Unexpected, Exit::Code(1), None),
        (1, Autorestart::Always, Exit::Code(0), None),
        (2, Autorestart::Never, Exit::Code(0), None),
        (2, Autorestart::Never, Exit::Code(9), failed),
    ] {
        let mut web = program("web", numprocs);
        (web.process.autorestart, web.process.essential) = (autorestart, true);
        let mut world = World::new(3, vec![queue("messages", 2), web]);
        world.begin();
        let pid = world.published.processes[2].view.pid.unwrap();
        world.end_child(pid, exit.clone());
        assert_eq!(world.published.shutting_down, code.is_some(), "{numprocs} {autorestart:?} {exit:?}");
        if code.is_some() {
            world.calm_down();
            assert_eq!(world.exit, code);
        }
    }
}

#[test]
fn an_essential_program_that_cannot_be_started_ends_the_fleet_and_a_stopped_one_does_not() {
    let mut web = program("web", 1);
    (web.process.essential, web.process.startretries) = (true, 0);
    let mut world = World::new(3, vec![queue("messages", 2), web]);
    world.calm = true;
    world.handle(began(vec![], vec![]));
    world.ask(Command::Stop { names: vec![Selector::Group("web".into())] });
    world.calm_down();
    assert!(!world.published.shutting_down, "an operator wanted it so");
    world.ask(Command::Start { names: vec![Selector::Group("web".into())] });
    let pid = world.pid_of("web");
    world.end_child(pid, Exit::Code(1));
    assert!(world.published.shutting_down);
    // Who wants to begin anew comes too late; work that is cut off changes nothing.
    let ask = world.ask(Command::StartOver);
    assert_eq!(world.answers[&ask], Err(Refusal::ShuttingDown));
    let worker = world.pid_of("messages:messages_00");
    world.end_child(worker, Exit::Code(75));
    world.calm_down();
    assert_eq!((world.exit, world.again), (Some(76), false));
}

/// Kills a worker that is up, by a signal.
fn crash(world: &mut World, name: &str) {
    let pid = world.pid_of(name);
    world.end_child(pid, Exit::Signal("SEGV".to_owned()));
}

fn crash_loop(world: &World) -> Option<&str> {
    world.published.groups[0].crash_loop.as_deref()
}

#[test]
fn crashes_of_a_whole_queue_leave_one_worker_on_trial_and_the_rest_says_why() {
    let mut world = World::new(3, vec![queue("messages", 8), program("web", 1)]);
    world.begin();
    for number in 0..6 {
        assert_eq!(crash_loop(&world), None);
        crash(&mut world, &format!("messages:messages_0{number}"));
    }
    let why = "6 crashes in 60 s, last: signal SEGV";
    assert_eq!(crash_loop(&world), Some(why));
    assert_eq!(world.state_of("messages:messages_05"), StateWord::Fatal);
    assert_eq!(world.state_of("messages:messages_07"), StateWord::Running, "what runs goes on");
    // Which job it was is known a moment later.
    let mut newest = world.children.iter().rev();
    let recovery = newest.find(|(_, child)| matches!(child.owner, Owner::Recovery(_)));
    let pid = *recovery.unwrap().0;
    let started = vec![JobRef { queue: "messages".to_owned(), id: "8412".to_owned() }];
    world.say(pid, FromChild::Recovered { returned: 1, buried: 0, started });
    let of = |world: &World, name: &str| {
        let seen = render(&world.published, world.now, &jiff::tz::TimeZone::UTC).processes;
        seen.into_iter().find(|one| one.name == name).unwrap().description
    };
    assert_eq!(of(&world, "messages:messages_05"), format!("{why} in job 8412"));
    // The others that run crash, too, and whoever starts something else is not held up.
    crash(&mut world, "messages:messages_06");
    crash(&mut world, "messages:messages_07");
    world.all_become_ready();
    let starting = |world: &World| {
        let of_it = world.published.processes.iter().filter(|one| one.view.group == "messages");
        of_it.filter(|one| one.view.pid.is_some()).map(|one| one.view.name.clone()).collect::<Vec<_>>()
    };
    let before = starting(&world);
    world.pass_time(Duration::from_secs(5));
    let probe = starting(&world).into_iter().find(|name| !before.contains(name)).unwrap();
    assert_eq!(probe, "messages:messages_05", "the first that waits");
    crash(&mut world, &probe);
    world.pass_time(Duration::from_secs(9));
    assert_eq!(world.state_of(&probe), StateWord::Fatal);
    world.pass_time(Duration::from_secs(1));
    assert_eq!(world.state_of(&probe), StateWord::Starting);
    world.all_become_ready();
    let pid = world.pid_of(&probe);
    world.say(pid, FromChild::Report(Report { completed: 1, ..Report::default() }));
    assert_eq!(crash_loop(&world), None, "it has ended a job");
    world.all_become_ready();
    assert_eq!(starting(&world).len(), 8, "all are back");
}

#[test]
fn a_worker_on_trial_that_stays_up_is_enough_too() {
    let mut world = World::new(3, vec![queue("messages", 2)]);
    world.begin();
    let mut crashes = 0;
    while crash_loop(&world).is_none() {
        world.all_become_ready();
        crash(&mut world, &format!("messages:messages_0{}", crashes % 2));
        crashes += 1;
        while world.published.processes.iter().any(|one| one.view.state == StateWord::Backoff) {
            world.pass_time(Duration::from_secs(1));
        }
    }
    assert_eq!(crashes, 6);
    world.calm_down();
    assert_eq!(world.published.processes.iter().filter(|one| one.view.pid.is_some()).count(), 2);
}

#[test]
fn an_operators_start_and_a_change_of_settings_end_the_trial() {
    for by_reload in [false, true] {
        let mut world = World::new(3, vec![queue("messages", 8)]);
        world.begin();
        (0..8).for_each(|number| crash(&mut world, &format!("messages:messages_0{number}")));
        assert!(crash_loop(&world).is_some());
        if by_reload {
            let ask = world.ask(Command::Reload { dry_run: false, reset: false });
            world.reads.clear();
            let mut changed = queue("messages", 8);
            changed.process.nice = Some(5);
            let changes = vec![GroupChange::Restart(Arc::new(changed))];
            let plan = Plan { order: vec!["messages".to_owned()], changes, ..Plan::default() };
            world.handle(Event::ManifestRead(ask, Ok(plan)));
        } else {
            world.ask(Command::Start { names: vec![Selector::All] });
        }
        world.calm_down();
        assert_eq!(crash_loop(&world), None);
        assert!(world.published.processes.iter().all(|one| one.view.state == StateWord::Running));
    }
}

#[test]
fn one_worker_that_crashes_alone_has_pauses_of_its_own_and_an_essential_queue_goes_on_in_its_trial() {
    let mut messages = queue("messages", 8);
    messages.process.essential = true;
    let mut world = World::new(3, vec![messages]);
    world.begin();
    for _ in 0..12 {
        crash(&mut world, "messages:messages_00");
        while world.published.processes[0].view.pid.is_none() {
            world.pass_time(Duration::from_secs(1));
        }
        world.all_become_ready();
    }
    assert_eq!(crash_loop(&world), None);
    (0..8).for_each(|number| crash(&mut world, &format!("messages:messages_0{number}")));
    assert!(crash_loop(&world).is_some());
    assert!(!world.published.shutting_down, "it has not failed for good");
    // Nobody is left to be tried: whatever is started next is not held up by what was.
    world.ask(Command::Stop { names: vec![Selector::All] });
    world.pass_time(Duration::from_secs(60));
    assert_eq!(crash_loop(&world), None);
}

/// Somebody has looked and found so many jobs waiting, while the workers work.
fn look(world: &mut World, group: &str, waiting: u64) {
    let up =
        |process: &&Arc<ProcessSeen>| process.view.group == group && process.view.state == StateWord::Running;
    let pids: Vec<i32> =
        world.published.processes.iter().filter(up).filter_map(|process| process.view.pid).collect();
    for pid in pids {
        let completed = world.now.as_nanos() / 1_000_000;
        world.say(pid, FromChild::Report(Report { completed, ..Report::default() }));
    }
    let found = Ok(Backlog { waiting, paused: false });
    world.handle(Event::Observed(Observation::Backlog { group: group.to_owned(), found }));
}

fn numprocs(world: &World) -> Vec<u32> {
    world.published.groups.iter().map(|group| group.numprocs).collect()
}

#[test]
fn workers_follow_the_backlog_and_the_lowest_numbers_stay() {
    let mut sized = scaled("sized", 1, 4, ScaleTarget::Size(10));
    sized.process.scale.as_mut().unwrap().budget = None;
    let mut world = World::new(3, vec![sized]);
    world.begin();
    look(&mut world, "sized", 35);
    assert_eq!(numprocs(&world), [3], "two more at a time");
    world.calm = false;
    look(&mut world, "sized", 35);
    assert_eq!(numprocs(&world), [3], "no more before those are up");
    let why = &world.published.groups[0].scale.as_ref().unwrap().why;
    assert!(why.ends_with("more workers would not help: `sized:sized_01` is not up yet"), "{why}");
    world.calm_down();
    look(&mut world, "sized", 35);
    world.calm_down();
    assert_eq!(numprocs(&world), [4]);
    let zone = jiff::tz::TimeZone::UTC;
    let description = &render(&world.published, world.now, &zone).processes[3].description;
    assert!(description.ends_with(", 4 of 1..4"), "{description}");
    let third = world.pid_of("sized:sized_02");
    look(&mut world, "sized", 0);
    world.pass_time(Duration::from_secs(4));
    look(&mut world, "sized", 0);
    assert_eq!(numprocs(&world), [2]);
    let asked: Vec<i32> =
        world.children.iter().filter(|(_, child)| child.asked).map(|(pid, _)| *pid).collect();
    assert_eq!(asked, [third, world.pid_of("sized:sized_03")]);
    // One that is about to go and is wanted again keeps its place.
    look(&mut world, "sized", 25);
    assert_eq!(numprocs(&world), [3]);
    world.calm_down();
    let names: Vec<_> = world.published.processes.iter().map(|process| process.view.name.as_str()).collect();
    assert_eq!(names, ["sized:sized_00", "sized:sized_01", "sized:sized_02"]);
}

#[test]
fn an_operators_number_wins_until_a_reload_changes_the_manifests() {
    let mut world = World::new(5, vec![scaled("sized", 1, 4, ScaleTarget::Size(10))]);
    world.begin();
    for to in [1, 6] {
        world.ask(Command::Scale { group: "sized".into(), to });
        world.calm_down();
        look(&mut world, "sized", 500);
        assert_eq!(numprocs(&world), [to], "nobody else decides");
    }
    let zone = jiff::tz::TimeZone::UTC;
    let description = render(&world.published, world.now, &zone).processes[0].description.clone();
    assert!(description.ends_with(", scaled 6, manifest 1..4"), "{description}");
    let reload = |world: &mut World, reset: bool, group: Group| {
        let ask = world.ask(Command::Reload { dry_run: false, reset });
        world.reads.clear();
        let changes = vec![GroupChange::InPlace(Arc::new(group))];
        let plan = Plan { order: vec!["sized".to_owned()], changes, ..Plan::default() };
        world.handle(Event::ManifestRead(ask, Ok(plan)));
        world.calm_down();
    };
    let mut other = scaled("sized", 1, 4, ScaleTarget::Size(20));
    reload(&mut world, false, other.clone());
    assert_eq!(numprocs(&world), [6], "its numbers are the same");
    other.process.scale.as_mut().unwrap().max = 5;
    reload(&mut world, false, other.clone());
    assert_eq!(numprocs(&world), [5], "as many as may stay");
    reload(&mut world, false, queue("sized", 2));
    assert_eq!(numprocs(&world), [2]);
    reload(&mut world, false, other.clone());
    assert_eq!(numprocs(&world), [2], "it begins with those there are");
    world.ask(Command::Scale { group: "sized".into(), to: 3 });
    reload(&mut world, true, other);
    look(&mut world, "sized", 500);
    assert_eq!(numprocs(&world), [5], "the word is forgotten, and the backlog counts");
}

#[test]
fn what_is_stopped_or_unknown_stays_as_it_is() {
    let mut world = World::new(7, vec![scaled("sized", 1, 4, ScaleTarget::Size(10))]);
    world.begin();
    look(&mut world, "sized", 25);
    world.calm_down();
    let found = Err("redis does not answer".to_owned());
    for _ in 0..10 {
        world.pass_time(Duration::from_secs(10));
        world.handle(Event::Observed(Observation::Backlog { group: "sized".into(), found: found.clone() }));
        assert_eq!(numprocs(&world), [3]);
    }
    world.ask(Command::Stop { names: vec![Selector::All] });
    world.calm_down();
    look(&mut world, "sized", 2_000);
    assert_eq!(numprocs(&world), [3]);
    assert_eq!(world.published.groups[0].scale.as_ref().unwrap().why, "held by a `stop`");
    assert!(world.children.is_empty());
}

#[test]
fn two_queues_share_a_budget_and_each_keeps_its_minimum() {
    for seed in 0..5 {
        let groups =
            vec![scaled("one", 1, 6, ScaleTarget::Size(1)), scaled("two", 2, 6, ScaleTarget::Size(1))];
        let mut world = World::new(seed, groups);
        world.begin();
        let mut waiting = [0, 0];
        for turn in 0..300 {
            if turn % 60 == 0 {
                waiting = [world.random.u64(0..12), world.random.u64(0..12)];
            }
            look(&mut world, "one", waiting[0]);
            look(&mut world, "two", waiting[1]);
            assert!(world.published.processes.len() <= 6, "more than the budget: {}", world.story);
            for _ in 0..20 {
                world.child_lives();
            }
            world.pass_time(Duration::from_secs(2));
            if turn % 60 == 59 {
                let needs = [waiting[0].clamp(1, 6), waiting[1].clamp(2, 6)];
                let found = numprocs(&world);
                assert!(found[0] >= 1 && found[1] >= 2, "{found:?}");
                if needs.iter().sum::<u64>() <= 6 {
                    let found: Vec<u64> = found.into_iter().map(u64::from).collect();
                    assert_eq!(found, needs, "seed {seed}");
                } else {
                    assert!(found.iter().sum::<u32>() >= 5, "{found:?} of 6 for {needs:?}, seed {seed}");
                }
            }
        }
    }
}
