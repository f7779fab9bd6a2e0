//! Log files: each is replaced by a new one when it is big enough.
//!
//! A full disk, a directory that is gone or read-only: the lines are counted and dropped, and every batch tries again. A
//! line of which only a part could be written is taken back. Others may move a file away and have it opened anew, or cut
//! it off while it is written (`copytruncate`): it is only ever appended to.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use qfleet_manifest::logs::LogFile;
use qfleet_model::words::counted;

use super::queue::{Batch, Block};

/// Every log file that was written so far, by its path.
#[derive(Debug, Default)]
pub(super) struct Files {
    open: HashMap<PathBuf, Written>,
}

#[derive(Debug, Default)]
struct Written {
    file: Option<File>,
    path: PathBuf,
    size: u64,
    /// Lines that could not be written; said in the file as soon as it can be written again.
    lost: u64,
}

impl Files {
    fn file(&mut self, file: &LogFile) -> &mut Written {
        let path = &file.path;
        self.open.entry(path.clone()).or_insert_with(|| Written { path: path.clone(), ..Written::default() })
    }

    pub(super) fn write(&mut self, batch: &Batch) {
        if batch.reopen {
            self.open.values_mut().for_each(|log| log.file = None);
        }
        if batch.lost > 0 {
            let lost = counted(batch.lost, "line for log files was", "lines for log files were");
            tracing::warn!("{lost} dropped because they came too fast");
        }
        for block in &batch.blocks {
            if let Some(file) = &block.file {
                self.write_block(file, block);
            }
        }
        for file in &batch.clear {
            let log = self.file(file);
            if let Err(error) = log.clear() {
                tracing::warn!("cannot begin `{}` anew: {error}", log.path.display());
            }
        }
    }

    fn write_block(&mut self, file: &LogFile, block: &Block) {
        let log = self.file(file);
        let lines = block.lines.iter().filter(|byte| **byte == b'\n').count();
        if let Err(error) = log.write(&block.lines, file.max_size, file.keep) {
            if log.lost == 0 {
                tracing::warn!(process = %block.name, "cannot write `{}`: {error}", log.path.display());
            }
            log.file = None;
            log.lost += u64::try_from(lines).unwrap_or(0);
        }
    }
}

impl Written {
    fn write(&mut self, lines: &[u8], max_size: u64, keep: u32) -> io::Result<()> {
        self.open()?;
        if self.lost > 0 {
            let lines = counted(self.lost, "line", "lines");
            self.append(format!("qfleet: {lines} could not be written here\n").as_bytes())?;
            let missing = counted(self.lost, "line is", "lines are");
            tracing::info!("`{}` can be written again; {missing} missing", self.path.display());
            self.lost = 0;
        }
        let length = |part: &[u8]| u64::try_from(part.len()).unwrap_or(u64::MAX);
        if self.size + length(lines) > max_size {
            self.look_again()?;
        }
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

    /// Somebody may have cut it off.
    fn look_again(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            self.size = file.metadata()?.len();
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
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        match file.write_all(bytes) {
            Ok(()) => {
                self.size += length;
                Ok(())
            }
            Err(error) => {
                // A part of a line would look like a line. What others have written meanwhile stays.
                let found = file.metadata().map_or(0, |file| file.len());
                if found > self.size && found < self.size + length {
                    let _ = file.set_len(self.size);
                }
                Err(error)
            }
        }
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

    use std::path::Path;
    use std::sync::Arc;

    use super::super::tail::Stream;
    use super::*;

    fn log(dir: &Path, max_size: u64) -> Arc<LogFile> {
        Arc::new(LogFile { path: dir.join("messages.messages_01.log"), max_size, keep: 2 })
    }

    fn batch(file: &Arc<LogFile>, lines: &str) -> Batch {
        let block = Block {
            name: Arc::from("messages:messages_01"),
            stream: Stream::Stdout,
            at: WallTime::from_seconds(0),
            file: Some(file.clone()),
            lines: Arc::from(lines.as_bytes()),
        };
        Batch { blocks: [block].into(), ..Batch::default() }
    }

    #[test]
    fn files_are_replaced_between_lines_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let (mut files, log) = (Files::default(), log(dir.path(), 10));
        files.write(&batch(&log, "1234\n5678\nabcd\n"));
        files.write(&batch(&log, "efgh\n"));
        files.write(&batch(&log, "ijkl\n"));
        files.write(&batch(&log, "longer than the limit\n"));
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
        let (mut files, log) = (Files::default(), log(dir.path(), 10));
        files.write(&batch(&log, "1234\n5678\nabcd\n"));
        files.write(&Batch { clear: vec![log.clone()], ..Batch::default() });
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        files.write(&batch(&log, "efgh\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "efgh\n");
        assert!(dir.path().join("messages.messages_01.log.1").exists());
    }

    #[test]
    fn a_moved_file_is_written_until_it_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages.messages_01.log");
        let (mut files, log) = (Files::default(), log(dir.path(), 1000));
        files.write(&batch(&log, "one\n"));
        fs::rename(&path, dir.path().join("moved")).unwrap();
        files.write(&batch(&log, "two\n"));
        assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap(), "one\ntwo\n");
        files.write(&Batch { reopen: true, ..batch(&log, "three\n") });
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn what_could_not_be_written_is_counted_and_said_later() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("logs");
        fs::write(&place, "in the way").unwrap();
        let (mut files, log) = (Files::default(), log(&place, 1000));
        files.write(&batch(&log, "one\ntwo\n"));
        files.write(&batch(&log, "three\n"));
        fs::remove_file(&place).unwrap();
        files.write(&batch(&log, "four\n"));
        let text = fs::read_to_string(place.join("messages.messages_01.log")).unwrap();
        assert_eq!(text, "qfleet: 3 lines could not be written here\nfour\n");
    }
    #[test]
    fn a_file_that_somebody_cuts_off_grows_from_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages.messages_01.log");
        let (mut files, log) = (Files::default(), log(dir.path(), 16));
        files.write(&batch(&log, "1234567\nabcd\n"));
        OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        files.write(&batch(&log, "efghijk\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "efghijk\n");
        assert!(!dir.path().join("messages.messages_01.log.1").exists(), "not rotated for what is gone");
    }

    #[test]
    fn a_part_of_a_line_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "whole\n").unwrap();
        // A device that is full takes nothing; the file here stands for one that took a part.
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut written = Written { file: Some(full), path, size: 6, lost: 0 };
        assert_eq!(written.append(b"line\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(written.size, 6);
    }
}
