//! When the workers of a queue crash again and again: whether to go on with all of them, or with one on trial.
//!
//! Each worker has pauses of its own after crashes, which says nothing about the others: eight that take the same poisoned
//! job one after the other are eight first crashes. A [`Breaker`] per group counts them together. [`CRASHES`] of different
//! workers inside [`WINDOW`] trip it: whoever is down then stays down, and one of them after the other is tried, the
//! **probe**, with growing pauses. When a probe has ended a job, or has been up for [`PROVEN`], all may start.
//!
//! The fleet owns a breaker per group, tells it what happens, and asks it what to do when its time has come.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::link::JobRef;
use crate::time::Moment;

/// So many crashes inside the window trip it.
pub const CRASHES: usize = 6;

/// Crashes that are longer ago do not count.
pub const WINDOW: Duration = Duration::from_secs(60);

/// A probe that has been up for so long has shown that the others may start, too.
pub const PROVEN: Duration = Duration::from_secs(30);

/// The pause before the first probe; twice as long after each that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// No more job ids are shown.
const JOBS_SHOWN: usize = 3;

/// The crashes of one group, and what follows from them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// The newest inside the window: when, and which process.
    recent: VecDeque<(Moment, u32)>,
    last: Option<Crash>,
    trial: Option<Trial>,
}

/// A crash in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Crash {
    process: u32,
    how: String,
    /// Jobs that were running, as far as that is known by now.
    jobs: Vec<JobRef>,
}

/// One worker at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    /// Probes that failed in a row.
    failed: u32,
    /// When to start the next one.
    next_at: Moment,
    probe: Option<Probe>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Probe {
    process: u32,
    /// Since when it has been up.
    up_since: Option<Moment>,
}

/// What to do now that time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Choose one that is down and start it; say so with [`Breaker::probing`].
    Probe,
    /// The probe has proven itself; the breaker is closed, all may start.
    Over,
}

impl Breaker {
    /// Whether only a probe may be started.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.trial.is_some()
    }

    /// The process on trial.
    #[must_use]
    pub fn probe(&self) -> Option<u32> {
        Some(self.trial.as_ref()?.probe?.process)
    }

    /// When time alone brings something.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        let trial = self.trial.as_ref()?;
        match trial.probe {
            None => Some(trial.next_at),
            Some(Probe { up_since, .. }) => up_since.map(|since| since + PROVEN),
        }
    }

    /// A process has crashed, or could not start. Whether that has tripped the breaker.
    pub fn crashed(&mut self, process: u32, how: String, now: Moment) -> bool {
        self.recent.push_back((now, process));
        while self.recent.front().is_some_and(|(at, _)| now.since(*at) >= WINDOW)
            || self.recent.len() > CRASHES
        {
            self.recent.pop_front();
        }
        self.last = Some(Crash { process, how, jobs: Vec::new() });
        if self.is_open() {
            if self.probe() == Some(process) {
                self.probe_failed(now);
            }
            return false;
        }
        let different: BTreeSet<u32> = self.recent.iter().map(|(_, process)| *process).collect();
        let trips = self.recent.len() >= CRASHES && different.len() > 1;
        if trips {
            self.trial = Some(Trial { failed: 0, next_at: now + FIRST_PAUSE, probe: None });
        }
        trips
    }

    fn probe_failed(&mut self, now: Moment) {
        if let Some(trial) = &mut self.trial {
            trial.failed = trial.failed.saturating_add(1);
            trial.probe = None;
            let doubled = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(trial.failed).unwrap_or(u32::MAX));
            trial.next_at = now + doubled.min(LONGEST_PAUSE);
        }
    }

    /// A job was set aside as poisoned: whatever made the probes fail may be gone with it.
    pub fn set_aside(&mut self, now: Moment) {
        if let Some(trial) = &mut self.trial {
            trial.failed = 0;
            trial.next_at = trial.next_at.min(now + FIRST_PAUSE);
        }
    }

    /// What was running in a process that crashed is known now. Whether that was the last crash.
    pub fn known(&mut self, process: u32, jobs: &[JobRef]) -> bool {
        match &mut self.last {
            Some(last) if last.process == process => {
                last.jobs = jobs.to_vec();
                true
            }
            Some(_) | None => false,
        }
    }

    /// This one is on trial.
    pub fn probing(&mut self, process: u32) {
        if let Some(trial) = &mut self.trial {
            trial.probe = Some(Probe { process, up_since: None });
        }
    }

    /// The probe is up.
    pub fn up(&mut self, now: Moment) {
        if let Some(Trial { probe: Some(probe), .. }) = &mut self.trial {
            probe.up_since.get_or_insert(now);
        }
    }

    /// The probe is gone, for a reason that says nothing: the next one is tried at once.
    pub fn lost(&mut self, now: Moment) {
        if let Some(trial) = &mut self.trial {
            trial.probe = None;
            trial.next_at = now;
        }
    }

    /// Everything is forgotten: all may start.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// What is due; what is over is forgotten.
    pub fn look(&mut self, now: Moment) -> Due {
        let Some(trial) = &self.trial else { return Due::Nothing };
        match trial.probe {
            None if trial.next_at <= now => Due::Probe,
            Some(Probe { up_since: Some(since), .. }) if since + PROVEN <= now => {
                self.close();
                Due::Over
            }
            None | Some(_) => Due::Nothing,
        }
    }

    /// Why nobody but the probe is started: `6 crashes in 60 s, last: signal SEGV in job 8412`.
    #[must_use]
    pub fn why(&self) -> String {
        let last = self.last.as_ref().map(|last| format!(", last: {}{}", last.how, in_jobs(&last.jobs)));
        format!("{CRASHES} crashes in {} s{}", WINDOW.as_secs(), last.unwrap_or_default())
    }
}

