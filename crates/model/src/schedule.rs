//! When a schedule runs: from a pattern and a time zone to dates, what becomes of dates that were missed, and what to do
//! when the run before still runs.
//!
//! Dates come from the wall clock, which may jump; so the caller asks again whenever it has, and [`Course`] remembers
//! which dates have been dealt with. The rules for clocks that change:
//!
//! - **An hour that is skipped** (summer time begins): what would have run in it runs once, at its end.
//! - **An hour that comes twice**: patterns that name hours run in the first one only; those of every hour (`*/10 * * * *`)
//!   go by the time that passes, and run in both.
//! - **A clock that is set forward** leaves out dates: the last of them still runs when it is at most [`LATE`] ago, the
//!   others were missed.
//! - **A clock that is set back** repeats nothing, as long as it is set back by no more than the time between two dates,
//!   and by no more than three hours. Set back further, it is believed.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::cron::{BadPattern, Pattern};
use crate::time::WallTime;

/// A run that begins at most this late is on time; a later one was missed.
pub const LATE: Duration = Duration::from_secs(30);

/// A clock that was set back by more than this was wrong before.
const SET_BACK: Duration = Duration::from_secs(3 * 3600);

/// Missed dates are counted up to here.
const MOST_COUNTED: u32 = 1_000;

/// What happens when a date comes and the run before still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// The date is left out.
    Skip,
    /// It runs as soon as the other has ended; several that wait are one.
    Queue,
    /// The other is stopped, and this one runs.
    Kill,
    /// Both run.
    Allow,
}

impl Overlap {
    /// As it is written in the manifest.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::Kill => "kill",
            Self::Allow => "allow",
        }
    }
}

/// What becomes of dates at which nobody could start the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// Nothing; the next date is the next run.
    Skip,
    /// One run makes up for all of them.
    RunOnce,
}

impl Missed {
    /// As it is written in the manifest.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::RunOnce => "run-once",
        }
    }
}

/// A pattern in its time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    pattern: Pattern,
    zone: TimeZone,
}

impl Timetable {
    /// Reads the pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(pattern: &str, zone: TimeZone) -> Result<Self, BadPattern> {
        Ok(Self { pattern: Pattern::new(pattern)?, zone })
    }

    /// The first date after this one. Dates are whole seconds; `None` when there is none in the next years.
    #[must_use]
    pub fn after(&self, base: WallTime) -> Option<WallTime> {
        let mut instant = Timestamp::from_second(base.as_seconds()).ok()?;
        let mut offset = self.zone.to_offset(instant);
        let mut local = offset.to_datetime(instant).checked_add(1.second()).ok()?;
        loop {
            let change = self.zone.following(instant).next();
            let candidate = self.pattern.first_from(local)?;
            let due = offset.to_timestamp(candidate).ok()?;
            match change {
                Some(change) if change.timestamp() <= due => {
                    (instant, offset) = (change.timestamp(), change.offset());
                    local = offset.to_datetime(instant);
                    // Local times before this one do not exist: the clock leaps over them.
                    if candidate < local && !self.pattern.is_of_every_hour() {
                        return Some(WallTime::from_seconds(instant.as_second()));
                    }
                }
                _ if self.comes_again(candidate, due) => {
                    local = candidate.checked_add(1.second()).ok()?;
                }
                _ => return Some(WallTime::from_seconds(due.as_second())),
            }
        }
    }

    /// Whether a date of a pattern that names hours is there for the second time.
    fn comes_again(&self, local: jiff::civil::DateTime, at: Timestamp) -> bool {
        !self.pattern.is_of_every_hour()
            && self.zone.to_ambiguous_timestamp(local).earlier().is_ok_and(|earlier| earlier < at)
    }

    /// The shortest time between two dates of the next ones after `base`.
    #[must_use]
    pub fn shortest_interval(&self, base: WallTime) -> Option<Duration> {
        let mut shortest = None;
        let mut last = self.after(base)?;
        for _ in 0..200 {
            let Some(next) = self.after(last) else { break };
            shortest = shortest.into_iter().chain([next.since(last)]).min();
            last = next;
        }
        shortest
    }
}

/// How far a schedule has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// The latest date that was dealt with: it ran, was left out or was missed.
    pub dealt: Option<WallTime>,
    /// The date it waits for.
    pub next: Option<WallTime>,
}

/// What the passing of time has brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// This date has come.
    pub on_time: Option<WallTime>,
    /// So many dates went by (counted up to a thousand).
    pub missed: u32,
    /// The last of them.
    pub last_missed: Option<WallTime>,
}

