//! The last lines of a log file, which reach further back than what is kept in memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use qfleet_supervisor::LogReader;

use crate::dispatch::Dispatch;

/// Most bytes of one answer.
const MOST: u64 = 8 * 1024 * 1024;
/// Read at once, from the end.
const STEP: u64 = 64 * 1024;

/// The last `lines` lines of a process, from its file where it has one that can be read. On a thread of its own, because a
/// file may be on a slow disk.
pub(crate) async fn last_lines(dispatch: &Dispatch, reader: &LogReader, lines: u64) -> Option<Vec<u8>> {
    let file: PathBuf = reader.file()?.clone();
    let dispatch = dispatch.clone();
    let read = tokio::task::spawn_blocking(move || {
        dispatch.wait_until_written();
        read_back(&file, lines)
    });
    read.await.ok()?.ok()
}

/// From a place before the last lines to the end of the file; more lines than asked for may be in it.
fn read_back(path: &Path, lines: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut from = size;
    let mut ends = 0;
    let mut piece = Vec::new();
    while from > 0 && ends <= lines && size - from < MOST {
        let length = from.min(STEP);
        from -= length;
        file.seek(SeekFrom::Start(from))?;
        piece.clear();
        file.by_ref().take(length).read_to_end(&mut piece)?;
        ends += u64::try_from(piece.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u64::MAX);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(size - from).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_long_file_is_read_from_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let text: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        for lines in [0, 1, 10, 50_000, 200_000] {
            let bytes = read_back(&path, lines).unwrap();
            assert!(text.as_bytes().ends_with(&bytes));
            let found = bytes.iter().filter(|byte| **byte == b'\n').count();
            assert!(found as u64 >= lines.min(100_000), "{found} of {lines}");
        }
        assert!(read_back(&dir.path().join("none"), 1).is_err());
    }
}
