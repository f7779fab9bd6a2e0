//! Control groups (version 2): a process that is put into one cannot leave it, nor can its children, and all of them are
//! killed at once.
//!
//! Where the daemon may write its own control group, it makes a branch below it, moves itself into a leaf of that branch
//! (`supervisor`), and gives each child a [`Leaf`]. Where it may not (a container with a read-only mount, a kernel before
//! 5.14, no version 2 at all) there are no leaves, and [`crate::tree`] has to do.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::tree::Member;

/// Where the daemon itself is.
const SUPERVISOR: &str = "supervisor";
/// What the names of all branches begin with.
const BRANCH: &str = "qfleet.";

/// Our branch.
#[derive(Debug)]
pub struct Cgroups {
    /// The control group we came from.
    origin: PathBuf,
    /// Below it.
    branch: PathBuf,
}

/// The control group of one child and all that descends from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    dir: PathBuf,
}

impl Cgroups {
    /// Makes our branch and moves this process into it; takes over the one that this process has already, from before it
    /// began anew. `fleet` names the fleet among others, for [`Cgroups::earlier`].
    ///
    /// # Errors
    /// Why not, in words.
    pub fn claim(fleet: &str) -> Result<Self, String> {
        let own = own_directory()?;
        let name = format!("{BRANCH}{}.{fleet}", std::process::id());
        if own.file_name().is_some_and(|last| last == SUPERVISOR)
            && let Some(branch) = own.parent().filter(|branch| branch.ends_with(&name))
            && let Some(origin) = branch.parent()
        {
            return Ok(Self { origin: origin.to_owned(), branch: branch.to_owned() });
        }
        remove_abandoned(&own);
        let branch = own.join(name);
        let claimed = Self { origin: own, branch };
        match claimed.move_in() {
            Ok(()) => {
                claimed.count_memory();
                Ok(claimed)
            }
            Err(why) => {
                claimed.leave();
                Err(why)
            }
        }
    }

    fn move_in(&self) -> Result<(), String> {
        let supervisor = self.branch.join(SUPERVISOR);
        fs::create_dir_all(&supervisor)
            .map_err(|error| format!("cannot make `{}`: {error}", supervisor.display()))?;
        if !supervisor.join("cgroup.kill").exists() {
            return Err("the kernel is older than 5.14".to_owned());
        }
        enter(&supervisor).map_err(|error| format!("cannot move into `{}`: {error}", supervisor.display()))
    }

    /// Has the kernel count memory and its shortage by leaf, where that is ours to say: under a service manager that has
    /// delegated the group to us. Fails where others are in the same group, and nothing depends on it.
    fn count_memory(&self) {
        if std::env::var_os("INVOCATION_ID").is_some() {
            let _ = fs::write(self.origin.join("cgroup.subtree_control"), "+memory");
            let _ = fs::write(self.branch.join("cgroup.subtree_control"), "+memory");
        }
    }

    /// A new leaf.
    ///
    /// # Errors
    /// The system refused; the name may be too long.
    pub fn leaf(&self, name: &str) -> io::Result<Leaf> {
        let dir = self.branch.join(name);
        fs::create_dir(&dir)?;
        Ok(Leaf { dir })
    }

    /// Branches of earlier daemons of this fleet that have ended, each with its leaves by name.
    #[must_use]
    pub fn earlier(&self, fleet: &str) -> Vec<Earlier> {
        let entries = fs::read_dir(&self.origin).into_iter().flatten().flatten();
        let ending = format!(".{fleet}");
        let branches = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(BRANCH) && name.ends_with(&ending) && *path != self.branch
        });
        branches.filter_map(Earlier::of).collect()
    }

    /// Moves this process back to where it came from and removes the branch, as far as nobody is left in it.
    pub fn leave(&self) {
        let _ = fs::write(self.branch.join("cgroup.subtree_control"), "-memory");
        let _ = fs::write(self.origin.join("cgroup.subtree_control"), "-memory");
        let _ = enter(&self.origin);
        remove_empty(&self.branch);
    }
}

/// What an earlier daemon has left.
#[derive(Debug)]
pub struct Earlier {
    /// Its leaves, by name.
    pub leaves: Vec<(String, Leaf)>,
    branch: PathBuf,
}

