//! The hold ledger: one fixed record for each job in hand, in a mapped file that outlives the worker.
//!
//! Owns the layout and the order of stores. Promises that a worker that is killed at any instant leaves every record as it
//! was before a change or after it, never between. So a record is written while its first word is zero, and that word is
//! stored last; what changes in a live record is one word, or words that the state in the first word does not speak of
//! yet. Nothing here makes a system call. The run loop writes, [`super::recover`] reads.
//!
//! ```text
//! magic and version | tag, number of records | pid, length of table | pid's start | table (JSON) | marks | records
//! ```

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use qfleet_manifest::queue::NodeRules;
use qfleet_model::link::JobRef;
use qfleet_model::time::WallTime;
use qfleet_os::locked_map::LockedMap;
use qfleet_queue::driver::{DeadHold, DeadState, DeadVerdict, DeadWorker, LaneId, Mark, Receipt};
use serde::{Deserialize, Serialize};

const MAGIC: u64 = u64::from_be_bytes(*b"qfhold\0\x02");
/// Of a ledger whose records do not name their jobs.
const NAMELESS: u64 = u64::from_be_bytes(*b"qfhold\0\x01");
const WORD: usize = 8;
const HEADER: usize = 4 * WORD;
const RECORD: usize = 20 * WORD;
const NAMELESS_RECORD: usize = 12 * WORD;
/// Reserving calls of one connection whose reply may be missing, at most.
const MARKS: usize = 16;

// Bits of a record's first word, beside its state.
const ALONE: u32 = 8;
const LOCAL: u32 = 9;

// Words of a record.
const STATE: usize = 0;
const DIGEST: usize = WORD;
const GROUP: usize = 3 * WORD;
const GROUP_START: usize = 4 * WORD;
const NOT_BEFORE: usize = 5 * WORD;
const DUE: usize = 6 * WORD;
const ARRIVAL: usize = 7 * WORD;
const DELIVERY: usize = 8 * WORD;
/// Bytes of a delivery's id.
const DELIVERY_LENGTH: usize = 26;
const JOB: usize = 12 * WORD;
/// Bytes of a job's id; a longer one is cut.
const JOB_LENGTH: usize = 8 * WORD;

/// Where the words are kept: the mapped file, or in tests a place that shows every instant of a write.
pub(crate) trait Words {
    /// Stores one word, ordered before everything after and after everything before.
    fn store(&self, offset: usize, word: u64);
    /// Copies bytes where no stored word says yet that there is something.
    fn write(&self, offset: usize, bytes: &[u8]);
}

impl Words for LockedMap {
    fn store(&self, offset: usize, word: u64) {
        Self::store(self, offset, word);
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        Self::write(self, offset, bytes);
    }
}

/// What the numbers in the records stand for, and who wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Names the run of the system: process numbers and start times mean nothing in another one.
    pub(crate) boot: String,
    /// The connections, in the order of the worker.
    pub(crate) sources: Vec<SourceEntry>,
}

/// One connection as the worker had opened it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceEntry {
    /// Its name in the manifest.
    pub(crate) connection: String,
    /// Its key prefix.
    pub(crate) prefix: String,
    /// Its lanes in the driver's order: manifest name, and the queues in Redis.
    pub(crate) lanes: Vec<(String, Vec<String>)>,
    /// What was known of each lane that only Node's queues have.
    #[serde(default)]
    pub(crate) node: Vec<Option<NodeRules>>,
}

/// The writer's side of a ledger.
#[derive(Debug)]
pub(crate) struct Ledger<W = LockedMap> {
    words: W,
    marks_at: usize,
    records_at: usize,
    capacity: usize,
    /// Jobs that have come in so far.
    arrivals: AtomicU64,
}

/// A delivery that is about to begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    /// Its id.
    pub(crate) delivery: &'a str,
    /// Its job's id.
    pub(crate) job: &'a str,
    /// The job is the only one in hand, after earlier crashes.
    pub(crate) alone: bool,
    /// A process of ours works on it.
    pub(crate) local: bool,
    /// Not to be delivered again before.
    pub(crate) not_before: Option<WallTime>,
}

/// The worker that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The tag its drivers were opened with.
    pub(crate) tag: u32,
    /// Process number.
    pub(crate) pid: u32,
    /// When that process started, in the system's ticks.
    pub(crate) started_at: u64,
}

