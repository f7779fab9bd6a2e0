//! Where the ledgers are. Each user that workers become has a directory of its own, so that a worker can make its file
//! after it has given up the daemon's privileges, and can reach nobody else's.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use qfleet_model::start::Identity;
use qfleet_os::locked_map::UNFINISHED;

use super::{dates, notices};

/// What lies there, too.
const NOT_OURS: &str = dates::STEM;

/// The state directory and what lies in it.
#[derive(Debug)]
pub(super) struct Ledgers {
    dir: PathBuf,
    /// Files that are there or may be, by name.
    paths: HashMap<String, PathBuf>,
}

impl Ledgers {
    /// Makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new(dir: PathBuf) -> io::Result<Self> {
        // Others may pass through to their own directory below, and see nothing; whatever the daemon's mask takes from them,
        // as that of a hardened unit does: a worker of another user could make no ledger and never start.
        let mode = Permissions::from_mode(0o711);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.and_then(|()| fs::set_permissions(&dir, mode)).map_err(|error| {
            io::Error::new(error.kind(), format!("make the state directory `{}`: {error}", dir.display()))
        })?;
        Ok(Self { dir, paths: HashMap::new() })
    }

    /// The state directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Those that are known, with their places.
    pub(super) fn carried(&self) -> HashMap<String, PathBuf> {
        self.paths.clone()
    }

    /// Goes on with those another program knew. Nothing is looked for: some may just be made by living workers.
    pub(super) fn resume(&mut self, paths: HashMap<String, PathBuf>) {
        self.paths = paths;
    }

    /// Ledgers that lie there, by name; remains of a file that was never finished are removed, and sockets of programs that
    /// an earlier daemon has left.
    pub(super) fn find(&mut self) -> io::Result<Vec<String>> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if fs::symlink_metadata(&path)?.is_dir() {
                for entry in fs::read_dir(&path)? {
                    self.found(&entry?.path());
                }
            } else {
                self.found(&path);
            }
        }
        let mut names: Vec<String> = self.paths.keys().cloned().collect();
        names.sort_unstable();
        Ok(names)
    }

    fn found(&mut self, path: &Path) {
        let Some(name) = path.file_name().and_then(OsStr::to_str) else { return };
        if name.starts_with(NOT_OURS) {
            return;
        }
        if name.ends_with(UNFINISHED) || name.starts_with(notices::STEM) {
            // It may be gone by now.
            let _ = fs::remove_file(path);
        } else {
            self.paths.insert(name.to_owned(), path.to_owned());
        }
    }

    /// Where a new ledger of a worker that becomes this user is to be.
    ///
    /// # Errors
    /// The user's directory cannot be made.
    pub(super) fn place(&mut self, name: &str, user: Option<&Identity>) -> io::Result<PathBuf> {
        let own = fs::metadata("/proc/self")?.uid();
        let dir = match user {
            Some(user) if user.uid != own => {
                let dir = self.dir.join(format!("u{}", user.uid));
                match DirBuilder::new().mode(0o700).create(&dir) {
                    Ok(()) => chown(&dir, Some(user.uid), Some(user.gid))?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
                dir
            }
            _ => self.dir.clone(),
        };
        let path = dir.join(name);
        self.paths.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    /// Where a ledger lies that was found or placed.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.paths.get(name).cloned().unwrap_or_else(|| self.dir.join(name))
    }

    /// Those that are still there; the others are forgotten.
    pub(super) fn left(&mut self, names: &[String]) -> Vec<String> {
        let (left, gone): (Vec<String>, Vec<String>) =
            names.iter().cloned().partition(|name| self.path(name).exists());
        for name in gone {
            self.paths.remove(&name);
        }
        left
    }

    /// Who can open this ledger, when it is not ourselves: the owner of its directory.
    pub(super) fn owner(&self, name: &str) -> Option<Identity> {
        let path = self.path(name);
        let dir = path.parent().filter(|dir| *dir != self.dir)?;
        let owner = fs::symlink_metadata(dir).ok()?;
        let (uid, gid) = (owner.uid(), owner.gid());
        Some(Identity { name: None, uid, gid, groups: vec![gid], home: None, shell: None })
    }

    /// Removes the users' directories that are empty.
    pub(super) fn tidy(&self) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for entry in entries {
            // Fails for files and for directories that still have something in them, as it should.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ledgers_are_found_wherever_they_lie_and_remains_are_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("slots");
        fs::create_dir_all(dir.join("u33")).unwrap();
        let remains = dir.join(format!("x.x_00.1{UNFINISHED}"));
        let socket = dir.join(format!("{}3", notices::STEM));
        for file in [&dir.join("u33/a.a_00.4"), &dir.join("b.b_01.5"), &remains, &socket] {
            fs::write(file, "").unwrap();
        }
        let mut ledgers = Ledgers::new(dir.clone()).unwrap();
        let names = ledgers.find().unwrap();
        assert_eq!(names, ["a.a_00.4", "b.b_01.5"]);
        assert_eq!(ledgers.path("a.a_00.4"), dir.join("u33/a.a_00.4"));
        assert!(!remains.exists() && !socket.exists());
        assert!(ledgers.owner("a.a_00.4").is_some());
        assert!(ledgers.owner("b.b_01.5").is_none());
        fs::remove_file(dir.join("b.b_01.5")).unwrap();
        assert_eq!(ledgers.left(&names), ["a.a_00.4"]);
        assert_eq!(ledgers.place("c.c_00.6", None).unwrap(), dir.join("c.c_00.6"));
    }
}
