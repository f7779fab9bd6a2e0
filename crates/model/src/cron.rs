//! Patterns of dates as cron writes them: what a text means, and which local times fit it.
//!
//! Five fields, or six with seconds first; names of months and weekdays, steps, `L` for the last day or the last such
//! weekday, `#` for the n-th; a day counts when either of its two fields fits, if both are given. This is the dialect the
//! libraries of Bull and BullMQ read, too. What a time zone makes of local times is `schedule`'s for our own schedules, and
//! the queue drivers' for repeated jobs.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Words for whole patterns.
const WORDS: [(&str, &str); 11] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@minutely", "* * * * *"),
    ("@secondly", "* * * * * *"),
    ("@weekdays", "0 0 * * 1-5"),
    ("@weekends", "0 0 * * 0,6"),
];

/// No pattern leaves out more years than a leap day does around 2100.
const YEARS: i32 = 9;

const ALL_HOURS: u64 = 0x00ff_ffff;
const ALL_DAYS: u64 = 0xffff_fffe;
const ALL_WEEKDAYS: u64 = 0x7f;

/// A pattern that was read. Bit n of a field stands for its value n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    last_day: bool,
    months: u64,
    weekdays: u64,
    /// Weekdays of which only the last of a month counts.
    last_weekdays: u64,
    /// Whatever day fits must also be in this week of the month, counted from its first day.
    week: Option<i8>,
    any_day: bool,
    any_weekday: bool,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPattern {
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

/// One field: what its values are called, and which there are.
struct Field {
    called: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const SECOND: Field = Field { called: "second", low: 0, high: 59, names: &[] };
const MINUTE: Field = Field { called: "minute", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { called: "hour", low: 0, high: 23, names: &[] };
const DAY: Field = Field { called: "day of the month", low: 1, high: 31, names: &[] };
const MONTH: Field = Field { called: "month", low: 1, high: 12, names: &MONTHS };
const WEEKDAY: Field = Field { called: "weekday", low: 0, high: 7, names: &DAYS };

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead where that is clear.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let lower = text.trim().to_ascii_lowercase();
        let spelled = match lower.strip_prefix('@') {
            Some(_) => word(&lower)?,
            None => lower.as_str(),
        };
        let mut fields: Vec<&str> = spelled.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [seconds, minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(bad(
                format!("`{text}` has {} fields, and should have 5 or 6", fields.len()),
                "minute, hour, day, month, weekday: `30 3 * * *` is each day at 3:30; a sixth field in front is the second",
            ));
        };
        let (days_left, last_day) = without_last(days);
        let (weekdays_left, last_weekdays, week) = without_nth(weekdays)?;
        let mut weekday_set = WEEKDAY.set(&weekdays_left)?;
        // Seven is Sunday, too; as the end of a range it counts even where a step leaps over it.
        let ends_with_seven = weekdays_left.split([',', '/']).any(|part| part.ends_with("-7"));
        if ends_with_seven || weekday_set >> 7 & 1 == 1 {
            weekday_set |= 1;
        }
        let any_weekday = weekday_set == 0xff;
        weekday_set &= ALL_WEEKDAYS;
        let day_set = DAY.set(&days_left)?;
        let pattern = Self {
            seconds: SECOND.set(seconds)?,
            minutes: MINUTE.set(minutes)?,
            hours: HOUR.set(hours)?,
            days: day_set,
            last_day,
            months: MONTH.set(months)?,
            weekdays: weekday_set,
            last_weekdays,
            week,
            any_day: day_set == ALL_DAYS,
            any_weekday,
        };
        if pattern.never() {
            let hint = "`L` is the last day of a month, whichever it is";
            return Err(bad(format!("`{text}` names a day that no month has"), hint));
        }
        Ok(pattern)
    }

    /// Whether it names no hours: then it goes by the time that passes, and a change of clocks does not touch it.
    #[must_use]
    pub const fn is_of_every_hour(&self) -> bool {
        self.hours == ALL_HOURS
    }

    /// The first fitting local time, not before `from`; `None` when there is none in the next years.
    #[must_use]
    pub fn first_from(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut earliest = from.time();
        let last_year = i32::from(from.year()) + YEARS;
        while i32::from(date.year()) <= last_year {
            if self.months >> date.month() & 1 == 0 {
                date = date.last_of_month().tomorrow().ok()?;
            } else {
                if self.day_fits(date)
                    && let Some(time) = self.time_from(earliest)
                {
                    return Some(date.to_datetime(time));
                }
                date = date.tomorrow().ok()?;
            }
            earliest = Time::midnight();
        }
        None
    }

    /// Whether a local time fits.
    #[must_use]
    pub fn fits(&self, at: DateTime) -> bool {
        self.months >> at.month() & 1 == 1
            && self.day_fits(at.date())
            && self.hours >> at.hour() & 1 == 1
            && self.minutes >> at.minute() & 1 == 1
            && self.seconds >> at.second() & 1 == 1
    }

    fn never(&self) -> bool {
        let longest = |month: u32| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let by_weekday = !self.any_weekday;
        !by_weekday
            && !self.last_day
            && (1..=12)
                .filter(|month| self.months >> month & 1 == 1)
                .all(|month| (1..=longest(month)).all(|day: u32| self.days >> day & 1 == 0))
    }

    fn day_fits(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let left = date.days_in_month() - date.day();
        let by_day = self.days >> date.day() & 1 == 1 || (self.last_day && left == 0);
        if self.week.is_some_and(|week| (date.day() - 1) / 7 + 1 != week) {
            return false;
        }
        let by_weekday =
            self.weekdays >> weekday & 1 == 1 || (self.last_weekdays >> weekday & 1 == 1 && left < 7);
        match (self.any_day, self.any_weekday) {
            (true, true) => true,
            (true, false) => by_weekday,
            (false, true) => by_day,
            (false, false) => by_day || by_weekday,
        }
    }

    fn time_from(&self, earliest: Time) -> Option<Time> {
        let next = |set: u64, from: i8| (from..64).find(|value| set >> value & 1 == 1);
        let (mut minute_from, mut second_from) = (earliest.minute(), earliest.second());
        let mut hour_from = earliest.hour();
        loop {
            let hour = next(self.hours, hour_from)?;
            if hour > earliest.hour() {
                (minute_from, second_from) = (0, 0);
            }
            while let Some(minute) = next(self.minutes, minute_from) {
                if minute > minute_from {
                    second_from = 0;
                }
                if let Some(second) = next(self.seconds, second_from) {
                    return Time::new(hour, minute, second, 0).ok();
                }
                (minute_from, second_from) = (minute + 1, 0);
            }
            (hour_from, minute_from, second_from) = (hour + 1, 0, 0);
        }
    }
}

fn bad(what: impl Into<String>, hint: &str) -> BadPattern {
    BadPattern { what: what.into(), hint: Some(hint.to_owned()) }
}

/// The pattern behind a word such as `@daily`.
fn word(text: &str) -> Result<&'static str, BadPattern> {
    if let Some((_, pattern)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Ok(pattern);
    }
    let what = format!("`{text}` is no pattern");
    Err(match text {
        "@reboot" => bad(what, "what runs at each start of the daemon is a program: `autorestart: never`"),
        _ if text.starts_with("@every") => {
            bad(what, "write the times it runs at: `*/5 * * * *` is every five minutes")
        }
        _ => bad(what, "there are @hourly, @daily, @weekly, @monthly, @yearly, @weekdays and @weekends"),
    })
}