impl Earlier {
    fn of(branch: PathBuf) -> Option<Self> {
        if is_populated(&branch.join(SUPERVISOR)) {
            return None;
        }
        let entries = fs::read_dir(&branch).ok()?.flatten().filter(|entry| entry.path().is_dir());
        let leaves = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok().filter(|name| name != SUPERVISOR)?;
            Some((name, Leaf { dir: entry.path() }))
        });
        Some(Self { leaves: leaves.collect(), branch })
    }

    /// Removes what nobody is in.
    pub fn tidy(&self) {
        remove_empty(&self.branch);
    }
}

impl Leaf {
    /// Where it is; a child enters it by [`enter`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Everybody in it.
    #[must_use]
    pub fn members(&self) -> BTreeSet<Member> {
        let list = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|pid| Member::of(pid.parse().ok()?)).collect()
    }

    /// Whether anybody is in it.
    #[must_use]
    pub fn is_populated(&self) -> bool {
        is_populated(&self.dir)
    }

    /// Kills everybody in it at once.
    ///
    /// # Errors
    /// The system refused.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.kill"), "1")
    }

    /// Removes it; nobody may be in it any more.
    ///
    /// # Errors
    /// Somebody is.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.dir)
    }
}

/// Moves this process into a control group.
///
/// # Errors
/// It is gone, or not ours to enter.
pub fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

/// How often the kernel has killed somebody of our own control group, or below it, for want of memory; `None` where that is
/// not counted.
#[must_use]
pub fn own_memory_kills() -> Option<u64> {
    let events = fs::read_to_string(own_directory().ok()?.join("memory.events")).ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn is_populated(dir: &Path) -> bool {
    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// Removes branches of daemons that were killed, as soon as nobody is left in them.
fn remove_abandoned(origin: &Path) {
    let entries = fs::read_dir(origin).into_iter().flatten().flatten();
    for branch in entries.map(|entry| entry.path()) {
        let name = branch.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let daemon = name.strip_prefix(BRANCH).and_then(|rest| rest.split('.').next()?.parse().ok());
        if daemon.is_some_and(|pid| Member::of(pid).is_none()) && !is_populated(&branch) {
            remove_empty(&branch);
        }
    }
}

/// Removes a branch from its leaves up; what somebody is in stays.
fn remove_empty(branch: &Path) {
    let entries = fs::read_dir(branch).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(branch);
}

/// The directory of the control group this process is in.
fn own_directory() -> Result<PathBuf, String> {
    let read =
        |file: &str| fs::read_to_string(file).map_err(|error| format!("cannot read `{file}`: {error}"));
    directory(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
}

/// The same from what the system says of mounts and of us.
fn directory(mounts: &str, membership: &str) -> Result<PathBuf, String> {
    let group = membership.lines().find_map(|line| line.strip_prefix("0::"));
    let group = Path::new(group.ok_or("this process is in no control group of version 2")?);
    let mut outside = false;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        if !after.starts_with("cgroup2 ") {
            continue;
        }
        let fields: Vec<&str> = before.split(' ').collect();
        let (Some(root), Some(place)) = (fields.get(3), fields.get(4)) else { continue };
        match group.strip_prefix(root) {
            Ok(below) if !below.starts_with("..") => return Ok(Path::new(place).join(below)),
            Ok(_) | Err(_) => outside = true,
        }
    }
    Err(match outside {
        true => "our control group is outside of what is mounted here",
        false => "no control groups of version 2 are mounted",
    }
    .to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "42 32 0:39 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        43 32 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const CONTAINER: &str = "900 899 0:26 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";

    #[test]
    fn our_directory_is_found_on_every_kind_of_mount() {
        let service = "0::/system.slice/qfleet.service\n";
        for (mounts, membership, expected) in [
            (UNIFIED, service, "/sys/fs/cgroup/system.slice/qfleet.service"),
            (HYBRID, "4:memory:/x\n0::/\n", "/sys/fs/cgroup/unified"),
            (CONTAINER, "0::/docker/abc/inner\n", "/sys/fs/cgroup/inner"),
        ] {
            assert_eq!(directory(mounts, membership).unwrap(), Path::new(expected));
        }
    }

    #[test]
    fn where_there_is_none_it_says_why() {
        assert!(directory(UNIFIED, "4:memory:/x\n").unwrap_err().contains("no control group of version 2"));
        assert!(directory("", "0::/\n").unwrap_err().contains("mounted"));
        assert!(directory(UNIFIED, "0::/../other\n").unwrap_err().contains("outside"));
        assert!(directory(CONTAINER, "0::/elsewhere\n").unwrap_err().contains("outside"));
    }
}
