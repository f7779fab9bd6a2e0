//! Blocks of lines on their way to a thread that writes them. Bounded in bytes: what does not fit is dropped and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qfleet_manifest::logs::LogFile;
use qfleet_model::time::WallTime;

use super::tail::Stream;

/// Bytes that may wait.
const LIMIT: usize = 1024 * 1024;

/// Whole lines of one stream, read at the same time.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) name: Arc<str>,
    pub(super) stream: Stream,
    pub(super) at: WallTime,
    /// Its log file, if it has one.
    pub(super) file: Option<Arc<LogFile>>,
    /// Ends with a newline.
    pub(super) lines: Arc<[u8]>,
}

/// What a writer takes at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) blocks: VecDeque<Block>,
    /// Lines dropped since the last batch.
    pub(super) lost: u64,
    /// Open the files anew first.
    pub(super) reopen: bool,
    /// Files that begin anew afterwards. Lines that come before the writer has looked go with the old file.
    pub(super) clear: Vec<Arc<LogFile>>,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    bytes: usize,
    closed: bool,
    /// What was taken has not been written yet.
    writing: bool,
    /// The writer has ended.
    done: bool,
}

/// The queue; clones are the same queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a block, or counts its lines as lost. Never waits for the writer.
    pub(super) fn push(&self, block: Block) {
        let mut state = self.state();
        if state.bytes + block.lines.len() > LIMIT || state.done {
            let lines = block.lines.iter().filter(|byte| **byte == b'\n').count();
            state.batch.lost += u64::try_from(lines).unwrap_or(u64::MAX);
            return;
        }
        state.bytes += block.lines.len();
        state.batch.blocks.push_back(block);
        self.shared.1.notify_all();
    }

    pub(super) fn reopen(&self) {
        self.state().batch.reopen = true;
        self.shared.1.notify_all();
    }

    pub(super) fn clear(&self, file: Arc<LogFile>) {
        self.state().batch.clear.push(file);
        self.shared.1.notify_all();
    }

    /// The writer's side: waits for something to do. `None` when everything has been taken and nothing will come.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut state = self.state();
        state.writing = false;
        self.shared.1.notify_all();
        while state.batch.blocks.is_empty() && !state.batch.reopen && state.batch.clear.is_empty() {
            if state.closed {
                return None;
            }
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes = 0;
        state.writing = true;
        Some(std::mem::take(&mut state.batch))
    }

    /// The writer's last word.
    pub(super) fn done(&self) {
        self.state().done = true;
        self.shared.1.notify_all();
    }

    /// Waits until everything is written, but not for ever. Whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.state();
        // A writer that has ended will never write what waits.
        while !state.done && (state.writing || !state.batch.blocks.is_empty()) {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets the writer end when it has written what waits, and waits for that, but not for ever.
    pub(super) fn finish(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.state();
        state.closed = true;
        self.shared.1.notify_all();
        while !state.done {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
