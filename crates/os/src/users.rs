//! Users and groups, from names to numbers. Asked when settings are read, never between fork and exec: the answer may
//! come over a network.

use std::ffi::CString;
use std::fmt;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use qfleet_model::start::Identity;

/// Why a user or group could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserError {
    /// The system knows no such user.
    NoUser(String),
    /// The system knows no such group.
    NoGroup(String),
    /// A user number without an entry, and no group to go with it.
    NumberWithoutGroup(u32),
    /// The user database could not be asked.
    Lookup {
        /// What was looked up.
        name: String,
        /// The system's words.
        error: String,
    },
}

impl fmt::Display for UserError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(name) => write!(out, "there is no user `{name}` on this system"),
            Self::NoGroup(name) => write!(out, "there is no group `{name}` on this system"),
            Self::NumberWithoutGroup(uid) => {
                write!(out, "user number `{uid}` has no entry on this system; name a `group` to go with it")
            }
            Self::Lookup { name, error } => write!(out, "look up `{name}`: {error}"),
        }
    }
}

impl std::error::Error for UserError {}

/// Whether this process may become other users.
#[must_use]
pub fn am_root() -> bool {
    Uid::effective().is_root()
}

/// The number of the user this process acts as.
#[must_use]
pub fn own() -> u32 {
    Uid::effective().as_raw()
}

/// A user, by name or number, with all its groups. `group` takes the place of the user's primary group.
///
/// # Errors
/// See [`UserError`].
pub fn resolve(user: &str, group: Option<&str>) -> Result<Identity, UserError> {
    let gid = group.map(resolve_group).transpose()?;
    let entry = match user.parse::<u32>() {
        Ok(uid) => match User::from_uid(Uid::from_raw(uid)).map_err(|error| lookup(user, error))? {
            Some(entry) => entry,
            None => return nameless(uid, gid),
        },
        Err(_) => {
            let entry = User::from_name(user).map_err(|error| lookup(user, error))?;
            entry.ok_or_else(|| UserError::NoUser(user.to_owned()))?
        }
    };
    let gid = gid.map_or(entry.gid, Gid::from_raw);
    let name = CString::new(entry.name.as_bytes()).map_err(|_| UserError::NoUser(user.to_owned()))?;
    let groups = getgrouplist(&name, gid).map_err(|error| lookup(user, error))?;
    Ok(Identity {
        name: Some(entry.name),
        uid: entry.uid.as_raw(),
        gid: gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
        home: Some(entry.dir).filter(|path| *path != PathBuf::new()),
        shell: Some(entry.shell).filter(|path| *path != PathBuf::new()),
    })
}

/// A group, by name or number. Numbers need no entry.
///
/// # Errors
/// See [`UserError`].
pub fn resolve_group(group: &str) -> Result<u32, UserError> {
    if let Ok(number) = group.parse::<u32>() {
        return Ok(number);
    }
    let entry = Group::from_name(group).map_err(|error| lookup(group, error))?;
    entry.map(|entry| entry.gid.as_raw()).ok_or_else(|| UserError::NoGroup(group.to_owned()))
}

fn nameless(uid: u32, gid: Option<u32>) -> Result<Identity, UserError> {
    let gid = gid.ok_or(UserError::NumberWithoutGroup(uid))?;
    Ok(Identity { name: None, uid, gid, groups: vec![gid], home: None, shell: None })
}

fn lookup(name: &str, error: nix::Error) -> UserError {
    UserError::Lookup { name: name.to_owned(), error: error.desc().to_lowercase() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let root = resolve("root", None).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_deref()), (0, 0, Some("/root".as_ref())));
        assert!(root.groups.contains(&0));
        assert_eq!(resolve("0", None).unwrap(), root);
        let daemon = resolve("daemon", Some("root")).unwrap();
        assert_eq!(daemon.gid, 0);
        assert!(daemon.groups.contains(&0));
    }

    #[test]
    fn a_number_without_entry_needs_a_group() {
        assert_eq!(resolve("54321", None), Err(UserError::NumberWithoutGroup(54321)));
        let nobody = resolve("54321", Some("54321")).unwrap();
        assert_eq!((nobody.uid, nobody.gid, nobody.groups, nobody.name), (54321, 54321, vec![54321], None));
    }

    #[test]
    fn unknown_names_are_named() {
        assert_eq!(resolve("no-such-user", None), Err(UserError::NoUser(String::from("no-such-user"))));
        assert_eq!(
            resolve("root", Some("no-such-group")),
            Err(UserError::NoGroup(String::from("no-such-group")))
        );
    }
}
