//! Patterns of repeated jobs: when they come next.
//!
//! The dialect is the one the parser of Bull and BullMQ reads: five fields, or six with seconds first; names, steps, `L` for
//! the last day or the last such weekday, `#` for the n-th; a day counts when either of its two fields fits, if both are
//! given.

#[cfg(test)]
mod agreement;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// No pattern leaves out more years than a leap day does around 2100.
const YEARS: i32 = 9;

const ALL_DAYS: u64 = 0xffff_fffe;
const ALL_WEEKDAYS: u64 = 0x7f;

/// A pattern in its time zone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
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
    zone: TimeZone,
}

impl Pattern {
    /// Reads a pattern. No zone is the host's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str, zone: Option<&str>) -> Result<Self, String> {
        let zone = match zone {
            Some(name) => TimeZone::get(name).map_err(|_| format!("time zone `{name}` is not known"))?,
            None => TimeZone::system(),
        };
        let lower = text.trim().to_ascii_lowercase();
        let spelled = match lower.as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            "@minutely" => "* * * * *",
            "@secondly" => "* * * * * *",
            "@weekdays" => "0 0 * * 1-5",
            "@weekends" => "0 0 * * 0,6",
            other => other,
        };
        let mut fields: Vec<&str> = spelled.split_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [seconds, minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("`{text}` has {} fields, and should have 5 or 6", fields.len()));
        };
        let (days_left, last_day) = without_last(days);
        let (weekdays_left, last_weekdays, week) = without_nth(weekdays)?;
        let mut weekday_set = set(&weekdays_left, 0, 7, &DAYS)?;
        // Seven is Sunday, too; as the end of a range it counts even where a step leaps over it.
        let ends_with_seven = weekdays_left.split([',', '/']).any(|part| part.ends_with("-7"));
        if ends_with_seven || weekday_set >> 7 & 1 == 1 {
            weekday_set |= 1;
        }
        let any_weekday = weekday_set == 0xff;
        weekday_set &= ALL_WEEKDAYS;
        let day_set = set(&days_left, 1, 31, &[])?;
        let pattern = Self {
            seconds: set(seconds, 0, 59, &[])?,
            minutes: set(minutes, 0, 59, &[])?,
            hours: set(hours, 0, 23, &[])?,
            days: day_set,
            last_day,
            months: set(months, 1, 12, &MONTHS)?,
            weekdays: weekday_set,
            last_weekdays,
            week,
            any_day: day_set == ALL_DAYS,
            any_weekday,
            zone,
        };
        if pattern.never() {
            return Err(format!("`{text}` names a day that no month has"));
        }
        Ok(pattern)
    }

    /// The first date after `base`, both in milliseconds since 1970.
    pub(super) fn after(&self, base: i64) -> Option<i64> {
        let start = Timestamp::from_second(base.div_euclid(1000)).ok()?;
        let mut local = self.zone.to_datetime(start).checked_add(1.second()).ok()?;
        let offset = self.zone.to_offset(start);
        let end = local.year() as i32 + YEARS;
        while i32::from(local.year()) <= end {
            let candidate = self.fits_from(local)?;
            if i32::from(candidate.year()) > end {
                return None;
            }
            let due = self.zone.to_ambiguous_timestamp(candidate).compatible().ok()?;
            // When clocks are turned back, an hour that fits comes twice.
            let again = offset
                .to_timestamp(candidate)
                .ok()
                .filter(|again| self.hours == (1 << 24) - 1 && self.fits(self.zone.to_datetime(*again)));
            if let Some(due) = [Some(due), again].into_iter().flatten().filter(|due| *due > start).min() {
                return Some(due.as_millisecond());
            }
            local = candidate.checked_add(1.second()).ok()?;
        }
        None
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

    /// The first fitting local time, not before `from`.
    fn fits_from(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut earliest = from.time();
        let last_year = from.year() as i32 + YEARS;
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

    fn fits(&self, at: DateTime) -> bool {
        self.months >> at.month() & 1 == 1
            && self.day_fits(at.date())
            && self.hours >> at.hour() & 1 == 1
            && self.minutes >> at.minute() & 1 == 1
            && self.seconds >> at.second() & 1 == 1
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

/// A field of days without its `l`.
fn without_last(field: &str) -> (String, bool) {
    let parts: Vec<&str> = field.split(',').collect();
    let left: Vec<&str> = parts.iter().copied().filter(|part| *part != "l").collect();
    (left.join(","), left.len() < parts.len())
}

/// A field of weekdays without what names one of the month: the last ones (`1l`), and the week (`mon#2`).
fn without_nth(field: &str) -> Result<(String, u64, Option<i8>), String> {
    if let Some((day, week)) = field.split_once('#') {
        let week = week.parse::<i8>().ok().filter(|week| (1..=5).contains(week));
        let week = week.ok_or_else(|| format!("`{field}` is no weekday of a month"))?;
        value(day, 0, 7, &DAYS)?;
        return Ok((day.to_owned(), 0, Some(week)));
    }
    let mut left = Vec::new();
    let mut last = 0;
    for part in field.split(',') {
        match part.strip_suffix('l') {
            Some(day) if !day.is_empty() => last |= 1 << (value(day, 0, 7, &DAYS)? % 7),
            _ => left.push(part),
        }
    }
    Ok((left.join(","), last, None))
}

/// The values of a field as bits.
fn set(field: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let mut values = 0;
    if field.is_empty() {
        return Ok(values);
    }
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse::<u32>().ok().filter(|step| *step > 0);
                (range, Some(step.ok_or_else(|| format!("`{part}` has no step"))?))
            }
            None => (part, None),
        };
        let (from, to) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (low, high),
            (_, Some((from, to))) => (value(from, low, high, names)?, value(to, low, high, names)?),
            (one, None) => {
                let one = value(one, low, high, names)?;
                (one, if step.is_some() { high } else { one })
            }
        };
        if from > to {
            return Err(format!("`{part}` ends before it begins"));
        }
        for value in (from..=to).step_by(step.unwrap_or(1) as usize) {
            values |= 1 << value;
        }
    }
    Ok(values)
}

