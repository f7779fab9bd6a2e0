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
/// More than is written to a file between a look at the memory and one at the file.
const NEWER: usize = 256 * 1024;

/// The last `lines` lines of a process, from its file where it has one that can be read, up to the end of what is `kept` in
/// memory. On a thread of its own, because a file may be on a slow disk.
pub(crate) async fn last_lines(
    dispatch: &Dispatch,
    reader: &LogReader,
    lines: u64,
    kept: Vec<u8>,
) -> Option<Vec<u8>> {
    let file: PathBuf = reader.file()?.clone();
    let dispatch = dispatch.clone();
    let read = tokio::task::spawn_blocking(move || {
        dispatch.wait_until_written();
        Ok::<_, io::Error>(up_to(read_back(&file, lines)?, &kept))
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

/// The file's lines up to where `kept` ends. The file has only whole lines, of the other stream too, and maybe some that came
/// after `kept` was looked at: who follows the output gets those next.
fn up_to(mut file: Vec<u8>, kept: &[u8]) -> Vec<u8> {
    let ends = |text: &[u8]| text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (whole, unended) = kept.split_at(ends(kept));
    let last_line = &whole[ends(&whole[..whole.len().saturating_sub(1)])..];
    // With lines of the other stream in between not all of it is found.
    match end_of(&file, whole).or_else(|| end_of(&file, last_line)) {
        Some(end) => file.truncate(end),
        // A file that was replaced or cut off meanwhile has none of it.
        None if !whole.is_empty() => return kept.to_vec(),
        None => {}
    }
    file.extend_from_slice(unended);
    if file.len() < kept.len() { kept.to_vec() } else { file }
}

/// Where the last `part` of the file ends, near its end.
fn end_of(file: &[u8], part: &[u8]) -> Option<usize> {
    let from = file.len().saturating_sub(part.len() + NEWER);
    let found =
        (!part.is_empty()).then(|| file[from..].windows(part.len()).rposition(|window| window == part));
    found.flatten().map(|at| from + at + part.len())
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

    #[test]
    fn a_file_is_joined_to_what_memory_has_without_a_gap_and_without_a_line_twice() {
        for (file, kept, joined) in [
            // The line that is being written is in memory alone.
            ("a\nb\n", "b\nc", "a\nb\nc"),
            ("a\nb\n", "c", "a\nb\nc"),
            // What came meanwhile comes again for whoever follows.
            ("a\nb\nc\nd\n", "a\nb\n", "a\nb\n"),
            ("a\nb\nc d\n", "b\nc ", "a\nb\nc "),
            // Lines of the other stream between ours, and after them.
            ("a\nx\nb\ny\nc\n", "a\nb\n", "a\nx\nb\n"),
            // The memory goes further back, or the file is another one by now.
            ("b\n", "a\nb\n", "a\nb\n"),
            ("", "a\nb", "a\nb"),
            ("a\n", "", "a\n"),
        ] {
            let found = up_to(file.as_bytes().to_vec(), kept.as_bytes());
            assert_eq!(String::from_utf8(found).unwrap(), joined, "{file:?} and {kept:?}");
        }
    }
}