fn in_jobs(jobs: &[JobRef]) -> String {
    let named = jobs.iter().take(JOBS_SHOWN).map(|job| job.id.as_str()).collect::<Vec<_>>().join(", ");
    match jobs.len() {
        0 => String::new(),
        1 => format!(" in job {named}"),
        all if all <= JOBS_SHOWN => format!(" in one of the jobs {named}"),
        all => format!(" in one of the jobs {named} and {} more", all - JOBS_SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(1_000_000_000_000) + Duration::from_secs(seconds)
    }

    fn segv() -> String {
        String::from("signal SEGV")
    }

    fn job(id: &str) -> JobRef {
        JobRef { queue: String::from("q"), id: id.to_owned() }
    }

    /// Six crashes of three workers, one a second, until second 5.
    fn tripped() -> Breaker {
        let mut breaker = Breaker::default();
        for second in 0..6 {
            let trips = breaker.crashed(u32::try_from(second % 3).unwrap_or(0), segv(), at(second));
            assert_eq!(trips, second == 5);
        }
        breaker
    }

    #[test]
    fn crashes_of_different_workers_in_a_short_time_trip_it() {
        assert!(tripped().is_open());
        let mut alone = Breaker::default();
        let mut rare = Breaker::default();
        for second in 0..100 {
            assert!(!alone.crashed(1, segv(), at(second)), "one worker has its own pauses");
            assert!(!rare.crashed(u32::try_from(second % 2).unwrap_or(0), segv(), at(second * 12)));
        }
    }

    #[test]
    fn probes_come_one_at_a_time_and_later_each_time() {
        let mut breaker = tripped();
        let mut now = 5;
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(breaker.due(), Some(at(now + pause)));
            assert_eq!(breaker.look(at(now + pause - 1)), Due::Nothing);
            now += pause;
            assert_eq!(breaker.look(at(now)), Due::Probe);
            breaker.probing(2);
            assert_eq!(breaker.look(at(now + 999)), Due::Nothing, "one is enough");
            breaker.crashed(7, segv(), at(now));
            assert_eq!(breaker.probe(), Some(2), "somebody else's crash says nothing of it");
            breaker.crashed(2, segv(), at(now));
        }
        breaker.set_aside(at(now));
        assert_eq!(breaker.due(), Some(at(now + 5)), "a poisoned job less");
    }

    #[test]
    fn a_probe_that_stays_up_ends_the_trial() {
        let mut breaker = tripped();
        breaker.probing(0);
        assert_eq!(breaker.due(), None, "it is not up yet");
        breaker.up(at(12));
        breaker.up(at(20));
        assert_eq!(breaker.due(), Some(at(42)));
        assert_eq!(breaker.look(at(41)), Due::Nothing);
        assert_eq!(breaker.look(at(42)), Due::Over);
        assert!(!breaker.is_open());
        assert_eq!(breaker, Breaker::default(), "what was is forgotten");
    }

    #[test]
    fn a_probe_that_was_taken_away_is_replaced_at_once() {
        let mut breaker = tripped();
        breaker.probing(0);
        breaker.lost(at(20));
        assert_eq!(breaker.look(at(20)), Due::Probe);
    }

    #[test]
    fn it_says_what_happened_last_and_in_which_job() {
        let mut breaker = tripped();
        assert_eq!(breaker.why(), "6 crashes in 60 s, last: signal SEGV");
        assert!(!breaker.known(0, &[job("1")]), "the last was another one");
        assert!(breaker.known(2, &[job("8412")]));
        assert_eq!(breaker.why(), "6 crashes in 60 s, last: signal SEGV in job 8412");
        breaker.known(2, &[job("1"), job("2")]);
        assert_eq!(breaker.why(), "6 crashes in 60 s, last: signal SEGV in one of the jobs 1, 2");
        breaker.known(2, &["1", "2", "3", "4", "5"].map(job));
        assert_eq!(
            breaker.why(),
            "6 crashes in 60 s, last: signal SEGV in one of the jobs 1, 2, 3 and 2 more"
        );
    }
}
