#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// Keeps every instant: the words that one call stores are in an order of chance, calls stay in theirs.
#[derive(Debug, Default)]
struct Recorder {
    stores: RefCell<Vec<(usize, u64)>>,
    dice: RefCell<Option<fastrand::Rng>>,
}

impl Words for &Recorder {
    fn store(&self, offset: usize, word: u64) {
        self.stores.borrow_mut().push((offset, word));
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let mut words: Vec<(usize, u64)> = bytes
            .chunks(WORD)
            .enumerate()
            .map(|(index, chunk)| {
                let mut padded = [0; WORD];
                padded[..chunk.len()].copy_from_slice(chunk);
                (offset + index * WORD, u64::from_ne_bytes(padded))
            })
            .collect();
        if let Some(dice) = self.dice.borrow_mut().as_mut() {
            dice.shuffle(&mut words);
        }
        self.stores.borrow_mut().extend(words);
    }
}

const WRITER: Writer = Writer { tag: 77, pid: 4242, started_at: 99 };
const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

fn table() -> Table {
    let lanes = vec![(String::from("a"), vec![String::from("high"), String::from("low")])];
    let source = |connection: &str| SourceEntry {
        connection: connection.to_owned(),
        prefix: String::from("p_"),
        lanes: lanes.clone(),
        node: vec![None],
    };
    Table { boot: String::from("b"), sources: vec![source("crm"), source("other")] }
}

const DELIVERY: &str = "01KDVDNEW8Q2ZC6V5T9W3E7RXG";

fn start(alone: bool, not_before: Option<WallTime>) -> Start<'static> {
    Start { delivery: DELIVERY, job: "8412", alone, local: true, not_before }
}

fn receipt(digest: u8) -> Receipt {
    Receipt::new(LaneId(3), 1, [digest; 16], Arc::new(()))
}

