//! What keeps a child and all that descends from it together: a mark in its environment, and a control group of its own
//! where we may make one. See [`qfleet_os::tree`] for what each of them can do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use qfleet_model::snapshot::Keeping;
use qfleet_os::cgroup::{Cgroups, Leaf};
use qfleet_os::clock;
use qfleet_os::tree::{self, Member};
use serde::{Deserialize, Serialize};

/// Marks and control groups for the children of one daemon.
#[derive(Debug)]
pub(super) struct Trees {
    cgroups: Option<Cgroups>,
    /// Names the fleet among all others on this system, also after the daemon's end.
    fleet: String,
    last: u64,
}

/// What a child is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Program,
    Worker,
}

/// The tree of one child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tree {
    /// The slot's full name.
    pub(super) name: String,
    /// What the child and its descendants have in their environment.
    pub(super) mark: String,
    pub(super) leaf: Option<Leaf>,
}

impl Trees {
    /// For the fleet that has this state directory; says in the log which way is used.
    pub(super) fn new(state_dir: &Path, use_cgroups: bool) -> Self {
        // Not its path: two containers may have the same one.
        let fleet = fs::metadata(state_dir)
            .map_or_else(|_| String::from("0"), |dir| format!("{:x}-{:x}", dir.dev(), dir.ino()));
        let claimed = match use_cgroups {
            true => Cgroups::claim(&fleet),
            false => Err(String::from("QFLEET_CGROUP says so")),
        };
        match &claimed {
            Ok(_) => tracing::info!("each process has a control group of its own"),
            Err(why) => tracing::info!(
                "processes have no control groups of their own ({why}); their descendants are looked for instead"
            ),
        }
        // A daemon that goes on in the same process numbers its trees from a later time on.
        let last = clock::now().as_nanos() / 1_000_000;
        Self { cgroups: claimed.ok(), fleet, last }
    }

    pub(super) fn keeping(&self) -> Keeping {
        if self.cgroups.is_some() { Keeping::Cgroup } else { Keeping::Walk }
    }

    /// The tree of a child that is about to be started.
    pub(super) fn plant(&mut self, kind: Kind, name: &str) -> Tree {
        self.last += 1;
        let own = format!("{}.{}.{}.{name}", kind.word(), std::process::id(), self.last);
        let mark = format!("{}/{own}", self.fleet);
        let leaf = self.cgroups.as_ref().and_then(|cgroups| {
            let leaf = cgroups.leaf(&own);
            leaf.inspect_err(|error| tracing::warn!(process = name, "no control group for it: {error}")).ok()
        });
        Tree { name: name.to_owned(), mark, leaf }
    }

    /// Whether this is a mark of ours.
    pub(super) fn is_ours(&self, mark: &str) -> bool {
        mark.split_once('/').is_some_and(|(fleet, _)| fleet == self.fleet)
    }

    /// Trees of programs that an earlier daemon of this fleet has left behind: of whoever lives and has a mark, and of
    /// whoever is in a leaf. Looks at every process there is. What its workers run is none of this: they finish it.
    pub(super) fn of_earlier_programs(&self) -> Vec<(Tree, BTreeSet<Member>)> {
        let named = |mark: &str| {
            let (fleet, rest) = mark.split_once('/')?;
            let mut parts = rest.splitn(4, '.');
            let (kind, daemon) = (parts.next()?, parts.next()?);
            let name = parts.nth(1)?;
            let is_earlier = fleet == self.fleet
                && kind == Kind::Program.word()
                && daemon.parse() != Ok(std::process::id());
            is_earlier.then(|| name.to_owned())
        };
        let mut trees: Vec<_> = tree::with_variable(tree::MARK, |mark| named(mark).is_some())
            .into_iter()
            .filter_map(|(mark, members)| Some((Tree { name: named(&mark)?, mark, leaf: None }, members)))
            .collect();
        for earlier in self.cgroups.iter().flat_map(|cgroups| cgroups.earlier(&self.fleet)) {
            earlier.tidy();
            for (leaf_name, leaf) in earlier.leaves {
                let mark = format!("{}/{leaf_name}", self.fleet);
                let Some(name) = named(&mark).filter(|_| leaf.is_populated()) else { continue };
                match trees.iter_mut().find(|(tree, _)| tree.mark == mark) {
                    Some((tree, _)) => tree.leaf = Some(leaf),
                    None => {
                        let members = leaf.members();
                        trees.push((Tree { name, mark, leaf: Some(leaf) }, members));
                    }
                }
            }
        }
        trees
    }

    /// Gives the control groups back.
    pub(super) fn leave(&self) {
        if let Some(cgroups) = &self.cgroups {
            for earlier in cgroups.earlier(&self.fleet) {
                earlier.tidy();
            }
            cgroups.leave();
        }
    }
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Worker => "worker",
        }
    }
}
