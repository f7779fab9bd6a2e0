//! What children leave behind when they end: the command behind a shell that died first, and whoever left its group or
//! session. They are asked to end; those that do not in time are killed, with all that descends from them.
//!
//! Everything a child has left behind is found in its control group, where it has one; in its process group; among the
//! orphans that came to us and carry its mark; and among the descendants that were seen when the child was asked to end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use qfleet_manifest::settings::Manifest;
use qfleet_model::process::{Pid, SIGKILL, Signal};
use qfleet_model::time::Moment;
use qfleet_os::cgroup::Leaf;
use qfleet_os::tree::{self, Member};
use qfleet_os::{signal, usage};
use serde::{Deserialize, Serialize};

use super::trees::{Tree, Trees};

/// Whoever was killed is gone within this time, or hangs in the kernel and is given up.
const KILLED: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const SELDOM: Duration = Duration::from_secs(1);
const SIGTERM: Signal = 15;

/// Orphans of ours, by the mark they carry.
type Orphans = HashMap<Option<String>, Vec<Pid>>;

/// What ended children have left behind and that is not gone yet.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Leftovers {
    rests: Vec<Rest>,
}

/// How what is left of a tree is to be ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// What it is asked with; `None`: it is not asked.
    pub(super) ask: Option<Signal>,
    /// How long it may take.
    pub(super) within: Duration,
    /// It need not end before the daemon does.
    pub(super) goes_on: bool,
}

/// How something ends of which no settings are known.
const UNKNOWN: Manner = Manner { ask: Some(SIGTERM), within: KILLED, goes_on: false };

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rest {
    /// The process group of the child; `None` when others may have its number by now.
    group: Option<Pid>,
    tree: Tree,
    /// Descendants that were seen while the child lived.
    seen: BTreeSet<Member>,
    /// Who has been asked.
    asked: BTreeSet<Member>,
    ask: Option<Signal>,
    until: Moment,
    /// Nobody tells us when it ends, so it is looked at then.
    #[serde(default)]
    look_at: Option<Moment>,
    /// How long it was left alone before.
    #[serde(default)]
    left_alone: Duration,
    /// It need not end before the daemon does, and may take this long then.
    #[serde(default)]
    goes_on: Option<Duration>,
    /// It was killed, and is waited for until then.
    gone_by: Option<Moment>,
}

impl Leftovers {
    /// The leader of a tree has ended and was not released yet, so that its number is still its own: asks the rest to end.
    pub(super) fn leader_ended(
        &mut self,
        leader: Pid,
        tree: Tree,
        seen: BTreeSet<Member>,
        manner: Manner,
        now: Moment,
    ) {
        // With nobody left but the leader there is nobody to hear it.
        if let Some(ask) = manner.ask.filter(|_| !manner.goes_on) {
            let _ = signal::send_group(leader, ask);
        }
        self.rests.push(Rest {
            group: Some(leader),
            tree,
            seen,
            asked: BTreeSet::new(),
            ask: manner.ask,
            until: now + manner.within,
            look_at: None,
            left_alone: Duration::ZERO,
            goes_on: manner.goes_on.then_some(manner.within),
            gone_by: None,
        });
    }

    /// The daemon ends, and so does everything that could go on until now.
    pub(super) fn end_all(&mut self, now: Moment) {
        for rest in &mut self.rests {
            if let Some(within) = rest.goes_on.take() {
                rest.until = now + within;
                if let (Some(group), Some(ask)) = (rest.group, rest.ask) {
                    let _ = signal::send_group(group, ask);
                }
            }
        }
    }

    /// Takes over what is left of the programs of an earlier daemon that was killed: nobody else will end it. Gives the full
    /// names of the programs by their trees' marks.
    pub(super) fn take_over_earlier(
        &mut self,
        trees: &Trees,
        manifest: &Manifest,
        now: Moment,
    ) -> BTreeMap<String, String> {
        let mut earlier = BTreeMap::new();
        for (tree, members) in trees.of_earlier_programs() {
            let pids: Vec<Pid> = members.iter().map(|member| member.pid).collect();
            tracing::warn!(
                process = tree.name,
                ?pids,
                "an earlier daemon has left processes behind: they are asked to end"
            );
            let group = tree.name.split(':').next().unwrap_or_default();
            let settings = manifest.groups.iter().find(|settings| settings.name == group);
            let manner = settings.map_or(UNKNOWN, |settings| Manner {
                ask: Some(settings.process.stop_signal),
                within: settings.process.stop_wait,
                goes_on: false,
            });
            earlier.insert(tree.mark.clone(), tree.name.clone());
            self.found(tree, members, manner, now);
        }
        earlier
    }

    /// Ends those who came to us after their parents' end and whom nobody else ends: the daemon is about to end, and they
    /// descend from its children.
    pub(super) fn take_over_orphans(&mut self, trees: &Trees, ours: impl Fn(Pid) -> bool, now: Moment) {
        let orphans = tree::orphans(tree::MARK, ours).into_iter();
        for (mark, pids) in orphans {
            let Some(mark) = mark.filter(|mark| trees.is_ours(mark)) else { continue };
            // Those of a program that has ended are ended as that one is, in its time.
            if self.rests.iter().any(|rest| rest.tree.mark == mark) {
                continue;
            }
            let tree = Tree { name: String::from("orphans"), mark, leaf: None };
            self.found(tree, tree::below(pids), UNKNOWN, now);
        }
    }