impl Course {
    /// A course that begins now, after what was dealt with before.
    #[must_use]
    pub fn new(timetable: &Timetable, dealt: Option<WallTime>, now: WallTime) -> Self {
        let mut course = Self { dealt, next: None };
        course.next = match dealt {
            // Only what was certainly dealt with tells that something after it was missed.
            Some(dealt) if dealt <= now => timetable.after(dealt),
            _ => course.next_after(timetable, now),
        };
        course
    }

    /// The timetable is another one from now on; what it would have said of the past does not count.
    pub fn follow(&mut self, timetable: &Timetable, now: WallTime) {
        self.next = self.next_after(timetable, now);
    }

    /// What is due now, with every date `late` by design. To be asked when the next date has come, and whenever the wall
    /// clock may have jumped.
    pub fn pass(&mut self, timetable: &Timetable, late: impl Fn(WallTime) -> Duration, now: WallTime) -> Due {
        let has_come = |date: WallTime| date + late(date) <= now;
        let mut due = Due::default();
        let Some(first) = self.next.filter(|next| has_come(*next)) else {
            // One that is late by design waits; the clock may have been set back under any other.
            if self.next.is_none_or(|next| next > now) {
                self.next = self.next_after(timetable, now);
            }
            return due;
        };
        let mut count = 1_u32;
        let mut last = first;
        while let Some(next) = timetable.after(last).filter(|next| has_come(*next)) {
            last = next;
            count += 1;
            if count >= MOST_COUNTED {
                // Whoever was away for so long gets the latest one all the same.
                last = latest(timetable, last, now, &has_come);
                break;
            }
        }
        if now.since(last + late(last)) <= LATE {
            due.on_time = Some(last);
            due.missed = count - 1;
        } else {
            due.missed = count;
            due.last_missed = Some(last);
        }
        self.dealt = Some(last);
        self.next = timetable.after(last);
        due
    }

    /// The first date that is neither past nor was dealt with.
    fn next_after(&self, timetable: &Timetable, now: WallTime) -> Option<WallTime> {
        let believed = |dealt: WallTime| {
            let between = timetable.after(dealt).map_or(SET_BACK, |next| next.since(dealt));
            dealt.since(now) > between.min(SET_BACK)
        };
        match self.dealt {
            Some(dealt) if dealt > now && !believed(dealt) => timetable.after(dealt),
            _ => timetable.after(now),
        }
    }
}

/// The latest date that has come, when there are too many to go through: by halving what lies between.
fn latest(
    timetable: &Timetable,
    known: WallTime,
    now: WallTime,
    has_come: &impl Fn(WallTime) -> bool,
) -> WallTime {
    let (mut last, mut low, mut high) = (known, known, now);
    while high.since(low) > Duration::from_secs(1) {
        let middle = low + high.since(low) / 2;
        match timetable.after(middle).filter(|date| has_come(*date)) {
            Some(date) => {
                last = last.max(date);
                low = middle.max(date);
            }
            None => high = middle,
        }
    }
    timetable.after(low).filter(|date| has_come(*date)).map_or(last, |date| last.max(date))
}

/// What is to be done about a date that has come, by the rule for overlaps. `running` of at most `most` runs are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Start it.
    Start,
    /// Leave it out.
    LeaveOut,
    /// Start it when the other has ended.
    Wait,
    /// Stop the other, then start it.
    Replace,
}

/// The rule for overlaps.
#[must_use]
pub const fn turn(overlap: Overlap, running: u32, most: u32) -> Turn {
    match overlap {
        _ if running == 0 => Turn::Start,
        Overlap::Skip => Turn::LeaveOut,
        Overlap::Queue => Turn::Wait,
        Overlap::Kill => Turn::Replace,
        Overlap::Allow if running < most => Turn::Start,
        Overlap::Allow => Turn::LeaveOut,
    }
}

/// How much later than its date a run begins, at most `jitter`: another delay for each date, name and seed, and always
/// the same one for the same three.
#[must_use]
pub fn delay(jitter: Duration, name: &str, date: WallTime, seed: u64) -> Duration {
    let most = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    if most == 0 {
        return Duration::ZERO;
    }
    let mut mixed = seed ^ date.as_millis().cast_unsigned();
    for byte in name.bytes() {
        mixed = mix(mixed ^ u64::from(byte));
    }
    Duration::from_millis(mix(mixed) % most.saturating_add(1))
}

/// One round of a well-known mixer of bits.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