fn value(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u32, String> {
    let named = names.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok());
    let number = match named {
        Some(at) => Some(at + low),
        None if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().ok(),
        None => None,
    };
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| format!("`{text}` is not between {low} and {high}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(pattern: &str, zone: &str, from: &str) -> Result<Option<String>, String> {
        let from: Timestamp = from.parse().unwrap();
        let due = Pattern::new(pattern, Some(zone))?.after(from.as_millisecond());
        Ok(due.map(|due| Timestamp::from_millisecond(due).unwrap().to_string()))
    }

    #[test]
    fn patterns_come_when_the_library_says() {
        for (pattern, due) in [
            ("* * * * * *", "2026-03-01T10:00:01Z"),
            ("0 * * * * *", "2026-03-01T10:01:00Z"),
            ("0 10 * * *", "2026-03-02T10:00:00Z"),
            ("*/5 * * * *", "2026-03-01T10:05:00Z"),
            ("0 0 L * *", "2026-03-31T00:00:00Z"),
            ("0 0 * * 1L", "2026-03-30T00:00:00Z"),
            ("0 0 * * 1#2", "2026-03-09T00:00:00Z"),
            ("0 0 13 * 5", "2026-03-06T00:00:00Z"),
            ("0 0 1 JAN MON", "2027-01-01T00:00:00Z"),
            ("@daily", "2026-03-02T00:00:00Z"),
            ("0 0 * * 7", "2026-03-08T00:00:00Z"),
            ("30 59 23 29 2 *", "2028-02-29T23:59:30Z"),
        ] {
            // A day and a month and a weekday: both day fields are given, so January's Mondays count, too.
            assert_eq!(next(pattern, "UTC", "2026-03-01T10:00:00Z"), Ok(Some(due.to_owned())), "{pattern}");
        }
    }

    #[test]
    fn clocks_that_change_skip_and_double_nothing() {
        let paris = |pattern, from| next(pattern, "Europe/Paris", from).unwrap().unwrap();
        assert_eq!(paris("30 2 * * *", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
        assert_eq!(paris("30 2 * * *", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(paris("30 2 * * *", "2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
        assert_eq!(paris("30 * * * *", "2026-10-25T00:30:00Z"), "2026-10-25T01:30:00Z");
    }

    #[test]
    fn what_the_library_refuses_is_refused() {
        for pattern in ["0 0 10W * *", "5-1 * * * *", "0 0 31 2 *", "* * *", "60 * * * *", "*/0 * * * *", ""]
        {
            assert!(next(pattern, "UTC", "2026-03-01T10:00:00Z").is_err(), "{pattern}");
        }
        assert!(Pattern::new("* * * * *", Some("Mars/Base")).is_err());
    }
}
