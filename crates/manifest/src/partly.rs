//! A manifest in force of which somebody adds or drops one group, instead of taking a new manifest as a whole.

use std::collections::BTreeSet;

use crate::settings::{Group, Manifest, Work};

impl Manifest {
    /// This manifest with one group as `from` has it, with its queues and connections and in its place; `None` when `from`
    /// has no such group.
    #[must_use]
    pub fn with_group(&self, from: &Self, name: &str) -> Option<Self> {
        let group = from.group(name)?;
        let mut with = self.without_group(name);
        with.groups.push(group.clone());
        with.groups.sort_by_key(|group| place(from.groups.iter().map(|other| &other.name), &group.name));
        with.lanes
            .extend(from.lanes.iter().filter(|lane| lanes_of(group).contains(lane.name.as_str())).cloned());
        with.lanes.sort_by_key(|lane| place(from.lanes.iter().map(|other| &other.name), &lane.name));
        if let Work::Queue(worker) | Work::Pool(worker) = &group.work {
            with.connections.extend(worker.connections.clone());
        }
        for variable in &from.secret_variables {
            if !with.secret_variables.contains(variable) {
                with.secret_variables.push(variable.clone());
            }
        }
        Some(with)
    }

    /// This manifest without one group and its queues. Connections stay: jobs may still have to be given back.
    #[must_use]
    pub fn without_group(&self, name: &str) -> Self {
        let mut without = self.clone();
        without.groups.retain(|group| group.name != name);
        let gone = self.group(name).map(lanes_of).unwrap_or_default();
        let kept: BTreeSet<&str> =
            self.groups.iter().filter(|group| group.name != name).flat_map(lanes_of).collect();
        without.lanes.retain(|lane| !gone.contains(lane.name.as_str()) || kept.contains(lane.name.as_str()));
        without
    }
}

/// What is not listed comes last.
fn place<'a>(mut names: impl Iterator<Item = &'a String>, name: &str) -> usize {
    names.position(|other| other == name).unwrap_or(usize::MAX)
}

/// The queues that the group's processes serve.
fn lanes_of(group: &Group) -> BTreeSet<&str> {
    match &group.work {
        Work::Queue(worker) | Work::Pool(worker) => {
            worker.lanes.iter().map(|lane| lane.name.as_str()).collect()
        }
        Work::Program { .. } | Work::Schedule(_) => BTreeSet::new(),
    }
}