/// A field of days without its `l`.
fn without_last(field: &str) -> (String, bool) {
    let parts: Vec<&str> = field.split(',').collect();
    let left: Vec<&str> = parts.iter().copied().filter(|part| *part != "l").collect();
    (left.join(","), left.len() < parts.len())
}

/// A field of weekdays without what names one of the month: the last ones (`1l`), and the week (`mon#2`).
fn without_nth(field: &str) -> Result<(String, u64, Option<i8>), BadPattern> {
    if let Some((day, week)) = field.split_once('#') {
        let week = week.parse::<i8>().ok().filter(|week| (1..=5).contains(week));
        let no_week = || bad(format!("`{field}` is no weekday of a month"), "`MON#2` is the second Monday");
        let week = week.ok_or_else(no_week)?;
        WEEKDAY.value(day)?;
        return Ok((day.to_owned(), 0, Some(week)));
    }
    let mut left = Vec::new();
    let mut last = 0;
    for part in field.split(',') {
        match part.strip_suffix('l') {
            Some(day) if !day.is_empty() => last |= 1 << (WEEKDAY.value(day)? % 7),
            _ => left.push(part),
        }
    }
    Ok((left.join(","), last, None))
}

impl Field {
    /// The values of a field as bits.
    fn set(&self, field: &str) -> Result<u64, BadPattern> {
        let mut values = 0;
        if field.is_empty() {
            return Ok(values);
        }
        for part in field.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => {
                    let step = step.parse::<u32>().ok().filter(|step| *step > 0);
                    let no_step = || bad(format!("`{part}` has no step"), "a step is a number from 1: `*/5`");
                    (range, Some(step.ok_or_else(no_step)?))
                }
                None => (part, None),
            };
            let (from, to) = match (range, range.split_once('-')) {
                ("*" | "?", _) => (self.low, self.high),
                (_, Some((from, to))) => (self.value(from)?, self.value(to)?),
                (one, None) => {
                    let one = self.value(one)?;
                    (one, if step.is_some() { self.high } else { one })
                }
            };
            if from > to {
                let hint = "what goes over the end is written in two parts: `22-23,0-5`";
                return Err(bad(format!("`{part}` ends before it begins"), hint));
            }
            for value in (from..=to).step_by(step.unwrap_or(1) as usize) {
                values |= 1 << value;
            }
        }
        Ok(values)
    }

    fn value(&self, text: &str) -> Result<u32, BadPattern> {
        let named = self.names.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok());
        let number = match named {
            Some(at) => Some(at + self.low),
            None if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().ok(),
            None => None,
        };
        let Self { called, low, high, .. } = self;
        number.filter(|number| (low..=high).contains(&number)).ok_or_else(|| BadPattern {
            what: format!("`{text}` is no {called}: those are from {low} to {high}"),
            hint: (!self.names.is_empty()).then(|| format!("or names: {}", self.names.join(", "))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pattern_is_told_with_its_place_in_the_pattern() {
        for (text, what) in [
            ("60 * * * *", "`60` is no minute: those are from 0 to 59"),
            ("* 24 * * *", "`24` is no hour: those are from 0 to 23"),
            ("* * 0 * *", "`0` is no day of the month: those are from 1 to 31"),
            ("* * * 13 *", "`13` is no month: those are from 1 to 12"),
            ("* * * * 8", "`8` is no weekday: those are from 0 to 7"),
            ("* * * * monday", "`monday` is no weekday: those are from 0 to 7"),
            ("61 * * * * *", "`61` is no second: those are from 0 to 59"),
            ("5-1 * * * *", "`5-1` ends before it begins"),
            ("*/0 * * * *", "`*/0` has no step"),
            ("0 0 10W * *", "`10w` is no day of the month: those are from 1 to 31"),
            ("0 0 31 2 *", "`0 0 31 2 *` names a day that no month has"),
            ("* * *", "`* * *` has 3 fields, and should have 5 or 6"),
            ("", "`` has 0 fields, and should have 5 or 6"),
            ("@reboot", "`@reboot` is no pattern"),
            ("@every 5m", "`@every 5m` is no pattern"),
            ("@often", "`@often` is no pattern"),
            ("0 0 * * 1#6", "`1#6` is no weekday of a month"),
        ] {
            assert_eq!(Pattern::new(text).map_err(|bad| bad.what), Err(what.to_owned()), "{text}");
        }
        let hint = Pattern::new("@reboot").unwrap_err().hint.unwrap();
        assert!(hint.contains("autorestart"), "{hint}");
    }

    #[test]
    fn words_mean_what_they_say() {
        for (word, pattern) in WORDS {
            assert_eq!(Pattern::new(word), Pattern::new(pattern), "{word}");
        }
        assert!(Pattern::new("*/10 * * * *").unwrap().is_of_every_hour());
        assert!(!Pattern::new("0 */2 * * *").unwrap().is_of_every_hour());
    }
}
