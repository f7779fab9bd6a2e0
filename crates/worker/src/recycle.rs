//! When a worker asks to be replaced: after `max-time` or `max-jobs`, or with more private memory than `memory`. Pure.

use std::time::Duration;

use qfleet_manifest::settings::WorkerSettings;
use qfleet_model::link::Recycle;
use qfleet_model::time::Moment;

/// Memory is measured this often at most, and only when a job has ended.
const MEASURE_EVERY: Duration = Duration::from_secs(3);

/// The limits of one worker process.
#[derive(Debug)]
pub(crate) struct Limits {
    started: Moment,
    /// From -1 to 1, drawn once, so that a fleet does not restart together.
    spread: f64,
    max_time: Option<Duration>,
    max_jobs: Option<u64>,
    memory: Option<u64>,
    handled: u64,
    measured: Option<Moment>,
    above: bool,
}

impl Limits {
    /// The limits of `settings`; `spread` is drawn from -1 to 1.
    pub(crate) fn new(settings: &WorkerSettings, now: Moment, spread: f64) -> Self {
        let mut limits = Self {
            started: now,
            spread,
            max_time: None,
            max_jobs: None,
            memory: None,
            handled: 0,
            measured: None,
            above: false,
        };
        limits.tune(settings);
        limits
    }

    /// Takes over changed figures.
    pub(crate) fn tune(&mut self, settings: &WorkerSettings) {
        (self.max_time, self.max_jobs, self.memory) = (settings.max_time, settings.max_jobs, settings.memory);
    }

    /// A job has ended. True when it is time to measure memory.
    pub(crate) fn handled(&mut self, now: Moment) -> bool {
        self.handled += 1;
        let due = self.measured.is_none_or(|last| now.since(last) >= MEASURE_EVERY);
        self.memory.is_some() && due
    }

    /// Private memory was measured, in bytes.
    pub(crate) fn measured(&mut self, bytes: u64, now: Moment) {
        self.measured = Some(now);
        self.above = self.memory.is_some_and(|memory| bytes > memory);
    }

    /// When `max-time` is over.
    pub(crate) fn expires(&self) -> Option<Moment> {
        self.max_time.map(|time| self.started + time.mul_f64(1.0 + self.spread.clamp(-1.0, 1.0) / 10.0))
    }

    /// Which limit was reached, if any.
    pub(crate) fn reached(&self, now: Moment) -> Option<Recycle> {
        if self.expires().is_some_and(|end| now >= end) {
            return Some(Recycle::MaxTime);
        }
        if self.max_jobs.is_some_and(|most| self.handled >= most) {
            return Some(Recycle::MaxJobs);
        }
        self.above.then_some(Recycle::Memory)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use qfleet_manifest::queue::FailedJobs;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn settings(max_time: Option<u64>, max_jobs: Option<u64>, memory: Option<u64>) -> WorkerSettings {
        WorkerSettings {
            group: String::from("g"),
            lanes: Vec::new(),
            concurrency: 1,
            max_time: max_time.map(Duration::from_secs),
            max_jobs,
            memory,
            sleep: Duration::from_secs(3),
            stop_wait: Duration::from_secs(30),
            kill_after: Duration::from_secs(10),
            connections: BTreeMap::new(),
            failed_jobs: FailedJobs::Redis,
            secret_variables: Vec::new(),
        }
    }

    #[test]
    fn max_time_is_spread_by_a_tenth() {
        for (spread, end) in [(-1.0, 900), (0.0, 1000), (1.0, 1100)] {
            let limits = Limits::new(&settings(Some(1000), None, None), at(0), spread);
            assert_eq!(limits.reached(at(end - 1)), None);
            assert_eq!(limits.reached(at(end)), Some(Recycle::MaxTime));
        }
    }

    #[test]
    fn jobs_are_counted() {
        let mut limits = Limits::new(&settings(None, Some(2), None), at(0), 0.0);
        assert!(!limits.handled(at(1)));
        assert_eq!(limits.reached(at(1)), None);
        limits.handled(at(1));
        assert_eq!(limits.reached(at(1)), Some(Recycle::MaxJobs));
        limits.tune(&settings(None, Some(9), None));
        assert_eq!(limits.reached(at(1)), None);
    }

    #[test]
    fn memory_is_measured_now_and_then() {
        let mut limits = Limits::new(&settings(None, None, Some(100)), at(0), 0.0);
        assert!(limits.handled(at(1)));
        limits.measured(100, at(1));
        assert!(!limits.handled(at(3)));
        assert_eq!(limits.reached(at(3)), None);
        assert!(limits.handled(at(4)));
        limits.measured(101, at(4));
        assert_eq!(limits.reached(at(4)), Some(Recycle::Memory));
    }

    #[test]
    fn without_limits_nothing_is_ever_reached() {
        let mut limits = Limits::new(&settings(None, None, None), at(0), 1.0);
        assert!(!limits.handled(at(5)));
        assert_eq!((limits.expires(), limits.reached(at(1_000_000))), (None, None));
    }
}
