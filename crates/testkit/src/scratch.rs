//! A directory of its own for each test, gone at the end.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary directory, removed when dropped. Its path is short, since a unix socket's may have 107 bytes only.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// A new empty directory that only this user can enter.
    #[must_use]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // Not the system's choice: TMPDIR may be long.
        let dir = tempfile::Builder::new().prefix("qf").tempdir_in("/tmp").expect("a directory in `/tmp`");
        Self { dir }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside, whether or not something is there.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path; directories in `name` are made. Whoever reads it meanwhile finds what was there
    /// before, or all that is there now.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory in the scratch place");
        }
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".unfinished");
        std::fs::write(&unfinished, content).expect("a file in the scratch place");
        std::fs::rename(&unfinished, &path).expect("a place for the file");
        path
    }

    /// What is in a file, or nothing when it is not there; bytes that are no text are replaced.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        std::fs::read(self.join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}
