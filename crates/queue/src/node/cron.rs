//! Patterns of repeated jobs: when they come next.
//!
//! What a pattern means is the model's; this file has what the parser of Bull and BullMQ makes of a change of clocks: a time
//! that is left out comes as much later as the clock leaps, a pattern of every hour comes twice in an hour that does.

#[cfg(test)]
mod agreement;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use qfleet_model::cron;

/// No pattern leaves out more years than a leap day does around 2100.
const YEARS: i32 = 9;

/// A pattern in its time zone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern {
    pattern: cron::Pattern,
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
        let pattern = cron::Pattern::new(text).map_err(|bad| bad.what)?;
        Ok(Self { pattern, zone })
    }

    /// The first date after `base`, both in milliseconds since 1970.
    pub(super) fn after(&self, base: i64) -> Option<i64> {
        let start = Timestamp::from_second(base.div_euclid(1000)).ok()?;
        let mut local = self.zone.to_datetime(start).checked_add(1.second()).ok()?;
        let offset = self.zone.to_offset(start);
        let end = local.year() as i32 + YEARS;
        while i32::from(local.year()) <= end {
            let candidate = self.pattern.first_from(local)?;
            if i32::from(candidate.year()) > end {
                return None;
            }
            let due = self.zone.to_ambiguous_timestamp(candidate).compatible().ok()?;
            // When clocks are turned back, an hour that fits comes twice.
            let again = offset.to_timestamp(candidate).ok().filter(|again| {
                self.pattern.is_of_every_hour() && self.pattern.fits(self.zone.to_datetime(*again))
            });
            if let Some(due) = [Some(due), again].into_iter().flatten().filter(|due| *due > start).min() {
                return Some(due.as_millisecond());
            }
            local = candidate.checked_add(1.second()).ok()?;
        }
        None
    }
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
