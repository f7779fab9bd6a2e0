//! The fleet: every process slot of every group, and the one function that decides what becomes of them.
//!
//! [`Fleet::handle`] takes an event and the time, and gives effects. Nothing in this folder has a clock, awaits or does
//! I/O, so any history can be replayed. The runtime feeds it and carries out what it says, in the order it says it.
//!
//! | File | Decides |
//! | --- | --- |
//! | `event.rs` | (what goes in and what comes out) |
//! | `slot.rs` | what an event does to one slot, and what is remembered of it |
//! | `admission.rs` | whose child may be started now, and what the others wait for |
//! | `dependencies.rs` | what `depends-on` means for starts and stops |
//! | `group.rs` | the slots of a group: how many, how far its rolling restart is, removal |
//! | `crash_loops.rs` | which worker is tried when those of a queue crash again and again |
//! | `turns.rs`, `spare.rs` | who is taken away and replaced next, and who comes up before |
//! | `commands.rs`, `asks.rs` | what each command means; when its asker is answered |
//! | `schedule.rs` | what becomes of a date that has come, and of a run |
//! | `reload.rs` | what a changed manifest means |
//! | `scaling.rs` | how many workers a group has that follows its backlog |
//! | `observed.rs` | what is made of what others have found out |
//! | `recovery.rs` | who gives back what dead workers held |
//! | `ending.rs`, `essential.rs` | shutdown, and the daemon's exit code; which groups bring it about |
//! | `farewell.rs` | what the end waits for, and what was cut off |
//! | `watches.rs` | what others should look at: probes, memory |
//! | `view.rs` | what others see |
//! | `written.rs` | (the fleet as text, for the program that takes this one's place) |

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use qfleet_manifest::settings::{Group as GroupSettings, Overall};
use qfleet_model::process::{Pid, ProcessEvent};
use qfleet_model::time::Moment;
use serde::{Deserialize, Serialize};

mod admission;
mod asks;
mod commands;
mod crash_loops;
mod dependencies;
mod ending;
mod essential;
mod event;
mod farewell;
mod group;
mod observed;
mod recovery;
mod reload;
mod scaling;
mod schedule;
mod slot;
mod spare;
mod turns;
pub mod view;
pub mod watches;
mod written;

pub use event::{AskId, Effect, Ended, Event, LogLine, Now, Purpose, RecoveryId, SlotId, TakenGroup};
pub use reload::{GroupChange, Plan};
pub use schedule::RunFor;

use asks::Pending;
use ending::{Advance, Phase};
use group::{Group, GroupId, Spec};
use recovery::Recovery;
use reload::Wish;
use slot::Slot;

/// Whose time may have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Slot(SlotId),
    Recovery(RecoveryId),
    Turns,
    CrashLoop(GroupId),
    Ending,
    Saying,
    Schedule(GroupId),
}

/// Whose child it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Owner {
    Slot(SlotId),
    Recovery(RecoveryId),
}