    fn found(&mut self, tree: Tree, seen: BTreeSet<Member>, manner: Manner, now: Moment) {
        self.rests.push(Rest {
            group: None,
            tree,
            seen,
            asked: BTreeSet::new(),
            ask: manner.ask,
            until: now + manner.within,
            look_at: Some(now),
            left_alone: Duration::ZERO,
            goes_on: manner.goes_on.then_some(manner.within),
            gone_by: None,
        });
    }

    /// Asks those who were not asked yet, kills those whose time is over, and forgets those that are gone; gives the trees
    /// of which nobody is left. To be called after all who ended were released. `ours` are children that we started.
    pub(super) fn sweep(&mut self, now: Moment, ours: impl Fn(Pid) -> bool) -> Vec<Tree> {
        if self.rests.is_empty() {
            return Vec::new();
        }
        let find = || tree::orphans(tree::MARK, &ours);
        let orphans = find();
        let (gone, left) = std::mem::take(&mut self.rests)
            .into_iter()
            .map(|mut rest| (rest.advance(now, &orphans, &find), rest))
            .partition::<Vec<_>, _>(|(is_gone, _)| *is_gone);
        self.rests = left.into_iter().map(|(_, rest)| rest).collect();
        gone.into_iter().map(|(_, rest)| rest.tree).collect()
    }

    pub(super) fn due(&self) -> Option<Moment> {
        let due = |rest: &Rest| rest.look_at.map_or(rest.until, |at| at.min(rest.until));
        self.rests.iter().filter(|rest| rest.goes_on.is_none()).map(due).min()
    }

    /// Their time is over now.
    pub(super) fn hurry(&mut self, now: Moment) {
        self.rests.iter_mut().for_each(|rest| rest.until = rest.until.min(now));
    }
}

impl Rest {
    /// Whether it is gone, or given up.
    fn advance(&mut self, now: Moment, orphans: &Orphans, find: &impl Fn() -> Orphans) -> bool {
        let members = self.members(orphans);
        let in_group = self.group.is_some_and(signal::group_exists);
        if members.is_empty() && !in_group {
            if let Some(leaf) = &self.tree.leaf {
                // Fails for one that was never made use of as for one that is gone, and nothing depends on it.
                let _ = leaf.remove();
            }
            return true;
        }
        if self.gone_by.is_some_and(|by| by <= now) {
            let pids: Vec<Pid> = members.iter().map(|member| member.pid).collect();
            tracing::error!(
                process = self.tree.name,
                ?pids,
                "what it has left behind does not end, though it was killed"
            );
            return true;
        }
        if self.goes_on.is_some() {
            return false;
        }
        if self.until > now {
            self.ask(&members);
            self.look_later(now);
        } else {
            self.kill(&members, find);
            self.gone_by.get_or_insert(now + KILLED);
            self.look_at = None;
            self.until = now + LOOK_AGAIN;
        }
        false
    }

    /// Soon at first, and then less and less often: some take an hour.
    fn look_later(&mut self, now: Moment) {
        if self.look_at.is_some_and(|at| at <= now) {
            self.left_alone = (self.left_alone * 2).clamp(LOOK_AGAIN, SELDOM);
            self.look_at = Some(now + self.left_alone);
        }
    }

    fn members(&self, orphans: &Orphans) -> BTreeSet<Member> {
        let marked = orphans.get(&Some(self.tree.mark.clone())).into_iter().flatten().copied();
        let seen = self.seen.iter().filter(|member| member.is_alive()).map(|member| member.pid);
        let mut members = tree::below(marked.chain(seen));
        members.extend(self.tree.leaf.iter().flat_map(Leaf::members));
        members
    }

    fn ask(&mut self, members: &BTreeSet<Member>) {
        let Some(ask) = self.ask else { return };
        for member in members {
            let heard_it = || {
                let group = usage::of(member.pid).ok().map(|usage| usage.group);
                self.group.is_some() && group == self.group
            };
            if self.asked.insert(*member) && !heard_it() {
                tracing::debug!(process = self.tree.name, pid = member.pid, "left behind: asked to end");
                let _ = member.signal(ask);
            }
        }
    }

    fn kill(&self, members: &BTreeSet<Member>, find: &impl Fn() -> Orphans) {
        if self.gone_by.is_none() && !members.is_empty() {
            let pids: Vec<Pid> = members.iter().map(|member| member.pid).collect();
            tracing::info!(process = self.tree.name, ?pids, "what it has left behind is killed");
        }
        if let Some(leaf) = &self.tree.leaf
            && let Err(error) = leaf.kill()
        {
            tracing::debug!(process = self.tree.name, "cannot kill its control group: {error}");
        }
        if let Some(group) = self.group {
            let _ = signal::send_group(group, SIGKILL);
        }
        tree::kill(|| self.members(&find()));
    }
}
