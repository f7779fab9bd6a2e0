//! Where the output of a group's processes goes, beside what the daemon keeps of it in memory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::per_process::OneProcess;
use crate::settings::Logging;

/// What a group says of its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Logs {
    /// File of standard output; `None`: one in `logging.dir`, if there is such a directory. `{process_num}` and its
    /// kin stand for the process.
    pub file: Option<String>,
    /// File of standard error; `None`: where standard output goes.
    pub stderr_file: Option<String>,
    /// A file is rotated at this size, in bytes; `None`: as `logging` says.
    pub max_size: Option<u64>,
    /// Rotated files kept; `None`: as `logging` says.
    pub keep: Option<u32>,
    /// On the daemon's own output, too.
    pub output: bool,
    /// Standard output is written nowhere.
    pub discard_stdout: bool,
    /// Standard error is written nowhere.
    pub discard_stderr: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            file: None,
            stderr_file: None,
            max_size: None,
            keep: None,
            output: true,
            discard_stdout: false,
            discard_stderr: false,
        }
    }
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Where it is.
    pub path: PathBuf,
    /// It is rotated at this size, in bytes.
    pub max_size: u64,
    /// Rotated files kept.
    pub keep: u32,
}

impl Logs {
    /// The file of one stream of a process, if it has one.
    #[must_use]
    pub fn file(&self, logging: &Logging, of: OneProcess<'_>, stderr: bool) -> Option<LogFile> {
        if self.discards(stderr) {
            return None;
        }
        let own = if stderr { self.stderr_file.as_ref().or(self.file.as_ref()) } else { self.file.as_ref() };
        let path = match (own, &logging.dir) {
            (Some(template), _) => PathBuf::from(of.fill(template)),
            (None, Some(dir)) => dir.join(format!("{}.log", flat(of.name))),
            (None, None) => return None,
        };
        let max_size = self.max_size.unwrap_or(logging.max_size);
        Some(LogFile { path, max_size, keep: self.keep.unwrap_or(logging.keep) })
    }

    /// Whether standard error has a file that standard output does not go to.
    #[must_use]
    pub fn parts_streams(&self) -> bool {
        self.discard_stdout || self.stderr_file.as_ref().is_some_and(|file| self.file.as_ref() != Some(file))
    }

    /// Whether a stream is written nowhere.
    #[must_use]
    pub const fn discards(&self, stderr: bool) -> bool {
        if stderr { self.discard_stderr } else { self.discard_stdout }
    }
}

/// A name as a part of a file's name.
fn flat(name: &str) -> String {
    name.replace(['/', ':'], ".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Level, LogFormat};

    const OF: OneProcess<'_> = OneProcess { name: "web:web_03", group: "web", number: 3 };

    fn logging(dir: Option<&str>) -> Logging {
        Logging {
            format: LogFormat::Text,
            level: Level::Info,
            dir: dir.map(PathBuf::from),
            max_size: 100,
            keep: 5,
        }
    }

    fn path(logs: &Logs, dir: Option<&str>, stderr: bool) -> Option<String> {
        logs.file(&logging(dir), OF, stderr).map(|file| file.path.display().to_string())
    }

    #[test]
    fn files_are_named_by_the_group_or_lie_in_the_directory_of_all() {
        let plain = Logs::default();
        assert_eq!(path(&plain, None, false), None);
        assert_eq!(path(&plain, Some("/logs"), true).as_deref(), Some("/logs/web.web_03.log"));
        let file = || Some(String::from("/var/{group_name}-{process_num:02}.log"));
        let own = Logs { file: file(), keep: Some(1), ..Logs::default() };
        assert_eq!(path(&own, Some("/logs"), false).as_deref(), Some("/var/web-03.log"));
        assert_eq!(path(&own, None, true).as_deref(), Some("/var/web-03.log"), "both streams");
        assert!(!own.parts_streams());
        assert_eq!(
            own.file(&logging(None), OF, false).map(|file| (file.max_size, file.keep)),
            Some((100, 1))
        );
        let parted = Logs { stderr_file: Some(String::from("/var/{process_name}.err")), ..own };
        assert_eq!(path(&parted, None, true).as_deref(), Some("/var/web_03.err"));
        assert!(parted.parts_streams());
        let quiet = Logs { file: file(), discard_stdout: true, ..Logs::default() };
        assert_eq!(path(&quiet, Some("/logs"), false), None);
        assert!(path(&quiet, None, true).is_some());
    }
}
