//! What goes into the fleet and what comes out: events and effects, and the ids they speak of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use qfleet_manifest::settings::Group as GroupSettings;
use qfleet_model::command::{Command, Refusal, Reply};
use qfleet_model::link::FromChild;
use qfleet_model::observation::Observation;
use qfleet_model::process::{Pid, Signal};
use qfleet_model::snapshot::Exit;
use qfleet_model::start::DrainLimit;
use qfleet_model::time::{Moment, WallTime};
use serde::{Deserialize, Serialize};

use super::{Plan, RunFor};

/// One place for a process; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId(pub u32);

/// A dead worker's ledger that is being taken care of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecoveryId(pub u32);

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskId(pub u64);

/// Both clocks at one instant: one to measure, one to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For all rules.
    pub moment: Moment,
    /// For people.
    pub wall: WallTime,
}

/// What happens to the fleet.
#[derive(Debug, Clone)]
pub enum Event {
    /// The daemon begins; these ledger files of earlier workers lie in its state directory.
    Began {
        /// File names.
        ledgers: Vec<String>,
        /// Programs, by full name, of which an earlier daemon has left something behind.
        earlier: Vec<String>,
        /// The last dates that are known to have been dealt with, by the names of their schedules.
        dates: BTreeMap<String, WallTime>,
    },
    /// Nothing of an earlier daemon's program is left.
    EarlierGone {
        /// Its full name.
        name: String,
    },
    /// Somebody asks for something.
    Asked(AskId, Command),
    /// The slot's child lives.
    Spawned {
        /// Whose.
        slot: SlotId,
        /// Its number.
        pid: Pid,
    },
    /// The slot gets no child.
    SpawnFailed {
        /// Which.
        slot: SlotId,
        /// Why.
        why: String,
    },
    /// The recovery's child lives, or (`None`) there is none.
    RecoverySpawned {
        /// Whose.
        recovery: RecoveryId,
        /// Its number.
        pid: Option<Pid>,
    },
    /// A child said something.
    FromChild {
        /// Which.
        pid: Pid,
        /// What.
        message: FromChild,
    },
    /// A child's link has closed: a program was executed, or the child ends.
    LinkClosed {
        /// Which.
        pid: Pid,
    },
    /// A child has ended and was reaped; everything it said came before.
    ChildExited {
        /// Which.
        pid: Pid,
        /// How.
        exit: Exit,
        /// Those of the ledger files it was given that are still there.
        left: Vec<String>,
    },
    /// The answer to [`Effect::ReadManifest`]: what it means, or its problems in words.
    ManifestRead(AskId, Result<Plan, String>),
    /// The answer to [`Effect::TakeGroup`]: the group, or the name that the manifest does not have.
    GroupTaken(AskId, Result<TakenGroup, String>),
    /// Somebody outside the loop has found this out.
    Observed(Observation),
    /// The wall clock was set, or stood still while the machine slept.
    ClockSet,
    /// Everybody who waits for an answer has been told something else: another program takes our place.
    AskersSentAway,
    /// `stop-wait` is zero from now on, and the daemon ends.
    Hurry,
    /// Time has passed; see `Fleet::wake_at`.
    TimePassed,
}

/// A group of the manifest as read last, which is in force from now on.
#[derive(Debug, Clone)]
pub struct TakenGroup {
    /// Its settings.
    pub settings: Arc<GroupSettings>,
    /// Names of all groups in force, in the manifest's order.
    pub order: Vec<String>,
}

/// What a manifest is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To say what would change.
    Look,
    /// To take single groups from it later.
    Keep,
    /// To be in force.
    Apply,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Start a child; answered by [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// For this slot.
        slot: SlotId,
        /// The slot's full name.
        name: Arc<str>,
        /// Its number in the group.
        number: u32,
        /// What to run, and how.
        group: Arc<GroupSettings>,
        /// Workers: the file name of its ledger.
        ledger: Option<String>,
        /// Workers: earlier ledgers of the slot to wait for and to recover first.
        after: Vec<String>,
        /// Schedules: the date it runs for; `None` when somebody wants it now.
        run: Option<RunFor>,
    },
    /// Start a recovery child; answered by [`Event::RecoverySpawned`].
    Recover {
        /// For this.
        recovery: RecoveryId,
        /// The dead worker's full name, as far as known.
        name: String,
        /// The settings it ran with; `None`: those of the whole manifest.
        group: Option<Arc<GroupSettings>>,
        /// File name of its ledger.
        ledger: String,
    },
    /// Send a signal to a living child.
    Signal {
        /// To whom.
        pid: Pid,
        /// Which.
        signal: Signal,
        /// To its whole process group.
        group: bool,
    },
    /// Tell a worker to drain.
    Drain {
        /// Whom.
        pid: Pid,
        /// How long its jobs may take.
        limit: DrainLimit,
    },
    /// Tell a worker its changed settings.
    Tune {
        /// Whom.
        pid: Pid,
        /// The settings.
        group: Arc<GroupSettings>,
    },
    /// Answer somebody.
    Answer(AskId, Result<Reply, Refusal>),
    /// Read the manifest; answered by [`Event::ManifestRead`].
    ReadManifest {
        /// For whom.
        ask: AskId,
        /// What for.
        purpose: Purpose,
    },
    /// Take this group from the manifest as read last; answered by [`Event::GroupTaken`].
    TakeGroup {
        /// For whom.
        ask: AskId,
        /// Its name.
        group: String,
    },
    /// This group is not in force any more.
    GroupDropped {
        /// Its name.
        group: String,
    },
    /// Remember over the daemon's end that every date of the schedule up to this one was dealt with.
    Remember {
        /// Its name.
        schedule: String,
        /// The date.
        date: WallTime,
    },
    /// Put another program in our place, and answer whoever asked for it; refuse it when it cannot take over.
    Upgrade {
        /// For whom.
        ask: AskId,
        /// Its file; `None`: the one that the running program was started from.
        binary: Option<PathBuf>,
    },
    /// Write to a process, and answer whoever asked for it.
    Input {
        /// For whom.
        ask: AskId,
        /// The process' full name.
        name: Arc<str>,
        /// Its number.
        pid: Pid,
        /// What it gets to read.
        text: String,
    },
    /// The slot has another name from now on.
    Renamed {
        /// Which.
        slot: SlotId,
        /// Its full name.
        name: Arc<str>,
    },
    /// The slot is gone for good.
    Gone {
        /// Which.
        slot: SlotId,
    },
    /// Every process that starts with the daemon is up, failing, or waiting for an earlier worker. Once.
    Settled,
    /// Draining has begun. Once, or once more when it turns out that nothing follows.
    ShuttingDown {
        /// Everything begins anew afterwards.
        again: bool,
    },
    /// Write a log line.
    Log(LogLine),
    /// What others see has changed. At most once, and last but for [`Effect::Exit`].
    Publish,
    /// Everything has ended.
    Exit(Ended),
}

/// How the fleet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code of the daemon.
    pub code: u8,
    /// Everything is to begin anew in the same process.
    pub again: bool,
}

/// A line for the daemon's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Somebody may want to look at it.
    pub warning: bool,
    /// The process or group it is about.
    pub name: Arc<str>,
    /// Its number.
    pub pid: Option<Pid>,
    /// What happened.
    pub text: String,
}
