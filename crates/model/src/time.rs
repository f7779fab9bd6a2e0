//! Two kinds of time that must not be mixed: [`Moment`] only measures, [`WallTime`] only names a date.
//!
//! A `Moment` never jumps and means nothing outside this boot; all timers use it. A `WallTime` may jump and is what
//! gets stored, shown, or compared with what other machines wrote.

use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the machine's monotonic clock, in nanoseconds since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    /// A moment from nanoseconds of the monotonic clock.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds of the monotonic clock.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when `earlier` is in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A date: milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallTime(i64);

impl WallTime {
    /// A date from milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// A date from whole seconds since 1970.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Time passed since `earlier`; zero when `earlier` is in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The date as RFC 3339 in UTC: whole seconds as `2026-01-01T00:01:05Z`, else with milliseconds.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(stamp) if self.0.rem_euclid(1000) == 0 => stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            Ok(stamp) => stamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            Err(_) => String::from("out of range"),
        }
    }

    /// Reads RFC 3339, any offset. `None` when the text is not a date.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|stamp| Self(stamp.as_millisecond()))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_prints_and_reads_back() {
        let date = WallTime::from_seconds(1_767_225_665);
        assert_eq!(date.to_rfc3339(), "2026-01-01T00:01:05Z");
        assert_eq!(WallTime::from_rfc3339("2026-01-01T01:01:05+01:00"), Some(date));
        assert_eq!(WallTime::from_millis(1_767_225_665_250).to_rfc3339(), "2026-01-01T00:01:05.250Z");
    }

    #[test]
    fn a_moment_never_goes_negative() {
        let (early, late) = (Moment::from_nanos(5), Moment::from_nanos(9));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_nanos(4));
    }
}
