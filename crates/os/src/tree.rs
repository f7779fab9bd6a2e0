//! A process with everything that descends from it, wherever it went: groups and sessions can be left, the line of descent
//! and what was put into the environment cannot so easily.
//!
//! The daemon is the one to whom orphans of its tree come, a worker the one to whom those of its jobs come, so everybody
//! who lost a parent is found among our own children. Whose it was says the [`MARK`] in its environment.
//!
//! What can be missed: a process that forks while we look (so the looking is repeated, and everybody found is stopped
//! before anybody is killed), and an orphan that has replaced its environment. With control groups
//! ([`crate::cgroup`]) neither matters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::signal::SendError;
use crate::{raw, usage};

/// The variable that says to whose tree a process belongs.
pub const MARK: &str = "QFLEET_TREE";

/// Looks for more of a tree before those found are killed. Each stops everybody it finds, so a tree that is still growing
/// then is one that is started from outside.
const LOOKS: usize = 16;

/// A living process, named for good: numbers are used again, a number with a start is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its process number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started_at: u64,
}

impl Member {
    /// The process that has this number now; `None` when there is none, or it has ended and waits to be reaped.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let usage = usage::of(pid).ok().filter(|usage| !matches!(usage.state, 'Z' | 'X'))?;
        Some(Self { pid, started_at: usage.started_at })
    }

    /// Whether it still lives.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Signals it, and nobody who has got its number since.
    ///
    /// # Errors
    /// See [`SendError`].
    pub fn signal(self, signal: i32) -> Result<(), SendError> {
        if self.pid <= 1 {
            return Err(SendError::Other(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        Ok(raw::signal_if(self.pid, signal, || self.is_alive())?)
    }
}

/// The children of a process, zombies included. Empty when it is gone.
#[must_use]
pub fn children_of(parent: i32) -> Vec<i32> {
    if !Path::new("/proc/thread-self/children").exists() {
        // A kernel without these lists.
        let everybody = everybody().filter(|pid| usage::of(*pid).is_ok_and(|usage| usage.parent == parent));
        return everybody.collect();
    }
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// These processes and all that descend from them, as far as they live.
#[must_use]
pub fn below(roots: impl IntoIterator<Item = i32>) -> BTreeSet<Member> {
    let mut waiting: Vec<i32> = roots.into_iter().collect();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(pid) = waiting.pop() {
        if seen.insert(pid) {
            found.extend(Member::of(pid));
            waiting.extend(children_of(pid));
        }
    }
    found
}

/// The value of a variable in the environment a process began with, as far as we may see it.
#[must_use]
pub fn variable_of(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = environment.split(|byte| *byte == 0);
    let value = variables.filter_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    value.map(|value| String::from_utf8_lossy(value).into_owned()).next()
}

/// Everybody on this system whose variable of this name has a value that is looked for, by value. Looks at every process
/// there is; those of other users may not be visible.
#[must_use]
pub fn with_variable(name: &str, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, BTreeSet<Member>> {
    let mut found: BTreeMap<String, BTreeSet<Member>> = BTreeMap::new();
    for pid in everybody() {
        if let Some(value) = variable_of(pid, name).filter(|value| wanted(value))
            && let Some(member) = Member::of(pid)
        {
            found.entry(value).or_default().insert(member);
        }
    }
    found
}

/// Kills everybody whom `find` finds. All of them are stopped first, and looked for again until there are no new ones, so
/// that nobody can leave a child behind that we do not know.
pub fn kill(find: impl Fn() -> BTreeSet<Member>) -> BTreeSet<Member> {
    let mut stopped = BTreeSet::new();
    for _ in 0..LOOKS {
        let new: Vec<Member> = find().difference(&stopped).copied().collect();
        if new.is_empty() {
            break;
        }
        for member in new {
            // One that has ended in between is what was wanted.
            let _ = member.signal(libc::SIGSTOP);
            stopped.insert(member);
        }
    }
    for member in &stopped {
        let _ = member.signal(libc::SIGKILL);
    }
    stopped
}

/// Children of ours that others have left behind, by the value of this variable of theirs. `ours` are those that we
/// started. Those that have ended are not among them.
#[must_use]
pub fn orphans(variable: &str, ours: impl Fn(i32) -> bool) -> HashMap<Option<String>, Vec<i32>> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut by_mark: HashMap<Option<String>, Vec<i32>> = HashMap::new();
    for pid in children_of(own).into_iter().filter(|pid| !ours(*pid)) {
        if Member::of(pid).is_some() {
            by_mark.entry(variable_of(pid, variable)).or_default().push(pid);
        }
    }
    by_mark
}

fn everybody() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