/// Every process of the daemon. A value like any other: it can be written down and read again, also by the next version
/// of this program, and goes on as if nothing had been. So what is added to it has to be serializable, and a new field
/// needs a default for those who do not write it yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self", default)]
pub struct Fleet {
    groups: BTreeMap<GroupId, Group>,
    /// What holds for all of them together.
    overall: Overall,
    /// Groups as the manifest orders them; removed ones stay until their processes are gone.
    order: Vec<GroupId>,
    slots: BTreeMap<SlotId, Slot>,
    children: HashMap<Pid, Owner>,
    /// Slots whose child was asked for and may not have been started yet, in that order.
    waiting: Vec<SlotId>,
    /// Counts those who asked for a turn of replacement, and the turns.
    tick: u64,
    /// When a turn that is under way holds others up no longer.
    turns_at: Option<Moment>,
    /// Slots that an operator stops as soon as those that depend on them are down.
    to_stop: Vec<SlotId>,
    /// Slots that an operator restarts as soon as those that depend on them and are restarted too are down, with the
    /// incarnation to be replaced.
    to_restart: Vec<(SlotId, u32)>,
    /// Programs, by full name, of which an earlier daemon has left something behind that has not ended yet.
    earlier: BTreeSet<String>,
    recoveries: BTreeMap<RecoveryId, Recovery>,
    /// Worked out again when the fleet is read.
    #[serde(skip)]
    timers: BinaryHeap<Reverse<(Moment, Timer)>>,
    asks: Vec<Pending>,
    reloads: HashMap<AskId, Wish>,
    phase: Phase,
    /// Everything begins anew after the end.
    again: bool,
    next_id: u32,
    /// What delays of schedules differ by from host to host.
    seed: u64,
    /// The highest number a ledger's file name ends with.
    last_ledger: u64,
    /// Groups that changed since the follow-up looked at them.
    #[serde(skip)]
    touched: BTreeSet<GroupId>,
    #[serde(skip)]
    changed: bool,
    #[serde(skip)]
    effects: Vec<Effect>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            overall: Overall::default(),
            order: Vec::new(),
            slots: BTreeMap::new(),
            children: HashMap::new(),
            waiting: Vec::new(),
            tick: 0,
            turns_at: None,
            to_stop: Vec::new(),
            to_restart: Vec::new(),
            earlier: BTreeSet::new(),
            recoveries: BTreeMap::new(),
            timers: BinaryHeap::new(),
            asks: Vec::new(),
            reloads: HashMap::new(),
            phase: Phase::NotBegun,
            again: false,
            next_id: 0,
            seed: 0,
            last_ledger: 0,
            touched: BTreeSet::new(),
            changed: false,
            effects: Vec::new(),
        }
    }
}

impl Fleet {
    /// A fleet of these groups. Nothing runs before [`Event::Began`].
    #[must_use]
    pub fn new(groups: impl IntoIterator<Item = Arc<GroupSettings>>, overall: Overall, now: Now) -> Self {
        let mut fleet = Self { overall, seed: now.moment.as_nanos(), ..Self::default() };
        for settings in groups {
            fleet.add_group(Spec::new(settings), now);
        }
        fleet.effects.clear();
        fleet
    }

    /// What this event means now. Effects are to be carried out in their order, before the next event.
    pub fn handle(&mut self, event: Event, now: Now) -> Vec<Effect> {
        self.dispatch(event, now);
        self.follow_up(now);
        std::mem::take(&mut self.effects)
    }

    fn dispatch(&mut self, event: Event, now: Now) {
        match event {
            Event::Began { ledgers, earlier, dates } => {
                self.earlier = earlier.into_iter().collect();
                self.begin(&ledgers, &dates, now);
            }
            Event::EarlierGone { name } => drop(self.earlier.remove(&name)),
            Event::Asked(ask, command) => self.asked(ask, command, now),
            Event::Spawned { slot, pid } => self.spawned(slot, pid, now),
            Event::SpawnFailed { slot, why } => self.tell(slot, ProcessEvent::SpawnFailed { why }, now),
            Event::RecoverySpawned { recovery, pid } => self.recovery_spawned(recovery, pid, now),
            Event::FromChild { pid, message } => match self.children.get(&pid) {
                Some(Owner::Slot(slot)) => self.slot_said(*slot, pid, message, now),
                Some(Owner::Recovery(recovery)) => self.recovery_said(*recovery, &message, now),
                None => {}
            },
            Event::LinkClosed { pid } => {
                if let Some(Owner::Slot(slot)) = self.children.get(&pid) {
                    self.tell(*slot, ProcessEvent::Executed, now);
                }
            }
            Event::ChildExited { pid, exit, left } => match self.children.remove(&pid) {
                Some(Owner::Slot(slot)) => self.slot_ended(slot, pid, exit, &left, now),
                Some(Owner::Recovery(recovery)) => {
                    self.recovery_ended(recovery, &exit, !left.is_empty(), now);
                }
                None => {}
            },
            Event::ManifestRead(ask, result) => self.manifest_read(ask, result, now),
            Event::GroupTaken(ask, taken) => self.group_taken(ask, taken, now),
            Event::Observed(observation) => self.observed(&observation, now),
            Event::AskersSentAway => self.asks.clear(),
            Event::Hurry => self.hurry(now),
            Event::ClockSet => self.look_at_schedules(now),
            Event::TimePassed => self.time_passed(now),
        }
    }

