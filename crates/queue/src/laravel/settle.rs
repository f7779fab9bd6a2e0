//! From a verdict to what the turn script is to do.
//!
//! Every verb of the script first asks whether the reservation is still ours, puts the job into its new place, and only
//! then takes it out of the old one. That makes a repeated call harmless, whether or not the first one arrived.

use std::time::Duration;

use qfleet_model::job::Format;
use qfleet_model::outcome::{Note, Reason, Verdict};
use qfleet_model::time::WallTime;

use super::held::Held;
use super::{Laravel, score_text};
use crate::failed::record_id;
use crate::redis::Call;

/// Adds one verdict to a turn. `queue` is the place of the job's queue in the call; false when nothing is to be done.
pub(super) fn add<'a>(
    driver: &'a Laravel,
    call: &mut Call<'a>,
    queue: usize,
    held: &'a Held,
    verdict: &'a Verdict,
    now: WallTime,
) -> bool {
    match verdict {
        Verdict::Nothing => return false,
        Verdict::Bury { reason } if held.unreadable.is_some() => {
            start(driver, call, "unreadable", queue, held);
            unreadable(driver, call, held, reason, now);
        }
        // The failed record is written by now.
        Verdict::Complete { .. } | Verdict::Bury { .. } => start(driver, call, "done", queue, held),
        Verdict::Discard { reason } => {
            start(driver, call, "discard", queue, held);
            discard(driver, call, held, reason, now);
        }
        Verdict::GiveBack => start(driver, call, "back", queue, held),
        Verdict::GiveBackAt { due } => {
            start(driver, call, "later", queue, held);
            call.own(score_text(*due)).arg("0");
        }
        Verdict::Retry { after, note } => {
            start(driver, call, "again", queue, held);
            call.own(due(now, *after));
            remember(call, held, note);
        }
        Verdict::Snooze { after, note } => {
            start(driver, call, "later", queue, held);
            call.own(due(now, *after));
            remember(call, held, note);
        }
    }
    true
}

/// Adds what becomes of a job whose worker died while it ran.
pub(super) fn add_crash<'a>(
    driver: &'a Laravel,
    call: &mut Call<'a>,
    queue: usize,
    held: &'a Held,
    alone: bool,
    not_before: Option<WallTime>,
) {
    start(driver, call, "crash", queue, held);
    call.arg(if alone { "1" } else { "0" }).own(not_before.map(score_text).unwrap_or_default());
    call.arg("1")
        .arg("0")
        .arg("1")
        .arg("0")
        .own(held.deliveries + 1)
        .own(held.taken.as_millis())
        .arg("crash");
}

/// The score of a job that is due `after` from now. At once is Laravel's own whole second, which its workers see as past;
/// any other pause is never cut short.
fn due(now: WallTime, after: Duration) -> String {
    if after.is_zero() { now.as_seconds().to_string() } else { score_text(now + after) }
}

fn start<'a>(driver: &'a Laravel, call: &mut Call<'a>, verb: &'a str, queue: usize, held: &'a Held) {
    call.arg(verb).own(queue).arg(&held.reserved);
    match &held.undo {
        Some(undo) => call.own(undo.at + 1).own(undo.len).arg(&undo.digits),
        None => call.arg("0").arg("0").arg(""),
    };
    // Counters are only made by a note; without one there is nothing to remove.
    let noted = held.remembered || matches!(verb, "again" | "later" | "crash");
    if noted && !held.identity.is_empty() {
        call.own(driver.counters_key(held.queue, &held.identity));
    } else {
        call.arg("");
    }
}

fn remember<'a>(call: &mut Call<'a>, held: &'a Held, note: &'a Note) {
    let flag = |on| if on { "1" } else { "0" };
    call.arg("1").arg(flag(note.snooze)).arg(flag(note.crash)).arg(flag(note.exception));
    call.own(held.deliveries + 1).own(held.taken.as_millis()).arg(note.status.as_deref().unwrap_or(""));
}

fn unreadable<'a>(
    driver: &'a Laravel,
    call: &mut Call<'a>,
    held: &'a Held,
    reason: &'a Reason,
    now: WallTime,
) {
    let queue = driver.queue_name(held.queue);
    let id = record_id(&held.ready());
    call.own(driver.keys.unreadable_record(queue, &id)).own(driver.keys.unreadable(queue));
    call.own(driver.keys.unreadable_queues()).own(id);
    let text =
        if reason.text.is_empty() { held.unreadable.as_deref().unwrap_or_default() } else { &reason.text };
    call.arg(&driver.connection.laravel_name).arg(reason.class.as_deref().unwrap_or("")).arg(text);
    call.own(now.as_millis());
}

fn discard<'a>(driver: &'a Laravel, call: &mut Call<'a>, held: &'a Held, reason: &'a Reason, now: WallTime) {
    let header = serde_json::json!({
        "format": Format::Laravel,
        "discarded_at": now.to_rfc3339(),
        "class": reason.class,
        "reason": reason.text,
    });
    call.own(driver.keys.discarded(driver.queue_name(held.queue))).own(header).own(now.as_millis());
}
