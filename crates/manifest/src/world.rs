//! What a manifest needs to know of the outside, asked for by name so that this crate stays pure.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

/// The outside as the manifest sees it; the application answers from the real one, tests from a table.
pub trait World {
    /// Value of an environment variable; `None` when it is not set.
    fn env(&self, name: &str) -> Option<String>;

    /// Text of a secret file, less one newline at its end.
    ///
    /// # Errors
    /// A sentence when the file cannot be read, or when others than its owner and group can read it.
    fn read_secret(&self, path: &Path) -> Result<String, String>;

    /// Absolute path of a program: `name` itself when it has a slash (relative to `cwd`), else looked up in `path`, or in
    /// our own `PATH` when that is `None`.
    ///
    /// # Errors
    /// A sentence when there is no such file or it cannot be executed.
    fn find_program(&self, name: &str, path: Option<&str>, cwd: Option<&Path>) -> Result<PathBuf, String>;

    /// Whether the user (name or number) and the group exist.
    ///
    /// # Errors
    /// A sentence naming the one that does not.
    fn user_exists(&self, name: &str, group: Option<&str>) -> Result<(), String>;

    /// Whether we may become other users.
    fn is_root(&self) -> bool;

    /// Whether `name` (or number) is the user we already are: then `user:` needs no root.
    fn is_current_user(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The time zone of this name, as `Europe/Paris`; `None` when the database does not have it.
    fn time_zone(&self, name: &str) -> Option<TimeZone> {
        (name == "UTC").then_some(TimeZone::UTC)
    }
}
