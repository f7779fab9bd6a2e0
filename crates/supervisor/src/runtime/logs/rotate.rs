//! One log file for each process, replaced by a new one when it is big enough.
//!
//! A full disk, a directory that is gone or read-only: the lines are counted and dropped, and every batch tries again.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file_of;
use super::queue::Batch;

/// The log directory.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    max_size: u64,
    keep: u32,
    open: HashMap<Arc<str>, LogFile>,
}

#[derive(Debug, Default)]
struct LogFile {
    file: Option<File>,
    path: PathBuf,
    size: u64,
    /// Lines that could not be written; said in the file as soon as it can be written again.
    lost: u64,
}

impl Files {
    pub(super) fn new(dir: &Path, max_size: u64, keep: u32) -> Self {
        Self { dir: dir.to_owned(), max_size, keep, open: HashMap::new() }
    }

    fn file(&mut self, process: &Arc<str>) -> &mut LogFile {
        let path = || file_of(&self.dir, process);
        self.open.entry(process.clone()).or_insert_with(|| LogFile { path: path(), ..LogFile::default() })
    }

    pub(super) fn write(&mut self, batch: &Batch) {
        let (max_size, keep) = (self.max_size, self.keep);
        if batch.reopen {
            self.open.values_mut().for_each(|log| log.file = None);
        }
        if batch.lost > 0 {
            tracing::warn!("{} lines for log files were dropped because they came too fast", batch.lost);
        }
        for block in &batch.blocks {
            let log = self.file(&block.name);
            let lines = u64::try_from(block.lines.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(0);
            match log.write(&block.lines, max_size, keep) {
                Ok(()) => {}
                Err(error) => {
                    if log.lost == 0 {
                        tracing::warn!(process = %block.name, "cannot write `{}`: {error}", log.path.display());
                    }
                    log.file = None;
                    log.lost += lines;
                }
            }
        }
        for process in &batch.clear {
            let log = self.file(&Arc::from(process.as_str()));
            if let Err(error) = log.clear() {
                tracing::warn!(process, "cannot begin `{}` anew: {error}", log.path.display());
            }
        }
    }
}

impl LogFile {
    fn write(&mut self, lines: &[u8], max_size: u64, keep: u32) -> io::Result<()> {
        self.open()?;
        if self.lost > 0 {
            self.append(format!("qfleet: {} lines could not be written here\n", self.lost).as_bytes())?;
            self.lost = 0;
        }
        let length = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX);
        if self.size + length(lines) <= max_size {
            return self.append(lines);
        }
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if self.size > 0 && self.size + length(line) > max_size {
                self.rotate(keep)?;
            }
            self.append(line)?;
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Removes the file and begins an empty one.
    fn clear(&mut self) -> io::Result<()> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.open(),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Err(io::Error::other("not open")) };
        file.write_all(bytes)?;
        self.size += u64::try_from(bytes.len()).unwrap_or(0);
        Ok(())
    }

    /// `a.log` becomes `a.log.1`, that becomes `a.log.2`, …; the oldest goes.
    fn rotate(&mut self, keep: u32) -> io::Result<()> {
        self.file = None;
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if keep == 0 {
            fs::remove_file(&self.path)?;
        }
        for number in (1..=keep).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(number - 1) };
            match fs::rename(from, numbered(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.open()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qfleet_model::time::WallTime;

    use super::super::queue::Block;
    use super::super::tail::Stream;
    use super::*;

    fn batch(lines: &str) -> Batch {
        let block = Block {
            name: Arc::from("messages:messages_01"),
            stream: Stream::Stdout,
            at: WallTime::from_seconds(0),
            lines: Arc::from(lines.as_bytes()),
        };
        Batch { blocks: [block].into(), ..Batch::default() }
    }

    #[test]
    fn files_are_replaced_between_lines_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path(), 10, 2);
        files.write(&batch("1234\n5678\nabcd\n"));
        files.write(&batch("efgh\n"));
        files.write(&batch("ijkl\n"));
        files.write(&batch("longer than the limit\n"));
        let read = |suffix: &str| {
            fs::read_to_string(dir.path().join(format!("messages.messages_01.log{suffix}"))).unwrap()
        };
        assert_eq!(read(""), "longer than the limit\n");
        assert_eq!(read(".1"), "ijkl\n");
        assert_eq!(read(".2"), "abcd\nefgh\n");
        assert!(!dir.path().join("messages.messages_01.log.3").exists());
    }

    #[test]
    fn a_file_that_is_cleared_begins_anew_and_its_rotated_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages.messages_01.log");
        let mut files = Files::new(dir.path(), 10, 2);
        files.write(&batch("1234\n5678\nabcd\n"));
        files.write(&Batch { clear: vec![String::from("messages:messages_01")], ..Batch::default() });
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        files.write(&batch("efgh\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "efgh\n");
        assert!(dir.path().join("messages.messages_01.log.1").exists());
    }

    #[test]
    fn a_moved_file_is_written_until_it_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages.messages_01.log");
        let mut files = Files::new(dir.path(), 1000, 2);
        files.write(&batch("one\n"));
        fs::rename(&path, dir.path().join("moved")).unwrap();
        files.write(&batch("two\n"));
        assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap(), "one\ntwo\n");
        files.write(&Batch { reopen: true, ..batch("three\n") });
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_said_later() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("logs");
        fs::write(&place, "in the way").unwrap();
        let mut files = Files::new(&place, 1000, 2);
        files.write(&batch("one\ntwo\n"));
        files.write(&batch("three\n"));
        fs::remove_file(&place).unwrap();
        files.write(&batch("four\n"));
        let text = fs::read_to_string(place.join("messages.messages_01.log")).unwrap();
        assert_eq!(text, "qfleet: 3 lines could not be written here\nfour\n");
    }
}
