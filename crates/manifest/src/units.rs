//! Durations, sizes, counts and modes as people write them.

use std::time::Duration;

/// Why a text is not a quantity: the sentence behind "must be".
pub type Expected = &'static str;

/// A duration: a bare number is seconds, else `500ms`, `90s`, `5m`, `1h30m`, `2d`.
///
/// # Errors
/// What a duration looks like.
pub fn duration(text: &str) -> Result<Duration, Expected> {
    const FORM: Expected = "a duration: seconds, or like `500ms`, `90s`, `5m`, `1h30m`";
    if let Some((minutes, seconds)) = text.split_once(':')
        && minutes.parse::<u32>().is_ok()
        && seconds.parse::<u32>().is_ok()
    {
        return Err("a duration without colons: `1m30s`, `1h30m`");
    }
    if let Some(seconds) = decimal(text) {
        return Ok(seconds);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut largest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?;
        let count: u64 = rest[..digits].parse().map_err(|_| FORM)?;
        let behind = &rest[digits..];
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let millis: u64 = match &behind[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(FORM),
        };
        if millis >= largest {
            return Err(FORM);
        }
        largest = millis;
        total += Duration::from_millis(count.checked_mul(millis).ok_or(FORM)?);
        rest = &behind[unit..];
    }
    if text.is_empty() { Err(FORM) } else { Ok(total) }
}

/// Seconds, with a fraction of at most three digits.
fn decimal(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 || leading_zero(whole) {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").parse().ok()?;
    let seconds: u64 = whole.parse().ok()?;
    Duration::from_secs(seconds).checked_add(Duration::from_millis(millis))
}

/// A size in bytes: `64MiB`; a bare number is bytes.
///
/// # Errors
/// What a size looks like.
pub(crate) fn size(text: &str) -> Result<u64, Expected> {
    const FORM: Expected = "a size like `512KiB`, `64MiB`, `1GiB`";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(digits);
    if leading_zero(count) {
        return Err(FORM);
    }
    let count: u64 = count.parse().map_err(|_| FORM)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ if ["k", "m", "g", "kb", "mb", "gb"].contains(&unit.to_ascii_lowercase().as_str()) => {
            return Err("a size in units of 1024, which are written `KiB`, `MiB`, `GiB`");
        }
        _ => return Err(FORM),
    };
    count.checked_mul(1 << shift).ok_or(FORM)
}

/// A whole number in decimal digits. A leading zero is refused: one YAML reads `012` as ten, another as twelve.
///
/// # Errors
/// What a whole number looks like.
pub(crate) fn whole(text: &str) -> Result<i64, Expected> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if leading_zero(digits) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a whole number without leading zeros");
    }
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err("a whole number");
    }
    text.parse().map_err(|_| "a whole number of reasonable size")
}

/// File permissions in octal: `0660`, `022`.
///
/// # Errors
/// What a mode looks like.
pub(crate) fn mode(text: &str) -> Result<u32, Expected> {
    const FORM: Expected = "octal digits in quotes, like \"0660\"";
    let fits = (1..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).map_err(|_| FORM)?;
    if fits && mode <= 0o7777 { Ok(mode) } else { Err(FORM) }
}

/// A duration for people: `1h30m`, `90s`, `500ms`.
#[must_use]
pub fn shown(duration: Duration) -> String {
    if duration.is_zero() {
        return String::from("0s");
    }
    let mut rest = duration.as_millis();
    let mut out = String::new();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if rest >= millis {
            out.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    out
}

/// A size for people: `64MiB`.
#[must_use]
pub fn shown_size(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

fn leading_zero(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("0", ms(0)),
            ("90", ms(90_000)),
            ("1.5", ms(1_500)),
            ("0.25", ms(250)),
            ("500ms", ms(500)),
            ("90s", ms(90_000)),
            ("5m", ms(300_000)),
            ("1h30m", ms(5_400_000)),
            ("2d", ms(172_800_000)),
            ("1m500ms", ms(60_500)),
        ] {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "5x",
            "-5",
            "30m1h",
            "1h1h",
            "1:30",
            "012",
            "1.",
            ".5",
            "5 s",
            "1e3",
            "99999999999999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_prints_as_it_reads() {
        for text in ["500ms", "1m30s", "5m", "1h30m", "2d", "0s"] {
            assert_eq!(duration(text).map(shown).as_deref(), Ok(text));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024_and_say_so() {
        assert_eq!([size("64MiB"), size("10"), size("1GiB")], [Ok(64 << 20), Ok(10), Ok(1 << 30)]);
        for text in ["", "64MB", "64M", "-1", "1.5GiB", "99999999999GiB", "64 MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!([shown_size(64 << 20), shown_size(1500)], ["64MiB", "1500B"]);
    }

    #[test]
    fn numbers_and_modes() {
        assert_eq!([whole("0"), whole("-5"), whole("42")], [Ok(0), Ok(-5), Ok(42)]);
        for text in ["", "012", "1.5", "1e3", "0x10", "+1", "99999999999999999999", "--1"] {
            assert!(whole(text).is_err(), "{text}");
        }
        assert_eq!([mode("0660"), mode("022"), mode("7")], [Ok(0o660), Ok(0o22), Ok(7)]);
        for text in ["", "0888", "77777", "-1", "0o660"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
