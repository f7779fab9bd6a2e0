//! The manifest on disk, read with this machine as its outside.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use qfleet_manifest::World;
use qfleet_manifest::problem::Problems;
use qfleet_manifest::settings::Manifest;
use qfleet_supervisor::Progress;

use crate::world::Machine;

/// A manifest larger than this is somebody's mistake; in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Reads and judges a manifest. `file` may be a pipe, whose writer is waited for.
///
/// # Errors
/// Every problem at once; also when the file cannot be read.
pub(crate) fn read(file: &Path) -> Result<Manifest, Problems> {
    judge(file, &text_of(file)?, &Machine)
}

/// The same for a fleet that runs. A pipe is refused: it has been read, and is empty now or would hold up every later
/// reload. So is a file without any setting: it was cut short (by a full disk, or while it is written), and would end
/// every process there is. `progress` hears which file comes next, also of those that the manifest names.
///
/// # Errors
/// Every problem at once; also when the file cannot be read, or says nothing.
pub(crate) fn read_again(file: &Path, progress: &Progress) -> Result<Manifest, Problems> {
    progress.comes_to(file);
    let metadata = fs::metadata(file).map_err(|error| problem(file, format!("cannot be read: {error}")))?;
    if !metadata.is_file() {
        return Err(problem(file, "is no plain file, so it cannot be read again"));
    }
    let text = text_of(file)?;
    let says = |line: &str| !matches!(line.trim_start().chars().next(), None | Some('#'));
    if !text.lines().any(says) {
        let what = "is empty; for a fleet without processes write `programs: {}`, and to end this one use \
            `qfleet shutdown`";
        return Err(problem(file, what));
    }
    judge(file, &text, &Again(progress))
}

fn problem(file: &Path, what: impl Into<String>) -> Problems {
    Problems::of_file(&file.display().to_string(), what)
}

fn text_of(file: &Path) -> Result<String, Problems> {
    let unreadable = |error: io::Error| problem(file, format!("cannot be read: {error}"));
    let open = fs::File::open(file).map_err(unreadable)?;
    let size = open.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::new();
    if size <= LARGEST {
        // What is no plain file does not say how large it is.
        open.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    let size = size.max(bytes.len() as u64);
    if size > LARGEST {
        return Err(problem(file, format!("has {size} bytes; a manifest may have {LARGEST}")));
    }
    String::from_utf8(bytes).map_err(|_| problem(file, "is not UTF-8 text"))
}

fn judge(file: &Path, text: &str, world: &dyn World) -> Result<Manifest, Problems> {
    qfleet_manifest::load(&file.display().to_string(), text, world)
}

/// This machine, when it is asked again by a fleet that runs.
struct Again<'a>(&'a Progress);

impl World for Again<'_> {
    fn env(&self, name: &str) -> Option<String> {
        Machine.env(name)
    }

    fn read_secret(&self, path: &Path) -> Result<String, String> {
        self.0.comes_to(path);
        Machine.read_secret(path)
    }

    fn find_program(&self, name: &str, path: Option<&str>, cwd: Option<&Path>) -> Result<PathBuf, String> {
        self.0.comes_to(&cwd.map_or_else(|| PathBuf::from(name), |cwd| cwd.join(name)));
        Machine.find_program(name, path, cwd)
    }

    fn user_exists(&self, name: &str, group: Option<&str>) -> Result<(), String> {
        Machine.user_exists(name, group)
    }

    fn is_root(&self) -> bool {
        Machine.is_root()
    }

    fn is_current_user(&self, name: &str) -> bool {
        Machine.is_current_user(name)
    }

    fn time_zone(&self, name: &str) -> Option<TimeZone> {
        Machine.time_zone(name)
    }
}
