//! The last output of each process, kept in memory: written by the loop, read from any thread.
//!
//! A `Log` remembers the newest 16 KiB of one stream and how much there ever was, so a reader can ask for the end, for
//! a window, or wait for more. A reader that is too slow loses the oldest bytes and is told how many; it never holds up
//! the writer.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::fleet::SlotId;
use crate::runtime::bytes::Bytes;

/// Bytes kept of each stream.
pub const KEPT: usize = 16 * 1024;

/// The two streams of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    /// How many bytes there were before it, ever.
    pub at: u64,
    /// Bytes between the reader's position and this piece that are not kept any more.
    pub missed: u64,
    /// The bytes as the process wrote them.
    pub bytes: Vec<u8>,
}

/// The newest output of one stream of one process.
#[derive(Debug, Default)]
pub(crate) struct Log {
    kept: Mutex<VecDeque<u8>>,
    end: watch::Sender<End>,
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    /// Bytes written ever; the kept ones end there.
    at: u64,
    /// Bytes that had been written when the log was cleared last.
    cleared: u64,
    /// The slot is gone; nothing will come.
    closed: bool,
}

impl Log {
    /// Adds what the process wrote.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = &bytes[bytes.len().saturating_sub(KEPT)..];
        let too_many = (kept.len() + newest.len()).saturating_sub(KEPT);
        kept.drain(..too_many);
        kept.extend(newest);
        // Under the lock, so that a reader never sees a position that does not fit the bytes.
        self.end.send_modify(|end| end.at += u64::try_from(bytes.len()).unwrap_or(0));
    }

    /// Forgets what is kept.
    fn clear(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        self.end.send_modify(|end| end.cleared = end.at);
    }

    fn carried(&self) -> CarriedLog {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let End { at, cleared, closed: _ } = *self.end.borrow();
        CarriedLog { kept: Bytes(kept.iter().copied().collect()), at, cleared }
    }

    fn resume(&self, CarriedLog { kept: bytes, at, cleared }: CarriedLog) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = bytes.0.into();
        // However it was written down, no more than was written ever.
        let at = at.max(u64::try_from(kept.len()).unwrap_or(0));
        self.end.send_modify(|end| *end = End { at, cleared: cleared.min(at), closed: false });
    }

    fn read(&self, from: u64, at_most: usize) -> Chunk {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let end = self.end.borrow().at;
        let oldest = end - u64::try_from(kept.len()).unwrap_or(0);
        let at = from.clamp(oldest, end);
        let skip = usize::try_from(at - oldest).unwrap_or(usize::MAX);
        let bytes = kept.iter().skip(skip).take(at_most).copied().collect();
        Chunk { at, missed: at.saturating_sub(from), bytes }
    }
}

/// A log on its way to another program.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedLog {
    kept: Bytes,
    at: u64,
    cleared: u64,
}

/// Both streams of one process.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    stdout: Arc<Log>,
    stderr: Arc<Log>,
}

impl Logs {
    pub(crate) fn of(&self, stream: Stream) -> &Arc<Log> {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }
}

/// The logs of every slot, by slot.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    logs: RwLock<HashMap<SlotId, Arc<Logs>>>,
}

impl Shelf {
    /// The logs of this slot, made when there are none yet. They outlive its processes.
    pub(crate) fn open(&self, slot: SlotId) -> Arc<Logs> {
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        logs.entry(slot).or_default().clone()
    }

    /// All of them, for another program.
    pub(crate) fn carried(&self) -> Vec<(SlotId, CarriedLog, CarriedLog)> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.iter().map(|(slot, logs)| (*slot, logs.stdout.carried(), logs.stderr.carried())).collect()
    }

    /// Goes on where another program was.
    pub(crate) fn resume(&self, carried: Vec<(SlotId, CarriedLog, CarriedLog)>) {
        for (slot, stdout, stderr) in carried {
            let logs = self.open(slot);
            logs.stdout.resume(stdout);
            logs.stderr.resume(stderr);
        }
    }

    /// Drops the logs of a slot that is gone. Whoever reads them keeps them as they are.
    pub(crate) fn remove(&self, slot: SlotId) {
        let removed = self.logs.write().unwrap_or_else(PoisonError::into_inner).remove(&slot);
        for log in removed.iter().flat_map(|logs| [&logs.stdout, &logs.stderr]) {
            log.end.send_modify(|end| end.closed = true);
        }
    }

    /// A reader of one stream, which is at `file` too, if it is.
    pub(crate) fn reader(&self, slot: SlotId, stream: Stream, file: Option<PathBuf>) -> LogReader {
        LogReader::new(self.open(slot).of(stream).clone(), file)
    }
}