fn applied(size: usize, stores: &[(usize, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (offset, word) in stores {
        bytes[*offset..offset + WORD].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn hold(digest: u8, state: DeadState) -> DeadHold {
    DeadHold { lane: LaneId(3), queue: 1, digest: [digest; 16], state }
}

#[test]
fn what_is_written_is_read() {
    let json = serde_json::to_vec(&table()).unwrap();
    let recorder = Recorder::default();
    let ledger = Ledger::lay_out(&recorder, WRITER, &json, 2, 16);
    ledger.mark(1, 17, Mark(0xdead_beef));
    ledger.mark(0, 2, Mark(5));
    ledger.clear_mark(0, 2);
    for record in 0..8 {
        ledger.fetched(record, 1, &receipt(u8::try_from(record).unwrap()));
    }
    ledger.started(1, 1, &receipt(1), &start(true, Some(NOW)));
    ledger.group(1, 321, 555);
    let due = NOW + Duration::from_secs(9);
    let again = |due, counted| DeadState::Settling(DeadVerdict::Again { due, counted });
    let fates = [
        DeadState::Settling(DeadVerdict::Complete),
        again(due, true),
        again(due, false),
        DeadState::Settling(DeadVerdict::Other),
        DeadState::Fetched,
    ];
    for (record, fate) in (2..7).zip(fates) {
        ledger.foretell(record, 1, &receipt(u8::try_from(record).unwrap()), fate);
    }
    ledger.clear(7);

    let contents = read(&applied(size(&json, 2, 16), &recorder.stores.borrow())).unwrap();
    assert_eq!(contents.writer, WRITER);
    assert_eq!(contents.table, table());
    assert_eq!(contents.leftovers, [Leftover { delivery: DELIVERY.to_owned(), group: Some((321, 555)) }]);
    assert_eq!(contents.dead[0], DeadWorker { tag: 77, marks: vec![], held: vec![] });
    let started = [DeadState::Fetched, DeadState::Started { alone: true, not_before: Some(NOW) }];
    let held =
        (0..).zip(started.into_iter().chain(fates)).map(|(digest, state)| hold(digest, state)).collect();
    assert_eq!(contents.dead[1], DeadWorker { tag: 77, marks: vec![Mark(0xdead_beef)], held });
}

#[test]
fn a_process_that_was_not_noted_yet_can_be_looked_for() {
    let json = serde_json::to_vec(&table()).unwrap();
    let recorder = Recorder::default();
    let ledger = Ledger::lay_out(&recorder, WRITER, &json, 2, 16);
    for (record, local) in [(0, true), (1, false), (2, true), (3, true)] {
        ledger.fetched(record, 1, &receipt(1));
        ledger.started(record, 1, &receipt(1), &Start { local, ..start(false, None) });
    }
    ledger.group(2, 77, 5);
    ledger.group(2, 0, 0);
    ledger.foretell(3, 1, &receipt(1), DeadState::Settling(DeadVerdict::Complete));
    let contents = read(&applied(size(&json, 2, 16), &recorder.stores.borrow())).unwrap();
    let unknown = Leftover { delivery: DELIVERY.to_owned(), group: None };
    assert_eq!(contents.leftovers, [unknown.clone(), unknown], "not the receiver's, not the settled one's");
}

/// One job's states as a reader may see them, by record.
type Seen = BTreeMap<usize, (u8, DeadState)>;

#[test]
fn a_kill_at_any_instant_leaves_old_or_new() {
    let json = serde_json::to_vec(&table()).unwrap();
    for seed in 0..20 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let recorder =
            Recorder { dice: RefCell::new(Some(fastrand::Rng::with_seed(seed))), ..Recorder::default() };
        let ledger = Ledger::lay_out(&recorder, WRITER, &json, 2, 8);
        // After so many stores, this is what was meant; in between, the one before or the one after.
        let mut meant: Vec<(usize, Seen)> = vec![(recorder.stores.borrow().len(), Seen::new())];
        let mut seen = Seen::new();
        let mut next = 0_u8;
        for _ in 0..200 {
            let record = dice.usize(0..8);
            step(&ledger, record, &mut seen, &mut next, &mut dice);
            meant.push((recorder.stores.borrow().len(), seen.clone()));
        }
        let stores = recorder.stores.borrow();
        let finished = meant[0].0;
        for cut in 0..=stores.len() {
            let bytes = applied(size(&json, 2, 8), &stores[..cut]);
            if cut < finished {
                assert_eq!(read(&bytes), Err(LedgerError::Unfinished));
                continue;
            }
            let found = holds(&read(&bytes).unwrap());
            let after = meant.partition_point(|(count, _)| *count < cut);
            let before = after.saturating_sub(1);
            let allowed = [&meant[before].1, &meant[after].1];
            assert!(allowed.iter().any(|seen| holds_of(seen) == found), "seed {seed}, cut {cut}: {found:?}");
        }
    }
}

fn step(ledger: &Ledger<&Recorder>, record: usize, seen: &mut Seen, next: &mut u8, dice: &mut fastrand::Rng) {
    match seen.get(&record).copied() {
        None => {
            *next = next.wrapping_add(1);
            ledger.fetched(record, 1, &receipt(*next));
            seen.insert(record, (*next, DeadState::Fetched));
        }
        Some((job, DeadState::Fetched)) => {
            let (alone, not_before) = (dice.bool(), dice.bool().then_some(NOW));
            ledger.started(record, 1, &receipt(job), &start(alone, not_before));
            seen.insert(record, (job, DeadState::Started { alone, not_before }));
        }
        Some((job, DeadState::Started { .. })) if dice.bool() => {
            ledger.group(record, dice.i32(2..99), 7);
            assert!(seen.contains_key(&record), "{job}");
        }
        Some((job, DeadState::Started { .. })) => {
            let after = Duration::from_secs(dice.u64(1..99));
            let again = DeadState::Settling(DeadVerdict::Again { due: NOW + after, counted: true });
            ledger.foretell(record, 1, &receipt(job), again);
            seen.insert(record, (job, again));
        }
        Some((_, DeadState::Settling(_))) => {
            ledger.clear(record);
            seen.remove(&record);
        }
    }
}

fn holds(contents: &Contents) -> Vec<DeadHold> {
    contents.dead[1].held.clone()
}

/// In the order of arrival: jobs are numbered in it.
fn holds_of(seen: &Seen) -> Vec<DeadHold> {
    let mut jobs: Vec<(u8, DeadState)> = seen.values().copied().collect();
    jobs.sort_by_key(|(job, _)| *job);
    jobs.into_iter().map(|(job, state)| hold(job, state)).collect()
}

#[test]
fn damage_is_an_error_not_a_panic() {
    let json = serde_json::to_vec(&table()).unwrap();
    let recorder = Recorder::default();
    let ledger = Ledger::lay_out(&recorder, WRITER, &json, 2, 8);
    ledger.fetched(0, 1, &receipt(1));
    let bytes = applied(size(&json, 2, 8), &recorder.stores.borrow());
    assert_eq!(read(&[]), Err(LedgerError::Unfinished));
    for cut in (WORD..bytes.len()).step_by(13) {
        assert!(matches!(read(&bytes[..cut]), Err(LedgerError::Unreadable(_))), "cut at {cut}");
    }
    let mut dice = fastrand::Rng::with_seed(3);
    for _ in 0..500 {
        let mut damaged = bytes.clone();
        for _ in 0..8 {
            let at = dice.usize(WORD..damaged.len());
            damaged[at] = dice.u8(..);
        }
        let _ = read(&damaged);
    }
}

#[test]
fn a_started_job_is_named_and_an_older_ledger_is_read_without() {
    let json = serde_json::to_vec(&table()).unwrap();
    let recorder = Recorder::default();
    let ledger = Ledger::lay_out(&recorder, WRITER, &json, 2, 8);
    let receipt = Receipt::new(LaneId(0), 1, [1; 16], Arc::new(()));
    let long = "\u{e9}".repeat(40);
    for (record, job) in [(0, "8412"), (1, "two\nlines"), (2, &long), (3, "")] {
        ledger.fetched(record, 1, &receipt);
        ledger.started(record, 1, &receipt, &Start { job, ..start(false, None) });
    }
    ledger.fetched(4, 1, &receipt);
    let bytes = applied(size(&json, 2, 8), &recorder.stores.borrow());
    let contents = read(&bytes).unwrap();
    let ids: Vec<&str> = contents.started.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(ids, ["8412", "two?lines", &long[..64]]);
    assert!(contents.started.iter().all(|job| job.queue == "a"));

    let records = records_at(json.len(), 2);
    let mut older = bytes[..records].to_vec();
    older[..WORD].copy_from_slice(&NAMELESS.to_ne_bytes());
    for record in 0..8 {
        let at = records + record * RECORD;
        older.extend(&bytes[at..at + NAMELESS_RECORD]);
    }
    let nameless = read(&older).unwrap();
    assert_eq!((nameless.dead, nameless.leftovers), (contents.dead, contents.leftovers));
    assert_eq!(nameless.started, []);
}
