//! How long to wait before the next attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A rule for the pause before the next attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backoff {
    /// The n-th pause is the n-th element, the last one repeats (Laravel's list). Empty is no pause.
    Steps(Vec<Duration>),
    /// Always the same pause.
    Fixed(Duration),
    /// `delay`, doubled with each attempt: delay, 2 × delay, 4 × delay, …
    Exponential(Duration),
}

/// No backoff grows beyond this.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl Backoff {
    /// The pause after attempt number `attempt` (from 1), at most 24 h.
    #[must_use]
    pub fn after(&self, attempt: u32) -> Duration {
        let index = attempt.saturating_sub(1);
        let pause = match self {
            Self::Steps(steps) => {
                let at = usize::try_from(index).unwrap_or(usize::MAX);
                steps.get(at).or(steps.last()).copied().unwrap_or_default()
            }
            Self::Fixed(delay) => *delay,
            Self::Exponential(delay) => delay.saturating_mul(1_u32.checked_shl(index).unwrap_or(u32::MAX)),
        };
        pause.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_rule() {
        let s = Duration::from_secs;
        let steps = Backoff::Steps(vec![s(1), s(5), s(10)]);
        assert_eq!([1, 2, 3, 4, 99].map(|n| steps.after(n)), [s(1), s(5), s(10), s(10), s(10)]);
        assert_eq!(Backoff::Steps(vec![]).after(1), s(0));
        assert_eq!([1, 2, 3].map(|n| Backoff::Exponential(s(5)).after(n)), [s(5), s(10), s(20)]);
        assert_eq!(Backoff::Exponential(s(5)).after(4_000_000_000), LONGEST);
        assert_eq!([0, 1, 7].map(|n| Backoff::Fixed(s(3)).after(n)), [s(3), s(3), s(3)]);
    }
}