/// A log that belongs to no process: the daemon's own lines. Clones are the same log.
#[derive(Debug, Clone, Default)]
pub struct OwnLog(Arc<Log>);

impl OwnLog {
    /// Adds lines. Waits for no reader.
    pub fn write(&self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// What another program needs to go on with it.
    #[must_use]
    pub fn carried(&self) -> CarriedLog {
        self.0.carried()
    }

    /// Goes on where another program was.
    pub fn resume(&self, carried: CarriedLog) {
        self.0.resume(carried);
    }

    /// A reader of it.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.0.clone(), None)
    }
}

/// Reads one stream of one process: the end, a window, or whatever comes.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<Log>,
    changed: watch::Receiver<End>,
    at: u64,
    file: Option<PathBuf>,
}

impl LogReader {
    fn new(log: Arc<Log>, file: Option<PathBuf>) -> Self {
        let changed = log.end.subscribe();
        Self { log, changed, at: 0, file }
    }

    /// Forgets what is kept in memory, for all readers.
    pub fn clear(&self) {
        self.log.clear();
    }

    /// Bytes that had been written when the log was cleared last; [`LogReader::end`] goes on from there.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.log.end.borrow().cleared
    }

    /// The last `bytes` bytes that are kept; [`LogReader::next`] goes on after them.
    pub fn tail(&mut self, bytes: usize) -> Chunk {
        let end = self.end();
        let chunk = self.log.read(end.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX)), usize::MAX);
        self.at = chunk.at + u64::try_from(chunk.bytes.len()).unwrap_or(0);
        Chunk { missed: 0, ..chunk }
    }

    /// What has come since position `from`, as far as it is kept; [`LogReader::next`] goes on after it.
    pub fn since(&mut self, from: u64) -> Chunk {
        let chunk = self.log.read(from, usize::MAX);
        self.at = chunk.at + u64::try_from(chunk.bytes.len()).unwrap_or(0);
        chunk
    }

    /// At most `at_most` bytes from position `from`, or from the oldest that is kept.
    #[must_use]
    pub fn window(&self, from: u64, at_most: usize) -> Chunk {
        self.log.read(from, at_most)
    }

    /// Bytes written ever.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.log.end.borrow().at
    }

    /// The log file that holds older output too (of both streams), when there is a log directory.
    #[must_use]
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// Waits for output after what was read last. `None` when the process slot is gone and all has been read.
    pub async fn next(&mut self) -> Option<Chunk> {
        let at = self.at;
        self.changed.wait_for(|end| end.at > at || end.closed).await.ok()?;
        let chunk = self.log.read(at, usize::MAX);
        self.at = chunk.at + u64::try_from(chunk.bytes.len()).unwrap_or(0);
        (!chunk.bytes.is_empty()).then_some(chunk)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_newest_bytes_are_kept_and_the_rest_is_counted() {
        let shelf = Shelf::default();
        let logs = shelf.open(SlotId(1));
        let mut reader = shelf.reader(SlotId(1), Stream::Stdout, None);
        logs.of(Stream::Stdout).write(b"one\ntwo\n");
        assert_eq!(reader.tail(4).bytes, b"two\n");
        assert_eq!(reader.window(1, 2), Chunk { at: 1, missed: 0, bytes: b"ne".to_vec() });
        logs.of(Stream::Stdout).write(&[b'x'; KEPT + 10]);
        let chunk = reader.window(8, 3);
        assert_eq!((chunk.missed, chunk.bytes), (10, b"xxx".to_vec()));
        assert_eq!(reader.end(), 8 + 10 + u64::try_from(KEPT).unwrap());
        assert_eq!(shelf.reader(SlotId(1), Stream::Stderr, None).tail(100).bytes, b"");
    }

    #[tokio::test]
    async fn a_follower_gets_what_comes_and_hears_what_it_missed() {
        let shelf = Shelf::default();
        let logs = shelf.open(SlotId(1));
        logs.of(Stream::Stdout).write(b"old");
        let mut reader = shelf.reader(SlotId(1), Stream::Stdout, None);
        assert_eq!(reader.tail(100).bytes, b"old");
        logs.of(Stream::Stdout).write(b"new");
        assert_eq!(reader.next().await.unwrap().bytes, b"new");
        logs.of(Stream::Stdout).write(&[b'y'; KEPT + 1]);
        assert_eq!(reader.next().await.unwrap().missed, 1);
        logs.of(Stream::Stdout).write(b"end");
        shelf.remove(SlotId(1));
        assert_eq!(reader.next().await.unwrap().bytes, b"end");
        assert_eq!(reader.next().await, None);
    }
}
