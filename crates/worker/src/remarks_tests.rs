#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use qfleet_queue::driver::LaneId;

use super::*;
use crate::slots::{Counted, Hold, Phase, Slots};

/// So many jobs in hand.
fn jobs(count: usize) -> Vec<HoldId> {
    let mut slots = Slots::new(count, 1, 1);
    let hold = || Hold {
        source: 0,
        lane: 0,
        receipt: receipt(),
        fresh: Moment::from_nanos(0),
        phase: Phase::Settling(Counted::Completed),
    };
    (0..count).map(|_| slots.add(hold()).unwrap()).collect()
}

fn receipt() -> Receipt {
    Receipt::new(LaneId(0), 0, [0; 16], Arc::new(()))
}

fn said(id: HoldId, remark: Remark) -> Said {
    Said { id, receipt: receipt(), remark, sent_before: false }
}

fn log(id: HoldId, text: &str) -> Said {
    said(id, Remark::Log(text.to_owned()))
}

fn progress(id: HoldId, percent: u32) -> Said {
    said(id, Remark::Progress(Output::Json(percent.to_string().into_bytes())))
}

fn texts(pile: &mut Pile) -> Vec<String> {
    let text = |said: Said| match said.remark {
        Remark::Progress(Output::Json(text)) => String::from_utf8(text).unwrap(),
        Remark::Progress(Output::Text(text)) | Remark::Log(text) => text,
    };
    pile.take().into_iter().map(text).collect()
}

#[test]
fn a_job_has_one_progress_that_waits_and_keeps_its_order() {
    let [a, b] = jobs(2)[..] else { panic!("two jobs") };
    let mut pile = Pile::default();
    assert!(pile.add(log(a, "one")), "the first one is to be noticed");
    for remark in [progress(a, 10), progress(b, 1), log(a, "two"), progress(a, 20), log(a, "three")] {
        assert!(!pile.add(remark), "whoever noticed the first one sees all");
    }
    assert_eq!(texts(&mut pile), ["one", "1", "two", "20", "three"]);
    assert_eq!((pile.bytes, pile.dropped), (0, 0));
}

#[test]
fn a_flood_stays_in_bounds_and_loses_its_oldest_lines() {
    let [flood, other] = jobs(2)[..] else { panic!("two jobs") };
    let mut pile = Pile::default();
    pile.add(progress(other, 7));
    let noticed = (0..5000).filter(|line| pile.add(log(flood, &line.to_string()))).count();
    assert_eq!(noticed, 1, "once, when it was half full");
    assert_eq!((pile.waiting.len(), pile.dropped), (MOST, 4001));
    let kept = texts(&mut pile);
    assert_eq!((kept[0].as_str(), kept[1].as_str(), kept[MOST - 1].as_str()), ("7", "4001", "4999"));

    let long = "x".repeat(60_000);
    for _ in 0..100 {
        pile.add(log(flood, &long));
    }
    assert!(pile.bytes <= MOST_BYTES && pile.waiting.len() == MOST_BYTES / 60_000, "{}", pile.bytes);
    pile.add(log(flood, &"x".repeat(MOST_BYTES + 1)));
    assert!(pile.waiting.is_empty() && pile.bytes == 0, "what can never fit is left out as well");
}

#[test]
fn what_a_call_did_not_bring_is_sent_once_more_and_first() {
    let [a] = jobs(1)[..] else { panic!("a job") };
    let mut pile = Pile::default();
    pile.add(log(a, "one"));
    pile.add(log(a, "two"));
    let sent = pile.take();
    pile.add(log(a, "three"));
    pile.put_back(sent);
    let again = pile.take();
    assert_eq!(again.len(), 3);
    pile.add(log(a, "four"));
    pile.put_back(again);
    assert_eq!(pile.dropped, 2, "a second time is the last");
    assert_eq!(texts(&mut pile), ["three", "four"]);
}

#[test]
fn nothing_is_kept_of_a_job_that_is_not_ours_any_more() {
    let [a, b] = jobs(2)[..] else { panic!("two jobs") };
    let mut pile = Pile::default();
    pile.add(log(a, "one"));
    pile.add(log(b, "two"));
    pile.forget(a);
    assert_eq!(pile.bytes, 3);
    assert_eq!(texts(&mut pile), ["two"]);
}