/// Bytes a ledger needs.
pub(crate) fn size(table: &[u8], sources: usize, capacity: usize) -> usize {
    records_at(table.len(), sources) + capacity * RECORD
}

fn marks_at(table: usize) -> usize {
    HEADER + table.next_multiple_of(WORD)
}

fn records_at(table: usize, sources: usize) -> usize {
    marks_at(table) + sources * MARKS * WORD
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | ((high as u64) << 32)
}

impl<W: Words> Ledger<W> {
    /// Lays out an empty ledger over words that are all zero; `table` is a [`Table`] as JSON.
    pub(crate) fn lay_out(words: W, writer: Writer, table: &[u8], sources: usize, capacity: usize) -> Self {
        let length = u32::try_from(table.len()).unwrap_or(u32::MAX);
        let records = u32::try_from(capacity).unwrap_or(u32::MAX);
        words.store(WORD, pair(writer.tag, records));
        words.store(2 * WORD, pair(writer.pid, length));
        words.store(3 * WORD, writer.started_at);
        words.write(HEADER, table);
        words.store(0, MAGIC);
        let (marks_at, records_at) = (marks_at(table.len()), records_at(table.len(), sources));
        Self { words, marks_at, records_at, capacity, arrivals: AtomicU64::new(0) }
    }

    /// How many jobs it can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Notes that a reserving call is about to be sent. `place` counts the unanswered calls of this source.
    pub(crate) fn mark(&self, source: usize, place: usize, mark: Mark) {
        self.words.store(self.mark_at(source, place), mark.0);
    }

    /// What the call took has been noted.
    pub(crate) fn clear_mark(&self, source: usize, place: usize) {
        self.words.store(self.mark_at(source, place), 0);
    }

    /// Notes a job that came in. The record must be free.
    pub(crate) fn fetched(&self, record: usize, source: usize, receipt: &Receipt) {
        let at = self.record_at(record);
        self.words.write(at + DIGEST, &receipt.digest());
        self.words.write(at + GROUP, &[0; 4 * WORD]);
        self.words.write(at + DELIVERY, &[0; DELIVERY_LENGTH]);
        self.words.store(at + ARRIVAL, self.arrivals.fetch_add(1, Ordering::Relaxed));
        self.words.store(at, state_word(State::Fetched, source, receipt));
    }

    /// Notes that the job is about to be handed over.
    pub(crate) fn started(&self, record: usize, source: usize, receipt: &Receipt, start: &Start<'_>) {
        let at = self.record_at(record);
        self.words.write(at + DELIVERY, start.delivery.as_bytes().get(..DELIVERY_LENGTH).unwrap_or_default());
        let mut job = [0; JOB_LENGTH];
        let id = shown(start.job);
        job[..id.len()].copy_from_slice(id.as_bytes());
        self.words.write(at + JOB, &job);
        self.words.store(at + NOT_BEFORE, date(start.not_before));
        let marks = u64::from(start.alone) << ALONE | u64::from(start.local) << LOCAL;
        self.words.store(at, state_word(State::Started, source, receipt) | marks);
    }

    /// Notes the process group that works on the job, and when its leader started; zero is none.
    pub(crate) fn group(&self, record: usize, group: i32, started_at: u64) {
        let at = self.record_at(record);
        // The number speaks for the start beside it, so it goes first and comes last.
        self.words.store(at + GROUP, 0);
        self.words.store(at + GROUP_START, started_at);
        self.words.store(at + GROUP, u64::from(group.unsigned_abs()));
    }

    /// Notes what is to become of the job if we die from here on.
    pub(crate) fn foretell(&self, record: usize, source: usize, receipt: &Receipt, fate: DeadState) {
        let (state, due) = match fate {
            DeadState::Fetched => (State::Fetched, None),
            DeadState::Settling(DeadVerdict::Complete) => (State::Complete, None),
            DeadState::Settling(DeadVerdict::Again { due, counted: true }) => {
                (State::AgainCounted, Some(due))
            }
            DeadState::Settling(DeadVerdict::Again { due, counted: false }) => {
                (State::AgainUncounted, Some(due))
            }
            DeadState::Settling(DeadVerdict::Other) | DeadState::Started { .. } => (State::Other, None),
        };
        let at = self.record_at(record);
        self.words.store(at + DUE, date(due));
        self.words.store(at, state_word(state, source, receipt));
    }

