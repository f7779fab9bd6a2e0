//! Users and groups of the manifest as numbers, looked up when the manifest is read: the answer may come over a network,
//! and must not be waited for between a crash and its restart.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use qfleet_manifest::settings::Group;
use qfleet_model::start::Identity;
use qfleet_os::users;

pub(super) type Names = (Option<String>, Option<String>);

/// Everybody the manifest names.
#[derive(Debug, Default)]
pub(super) struct Identities {
    known: HashMap<Names, Result<Identity, String>>,
}

impl Identities {
    /// Looks everybody up. May block.
    pub(super) fn look_up(groups: &[Group]) -> Self {
        let mut known = HashMap::new();
        for group in groups {
            let names = (group.process.user.clone(), group.process.group.clone());
            if names != (None, None) {
                known.entry(names).or_insert_with_key(resolve);
            }
        }
        Self { known }
    }

    /// Everybody, as a list.
    pub(super) fn carried(&self) -> Vec<(Names, Result<Identity, String>)> {
        self.known.iter().map(|(names, found)| (names.clone(), found.clone())).collect()
    }

    /// Goes on with what another program has found.
    pub(super) fn resume(known: Vec<(Names, Result<Identity, String>)>) -> Self {
        Self { known: known.into_iter().collect() }
    }

    /// Who the processes of this group become; `None`: who we are.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(super) fn of(&self, group: &Group) -> Result<Option<Identity>, String> {
        let names = (group.process.user.clone(), group.process.group.clone());
        if names == (None, None) {
            return Ok(None);
        }
        match self.known.get(&names) {
            Some(found) => found.clone().map(Some),
            // Settings of an earlier manifest: rare enough to ask again.
            None => resolve(&names).map(Some),
        }
    }

    /// What could not be found, in words.
    pub(super) fn problems(&self) -> Vec<&str> {
        let mut problems: Vec<&str> =
            self.known.values().filter_map(|found| found.as_ref().err()).map(String::as_str).collect();
        problems.sort_unstable();
        problems
    }
}

fn resolve((user, group): &Names) -> Result<Identity, String> {
    let own =
        || fs::metadata("/proc/self").map(|own| own.uid().to_string()).map_err(|error| error.to_string());
    let user = match user {
        Some(user) => user.clone(),
        None => own()?,
    };
    users::resolve(&user, group.as_deref()).map_err(|error| error.to_string())
}