    /// Lets every group that changed draw its conclusions, then answers who can be answered.
    fn follow_up(&mut self, now: Now) {
        let exit = loop {
            self.changed |= !self.touched.is_empty();
            while let Some(group) = self.touched.pop_first() {
                self.advance_group(group, now);
            }
            self.give_turns(now);
            self.advance_stops(now);
            self.advance_restarts(now);
            self.admit(now);
            if !self.touched.is_empty() {
                continue;
            }
            if self.changed {
                self.answer_asks();
            }
            match self.advance_end(now) {
                Advance::NextWave => {}
                Advance::NotYet => break None,
                Advance::Over(code) => break Some(code),
            }
        };
        self.note_settled();
        if std::mem::take(&mut self.changed) {
            self.effects.push(Effect::Publish);
        }
        self.effects.extend(exit.map(|code| Effect::Exit(Ended { code, again: self.again })));
    }

    /// When to call with [`Event::TimePassed`], if nothing else happens before.
    pub fn wake_at(&mut self) -> Option<Moment> {
        while let Some(Reverse((at, timer))) = self.timers.peek() {
            if self.is_due_at(*timer, *at) {
                return Some(*at);
            }
            self.timers.pop();
        }
        None
    }

    /// Whether the timer still means something: most were overtaken by events.
    fn is_due_at(&self, timer: Timer, at: Moment) -> bool {
        match timer {
            Timer::Slot(slot) => self.slots.get(&slot).is_some_and(|slot| slot.due() == Some(at)),
            Timer::Recovery(recovery) => {
                self.recoveries.get(&recovery).is_some_and(|recovery| recovery.retry_at == Some(at))
            }
            Timer::Turns => self.turns_at == Some(at),
            Timer::CrashLoop(group) => {
                self.groups.get(&group).is_some_and(|group| group.breaker.due() == Some(at))
            }
            Timer::Ending => self.phase.gives_up_at() == Some(at),
            Timer::Saying => self.phase.say_at() == Some(at),
            Timer::Schedule(group) => self.alarm_of(group) == Some(at),
        }
    }

    fn time_passed(&mut self, now: Now) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now.moment {
                break;
            }
            self.timers.pop();
            if !self.is_due_at(timer, at) {
                continue;
            }
            match timer {
                // The end is no time for another attempt.
                Timer::Slot(slot) if self.phase.is_ending() && self.rests(slot) => {}
                Timer::Slot(slot) => self.tell(slot, ProcessEvent::TimePassed, now),
                Timer::Recovery(recovery) => self.retry_recovery(recovery, at),
                Timer::Turns => self.turns_at = None,
                Timer::CrashLoop(group) => drop(self.touched.insert(group)),
                Timer::Ending => {}
                Timer::Saying => self.say_what_lasts(now),
                Timer::Schedule(group) => self.alarm(group, now),
            }
        }
    }

    fn rests(&self, slot: SlotId) -> bool {
        self.slots.get(&slot).is_some_and(|slot| slot.state.is_at_rest())
    }

    fn wake(&mut self, at: Moment, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }

    fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    fn log(&mut self, warning: bool, name: Arc<str>, pid: Option<Pid>, text: impl Into<String>) {
        self.effects.push(Effect::Log(LogLine { warning, name, pid, text: text.into() }));
    }

    /// How much longer ending may take, by the latest time at which something is killed.
    #[must_use]
    pub fn drains_for(&self, now: Moment) -> Duration {
        let limits = self.slots.values().filter_map(Slot::due);
        limits.map(|at| at.since(now)).max().unwrap_or_default()
    }

    /// Processes that are up, and all of them. Schedules are up when they run, and count only then.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        let up = self.slots.values().filter(|slot| slot.is_up()).count();
        let resting = |slot: &&Slot| slot.spec.schedule().is_some() && !slot.is_up();
        (up, self.slots.len() - self.slots.values().filter(resting).count())
    }

    /// Draining has begun.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.phase.is_ending()
    }

    /// Whether this slot exists.
    #[must_use]
    pub fn has_slot(&self, slot: SlotId) -> bool {
        self.slots.contains_key(&slot)
    }
}