    /// The job is not in hand any more.
    pub(crate) fn clear(&self, record: usize) {
        self.words.store(self.record_at(record), 0);
    }

    fn mark_at(&self, source: usize, place: usize) -> usize {
        self.marks_at + (source * MARKS + place % MARKS) * WORD
    }

    fn record_at(&self, record: usize) -> usize {
        assert!(record < self.capacity, "record {record} of {}", self.capacity);
        self.records_at + record * RECORD
    }
}

impl Ledger<LockedMap> {
    /// Removes the file: nothing is in hand, and nothing is left to recover. The lock stays until the end.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.words.path())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fetched = 1,
    Started = 2,
    Complete = 3,
    AgainCounted = 4,
    AgainUncounted = 5,
    Other = 6,
}

fn state_word(state: State, source: usize, receipt: &Receipt) -> u64 {
    let source = u64::try_from(source).unwrap_or(u64::MAX) & 0xffff;
    let (lane, queue) = (u64::from(receipt.lane().0), u64::from(receipt.queue()));
    state as u64 | (source << 16) | (lane << 32) | (queue << 48)
}

/// Zero is none; a date at the epoch means as much.
fn date(date: Option<WallTime>) -> u64 {
    date.map_or(0, |date| u64::try_from(date.as_millis()).unwrap_or(0))
}

/// Everything a ledger says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Contents {
    pub(crate) writer: Writer,
    pub(crate) table: Table,
    /// One for each source of the table.
    pub(crate) dead: Vec<DeadWorker>,
    /// Jobs that had been handed over, as far as they are named.
    pub(crate) started: Vec<JobRef>,
    /// What may be left of processes that worked on jobs.
    pub(crate) leftovers: Vec<Leftover>,
}

/// What is known of a dead worker's processes for one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// The delivery's id, which is in their environment.
    pub(crate) delivery: String,
    /// Their group and the start of its leader. The worker may have died before it noted them.
    pub(crate) group: Option<(i32, u64)>,
}

/// Why a ledger cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LedgerError {
    /// Its writer died before it was laid out; it never held anything.
    Unfinished,
    /// Another version wrote it, or something else did.
    Unreadable(String),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => out.write_str("it was never finished"),
            Self::Unreadable(what) => out.write_str(what),
        }
    }
}

/// Reads a ledger.
pub(crate) fn read(bytes: &[u8]) -> Result<Contents, LedgerError> {
    let word =
        |at: usize| -> Option<u64> { Some(u64::from_ne_bytes(bytes.get(at..at + WORD)?.try_into().ok()?)) };
    let size = match word(0) {
        Some(MAGIC) => RECORD,
        Some(NAMELESS) => NAMELESS_RECORD,
        Some(0) | None => return Err(LedgerError::Unfinished),
        Some(_) => return Err(LedgerError::Unreadable(String::from("another version wrote it"))),
    };
    let short = || LedgerError::Unreadable(String::from("it is cut short"));
    let (tag, capacity) = halves(word(WORD).ok_or_else(short)?);
    let (pid, table_length) = halves(word(2 * WORD).ok_or_else(short)?);
    let started_at = word(3 * WORD).ok_or_else(short)?;
    let table = bytes.get(HEADER..HEADER + table_length as usize).ok_or_else(short)?;
    let table: Table = serde_json::from_slice(table)
        .map_err(|error| LedgerError::Unreadable(format!("its table is unreadable: {error}")))?;
    let marks_at = marks_at(table_length as usize);
    let records_at = records_at(table_length as usize, table.sources.len());
    let mut dead: Vec<DeadWorker> = Vec::new();
    for source in 0..table.sources.len() {
        let marks = (0..MARKS).filter_map(|place| word(marks_at + (source * MARKS + place) * WORD));
        let marks = marks.filter(|mark| *mark != 0).map(Mark).collect();
        dead.push(DeadWorker { tag, marks, held: Vec::new() });
    }
    let mut leftovers = Vec::new();
    let (mut held, mut started) = (Vec::new(), Vec::new());
    for record in 0..capacity as usize {
        let at = records_at + record * size;
        let words: Option<Vec<u64>> = (0..size / WORD).map(|index| word(at + index * WORD)).collect();
        let words = words.ok_or_else(short)?;
        if let Some((source, hold)) = read_record(&words) {
            started.extend(read_name(&words, &table, source, &hold));
            held.push((words[ARRIVAL / WORD], source, hold));
            leftovers.extend(read_leftover(&words));
        }
    }
    // In the order in which they came in, which is the one they go back in.
    held.sort_by_key(|(arrival, ..)| *arrival);
    for (_, source, hold) in held {
        if let Some(worker) = dead.get_mut(source) {
            worker.held.push(hold);
        }
    }
    Ok(Contents { writer: Writer { tag, pid, started_at }, table, dead, started, leftovers })
}

