//! `Retry-After` in every form that is seen in the wild, and the other headers that say when to come back.

use std::time::Duration;

use qfleet_model::time::WallTime;

/// A receiver that means "at once" still gets a breath.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long a `Retry-After` value asks to wait, between one second and `longest`. `date` is the answer's own `Date`: with it
/// a difference between the clocks does not matter. `now` is our clock.
pub(crate) fn retry_after(
    value: &str,
    date: Option<&str>,
    now: WallTime,
    longest: Duration,
) -> Option<Duration> {
    let value = value.trim();
    let wait = seconds(value).or_else(|| duration(value)).or_else(|| {
        let then = instant(value)?;
        let from = date.and_then(instant).unwrap_or(now);
        Some(then.since(from))
    })?;
    Some(wait.clamp(SHORTEST, longest.max(SHORTEST)))
}

/// How long a `RateLimit` (`"default";r=0;t=30`, or `limit=10, remaining=0, reset=30`) or an `X-RateLimit-Reset` value
/// (seconds, or a date in seconds) asks to wait.
pub(crate) fn rate_limit(value: &str, now: WallTime, longest: Duration) -> Option<Duration> {
    let seconds = value.split([';', ',']).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        matches!(name.trim(), "t" | "reset").then(|| value.trim().parse::<u64>().ok())?
    });
    let seconds = seconds.or_else(|| value.trim().parse().ok())?;
    // Nobody asks to wait for thirty years: such a number is a date.
    let wait = match i64::try_from(seconds) {
        Ok(date) if seconds > 1_000_000_000 => WallTime::from_seconds(date).since(now),
        _ => Duration::from_secs(seconds),
    };
    Some(wait.clamp(SHORTEST, longest.max(SHORTEST)))
}

fn seconds(value: &str) -> Option<Duration> {
    let numeric = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit are more seconds than anybody waits.
    numeric.then(|| Duration::from_secs(value.parse().unwrap_or(u64::MAX)))
}

/// `6m5s`, `1h`, `1.5s`, `250ms`: numbers with units, largest first by habit, in any order here.
fn duration(value: &str) -> Option<Duration> {
    let mut rest = value;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        rest = &rest[letters..];
        sum = sum.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    (!value.is_empty()).then_some(sum)
}

/// An HTTP date in any of its three forms, or RFC 3339.
fn instant(value: &str) -> Option<WallTime> {
    if let Some(date) = WallTime::from_rfc3339(value) {
        return Some(date);
    }
    // The weekday may be wrong or cut; nobody needs it.
    let without_weekday = value.split_once(", ").map_or(value, |(_, rest)| rest);
    let stamp = |format: &str, text: &str| {
        let date = jiff::civil::DateTime::strptime(format, text).ok()?;
        let stamp = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(WallTime::from_millis(stamp.as_millisecond()))
    };
    stamp("%d %b %Y %H:%M:%S GMT", without_weekday)
        .or_else(|| stamp("%d-%b-%y %H:%M:%S GMT", without_weekday))
        .or_else(|| {
            let (_, asctime) = value.split_once(' ')?;
            stamp("%b %d %H:%M:%S %Y", &asctime.split_whitespace().collect::<Vec<_>>().join(" "))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    /// 2026-01-01T00:00:05Z
    const NOW: WallTime = WallTime::from_seconds(1_767_225_605);

    fn waits(value: &str) -> Option<u64> {
        retry_after(value, None, NOW, DAY).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_durations() {
        for (value, expected) in [
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("6m5s", Some(365)),
            ("1h", Some(3600)),
            ("1.5s", Some(1)),
            ("90s", Some(90)),
            ("1m30s500ms", Some(90)),
        ] {
            assert_eq!(waits(value), expected, "{value}");
        }
    }

    #[test]
    fn dates_in_every_form() {
        for value in [
            "Thu, 01 Jan 2026 00:01:35 GMT",
            "Fri, 01 Jan 2026 00:01:35 GMT",
            "Thursday, 01-Jan-26 00:01:35 GMT",
            "Thu Jan  1 00:01:35 2026",
            "2026-01-01T00:01:35Z",
            "2026-01-01T01:01:35+01:00",
        ] {
            assert_eq!(waits(value), Some(90), "{value}");
        }
    }

    #[test]
    fn the_answers_own_date_takes_the_skew_out() {
        let (then, date) = ("Thu, 01 Jan 2026 05:00:30 GMT", "Thu, 01 Jan 2026 05:00:00 GMT");
        assert_eq!(retry_after(then, Some(date), NOW, DAY), Some(Duration::from_secs(30)));
        assert_eq!(retry_after(then, Some("nonsense"), NOW, DAY), Some(Duration::from_secs(18_025)));
    }

    #[test]
    fn it_stays_between_a_second_and_the_longest_delay() {
        assert_eq!(waits("0"), Some(1));
        assert_eq!(waits("Wed, 31 Dec 2025 00:00:00 GMT"), Some(1));
        assert_eq!(waits("200000"), Some(86_400));
        assert_eq!(waits("99999999999999999999999"), Some(86_400));
        assert_eq!(waits("9999-01-01T00:00:00Z"), Some(86_400));
    }

    #[test]
    fn anything_else_is_ignored() {
        for value in [
            "",
            "-5",
            "soon",
            "5 minutes",
            "1.5",
            "m5",
            "5x",
            "2026-13-01T00:00:00Z",
            "Thu, 01 Jan",
            "1e3",
            "é",
        ] {
            assert_eq!(waits(value), None, "{value}");
        }
    }

    #[test]
    fn rate_limit_headers() {
        let wait = |value: &str| rate_limit(value, NOW, DAY).map(|wait| wait.as_secs());
        assert_eq!(wait("\"default\";r=0;t=30"), Some(30));
        assert_eq!(wait("limit=10, remaining=0, reset=45"), Some(45));
        assert_eq!(wait("20"), Some(20));
        assert_eq!(wait("1767225665"), Some(60));
        assert_eq!(wait("later"), None);
    }
}
