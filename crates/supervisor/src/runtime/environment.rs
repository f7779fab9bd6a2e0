//! The environment of a child, complete: nothing reaches it that is not named here.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use qfleet_manifest::settings::Group;
use qfleet_model::start::Identity;
use qfleet_os::service::NOT_FOR_CHILDREN;
use qfleet_os::tree::MARK;

/// What a child with a clean environment still gets.
const ALWAYS: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// What tells a child which process it is.
pub(super) const OWN_VARIABLES: [&str; 2] = ["QFLEET_PROCESS_NAME", "QFLEET_GROUP_NAME"];

/// The daemon's own variables without those that are not for children.
pub(super) fn inherited<'a>(
    own: &'a [(OsString, OsString)],
    secrets: &'a [String],
) -> impl Iterator<Item = &'a (OsString, OsString)> {
    let is_secret = |name: &OsStr| secrets.iter().any(|secret| name == secret.as_str());
    let is_ours = |name: &OsStr| name == MARK || NOT_FOR_CHILDREN.iter().any(|other| name == *other);
    own.iter().filter(move |(name, _)| !is_secret(name) && !is_ours(name))
}

/// Variables for a child of `group`, later ones over earlier ones: inherited, its user's, its name, the manifest's.
pub(super) fn environment(
    own: &[(OsString, OsString)],
    secrets: &[String],
    group: &Group,
    process_name: &str,
    user: Option<&Identity>,
) -> Vec<(OsString, OsString)> {
    let clean = !group.process.inherit_environment;
    let is_basic = |name: &OsStr| ALWAYS.iter().any(|other| name == *other);
    let kept = inherited(own, secrets).filter(|(name, _)| !clean || is_basic(name));
    let mut variables: BTreeMap<OsString, OsString> = kept.cloned().collect();
    if let Some(user) = user {
        let mut set = |name: &str, value: Option<OsString>| match value {
            Some(value) => drop(variables.insert(name.into(), value)),
            None => drop(variables.remove(OsStr::new(name))),
        };
        set("HOME", user.home.clone().map(Into::into));
        set("SHELL", user.shell.clone().map(Into::into));
        set("USER", user.name.clone().map(Into::into));
        set("LOGNAME", user.name.clone().map(Into::into));
    }
    let [own_name, group_name] = OWN_VARIABLES;
    variables.insert(own_name.into(), process_name.into());
    variables.insert(group_name.into(), group.name.clone().into());
    variables.extend(group.process.environment.iter().map(|(name, value)| (name.into(), value.into())));
    variables.into_iter().collect()
}