/// A record in use: its source, and the job.
fn read_record(words: &[u64]) -> Option<(usize, DeadHold)> {
    let at = |offset: usize| words[offset / WORD];
    let state = at(STATE);
    let alone = (state >> ALONE) & 1 == 1;
    let due = read_date(at(DUE)).unwrap_or(WallTime::from_millis(0));
    let dead_state = match state & 0xff {
        1 => DeadState::Fetched,
        2 => DeadState::Started { alone, not_before: read_date(at(NOT_BEFORE)) },
        3 => DeadState::Settling(DeadVerdict::Complete),
        4 => DeadState::Settling(DeadVerdict::Again { due, counted: true }),
        5 => DeadState::Settling(DeadVerdict::Again { due, counted: false }),
        6 => DeadState::Settling(DeadVerdict::Other),
        _ => return None,
    };
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&at(DIGEST).to_ne_bytes());
    digest[8..].copy_from_slice(&at(DIGEST + WORD).to_ne_bytes());
    let part = |shift: u32| u16::try_from((state >> shift) & 0xffff).unwrap_or(u16::MAX);
    let hold = DeadHold { lane: LaneId(part(32)), queue: part(48), digest, state: dead_state };
    Some((usize::from(part(16)), hold))
}

/// Which job it is, when it had been handed over.
fn read_name(words: &[u64], table: &Table, source: usize, hold: &DeadHold) -> Option<JobRef> {
    let DeadState::Started { .. } = hold.state else { return None };
    let bytes: Vec<u8> = words.get(JOB / WORD..)?.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let text = String::from_utf8_lossy(&bytes);
    let id = shown(text.trim_end_matches('\0')).into_owned();
    let (queue, _) = table.sources.get(source)?.lanes.get(usize::from(hold.lane.0))?;
    (!id.is_empty()).then(|| JobRef { queue: queue.clone(), id })
}

/// A job's id as it may be shown: of one line, and not too long.
pub(crate) fn shown(id: &str) -> Cow<'_, str> {
    let end = id.floor_char_boundary(JOB_LENGTH);
    match id.get(..end).unwrap_or_default() {
        plain if !plain.contains(char::is_control) => Cow::Borrowed(plain),
        odd => Cow::Owned(odd.replace(char::is_control, "?")),
    }
}

/// Processes there may be: a group was noted, or one was about to be started.
fn read_leftover(words: &[u64]) -> Option<Leftover> {
    let at = |offset: usize| words[offset / WORD];
    let group =
        i32::try_from(at(GROUP)).ok().filter(|group| *group > 1).map(|group| (group, at(GROUP_START)));
    let about_to = at(STATE) & 0xff == State::Started as u64 && (at(STATE) >> LOCAL) & 1 == 1;
    if group.is_none() && !about_to {
        return None;
    }
    let bytes: Vec<u8> =
        words[DELIVERY / WORD..JOB / WORD].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let delivery = String::from_utf8_lossy(&bytes[..DELIVERY_LENGTH]).into_owned();
    Some(Leftover { delivery, group })
}

fn read_date(word: u64) -> Option<WallTime> {
    i64::try_from(word).ok().filter(|millis| *millis > 0).map(WallTime::from_millis)
}

fn halves(word: u64) -> (u32, u32) {
    let low = u32::try_from(word & 0xffff_ffff).unwrap_or(u32::MAX);
    (low, u32::try_from(word >> 32).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
