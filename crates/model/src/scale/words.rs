//! What people read about the number of workers.

use std::time::Duration;

use super::{Rule, Target};

impl Rule {
    /// `1..10`.
    #[must_use]
    pub fn range(&self) -> String {
        format!("{}..{}", self.min, self.max)
    }
}

/// `backlog 1,200 jobs, about 4m at 5/s`.
pub(super) fn backlog(waiting: u64, target: Target, workers: u32, per_second: Option<f64>) -> String {
    let jobs = match waiting {
        0 => return String::from("no backlog"),
        1 => String::from("backlog 1 job"),
        many => format!("backlog {} jobs", grouped(many)),
    };
    match (target, per_second) {
        (Target::Size(_), _) => {
            format!("{jobs}, {} a process", grouped(waiting.div_ceil(u64::from(workers.max(1)))))
        }
        (Target::Time(_), Some(rate)) if rate > 0.0 => {
            format!("{jobs}, about {} at {}/s", about(super::scaler::float(waiting) / rate), rounded(rate))
        }
        (Target::Time(_), _) => format!("{jobs}, how fast they go is not known yet"),
    }
}

/// `1,200`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `35s`, `4m`, `3h`, `2d`.
fn about(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let (count, unit) = match duration.as_secs() {
        0 => return String::from("1s"),
        seconds @ 1..=119 => (seconds, "s"),
        seconds @ 120..=7_199 => (seconds / 60, "m"),
        seconds @ 7_200..=172_799 => (seconds / 3_600, "h"),
        seconds => (seconds / 86_400, "d"),
    };
    format!("{}{unit}", grouped(count))
}

/// `0.02`, `4.5`, `130`.
fn rounded(rate: f64) -> String {
    let decimals = match rate {
        rate if rate < 0.095 => 3,
        rate if rate < 9.95 => 1,
        _ => 0,
    };
    format!("{rate:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_reads_as_people_say_it() {
        let time = Target::Time(Duration::from_secs(30));
        let cases = [
            (0, time, Some(1.0), "no backlog"),
            (1, time, Some(0.5), "backlog 1 job, about 2s at 0.5/s"),
            (1_200, time, Some(5.0), "backlog 1,200 jobs, about 4m at 5.0/s"),
            (1_234_567, time, Some(150.4), "backlog 1,234,567 jobs, about 2h at 150/s"),
            (9, time, None, "backlog 9 jobs, how fast they go is not known yet"),
            (9, time, Some(0.0), "backlog 9 jobs, how fast they go is not known yet"),
            (10, time, Some(0.01), "backlog 10 jobs, about 16m at 0.010/s"),
            (1_000, Target::Size(100), Some(5.0), "backlog 1,000 jobs, 334 a process"),
        ];
        for (waiting, target, rate, expected) in cases {
            assert_eq!(backlog(waiting, target, 3, rate), expected);
        }
    }
}
