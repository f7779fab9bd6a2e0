//! One budget for the end of a whole fleet: what each wave of it may take, and what is kept for the rest.
//!
//! A fleet ends in waves, and every process has a limit of its own inside them. With a budget none of that may last longer:
//! a little is kept for giving back the jobs of workers that had to be killed, and a little for each wave still to come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::{ProcessKind, ProcessPolicy, WORKER_MARGIN};
use crate::time::Moment;

/// Kept for giving back jobs, and for the last lines of output.
const RECOVERY: Duration = Duration::from_secs(3);

/// Kept for each later wave, if there is so much for it: to be asked, and to be killed.
const LATER_WAVE: Duration = Duration::from_secs(2);

/// A budget that has begun to be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    began: Moment,
    all: Duration,
    /// Kept for each wave to come.
    each: Duration,
}

impl Budget {
    /// So much from now on.
    #[must_use]
    pub const fn new(all: Duration, now: Moment) -> Self {
        Self { began: now, all, each: LATER_WAVE }
    }

    /// So many waves follow the one that begins now: what is kept is divided between them, so that each has some time
    /// between being asked and being killed.
    pub fn divide(&mut self, later: u32) {
        self.each = self.each.min(self.all / 4 / later.max(1));
    }

    /// Nothing lives any more then.
    #[must_use]
    pub fn ends_at(&self) -> Moment {
        self.began + self.all
    }

    /// The processes of a wave that is followed by so many others are killed at this moment at the latest. What is kept
    /// never takes more than half of the budget.
    #[must_use]
    pub fn killed_by(&self, later: u32) -> Moment {
        let quarter = self.all / 4;
        let waves = self.each.saturating_mul(later).min(quarter);
        self.began + self.all.saturating_sub(RECOVERY.min(quarter)).saturating_sub(waves)
    }
}

impl ProcessPolicy {
    /// The same with a `stop_wait` that leaves room for the rest, when all is to be over after `left`.
    #[must_use]
    pub fn within(&self, left: Duration) -> Self {
        let rest = match self.kind {
            // A third of the time is enough for what its jobs have started, or there would be none for them.
            ProcessKind::Worker => self.kill_after.saturating_add(WORKER_MARGIN).min(left / 3),
            ProcessKind::Program => Duration::ZERO,
        };
        Self { stop_wait: self.stop_wait.min(left.saturating_sub(rest)), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Autorestart;

    fn at(seconds: f64) -> Moment {
        Moment::from_nanos(1_000_000_000_000) + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_wave_leaves_something_for_those_after_it_and_for_recovery() {
        let budget = Budget::new(Duration::from_secs(60), at(0.0));
        assert_eq!(budget.ends_at(), at(60.0));
        assert_eq!(budget.killed_by(0), at(57.0));
        assert_eq!(budget.killed_by(2), at(53.0));
        assert_eq!(budget.killed_by(1000), at(42.0), "never more than half");
        let short = Budget::new(Duration::from_secs(4), at(0.0));
        assert_eq!(short.killed_by(0), at(3.0));
        assert_eq!(short.killed_by(9), at(2.0));
    }

    #[test]
    fn every_wave_has_some_time_of_its_own() {
        for (seconds, waves) in [(6, 2), (8, 3), (25, 9), (1, 1)] {
            let mut budget = Budget::new(Duration::from_secs(seconds), at(0.0));
            // The one before may be over sooner; what the others have does not depend on it.
            for later in (0..=waves).rev() {
                budget.divide(later);
                let before = budget.killed_by(later + 1);
                let has = budget.killed_by(later).since(before);
                let share = Duration::from_secs(seconds) / 4 / waves;
                assert!(later == waves || has >= share, "{has:?} for the one before {later} of {seconds} s");
            }
        }
    }

    #[test]
    fn stop_wait_is_shortened_so_that_the_rest_fits() {
        let worker = ProcessPolicy {
            kind: ProcessKind::Worker,
            startsecs: Duration::ZERO,
            ready_within: None,
            startretries: 3,
            retry_fatal: None,
            start_wait: Duration::from_secs(30),
            autorestart: Autorestart::Always,
            exitcodes: vec![],
            stop_signal: 15,
            stop_again: vec![],
            stop_wait: Duration::from_secs(30),
            kill_after: Duration::from_secs(10),
        };
        let program = ProcessPolicy { kind: ProcessKind::Program, ..worker.clone() };
        for (left, of_worker, of_program) in
            [(100.0, 30.0, 30.0), (45.0, 30.0, 30.0), (30.0, 20.0, 30.0), (6.0, 4.0, 6.0)]
        {
            let left = Duration::from_secs_f64(left);
            assert_eq!(worker.within(left).stop_wait, Duration::from_secs_f64(of_worker));
            assert_eq!(program.within(left).stop_wait, Duration::from_secs_f64(of_program));
        }
    }
}
