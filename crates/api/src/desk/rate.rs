//! How fast each group finishes jobs, from the counters its workers report. Nothing is asked of the workers: the snapshot
//! is looked at when it changes, at most every two seconds.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qfleet_model::snapshot::FleetSnapshot;
use qfleet_supervisor::Handle;
use tokio::time::Instant;

/// The rate is of the last so long.
const WINDOW: Duration = Duration::from_secs(30);
/// Least pause between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Samples stand no closer than this, however often somebody asks.
const CLOSEST: Duration = Duration::from_secs(1);
/// A rate over less than this would jump about.
const SHORTEST: Duration = Duration::from_millis(1500);

/// Counters of the recent past.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<Past>);

#[derive(Debug, Default)]
struct Past {
    /// Jobs finished so far of each living worker, by process number: a replacement starts at zero.
    seen: HashMap<i32, u64>,
    /// Jobs finished since we began to look, by group.
    totals: HashMap<String, u64>,
    /// The totals as they were, oldest first.
    samples: VecDeque<(Instant, HashMap<String, u64>)>,
}

impl Past {
    /// Takes in the counters of one instant.
    fn note(&mut self, now: Instant, fleet: &FleetSnapshot) {
        let mut seen = HashMap::new();
        for process in &fleet.processes {
            let (Some(pid), Some(report)) = (process.pid, &process.report) else { continue };
            let finished = report.completed + report.failed + report.discarded;
            // What was finished before the first look is nobody's rate; what a newcomer has finished since is.
            let before =
                self.seen.get(&pid).copied().unwrap_or(if self.samples.is_empty() { finished } else { 0 });
            *self.totals.entry(process.group.clone()).or_default() += finished.saturating_sub(before);
            seen.insert(pid, finished);
        }
        self.seen = seen;
        if self.samples.back().is_some_and(|(at, _)| now.duration_since(*at) < CLOSEST) {
            return;
        }
        self.samples.push_back((now, self.totals.clone()));
        // One sample at or before the window's begin stays: it says what the totals were at its begin.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Jobs a second of a group over the window, or over the time we have been looking.
    fn rate(&self, now: Instant, group: &str) -> Option<f64> {
        let (oldest, then) = self.samples.front()?;
        let over = now.duration_since(*oldest).min(WINDOW);
        if over < SHORTEST {
            return None;
        }
        let finished = self.totals.get(group)?.saturating_sub(then.get(group).copied().unwrap_or(0));
        // Counters stay far below where a float would lose whole numbers.
        #[allow(clippy::cast_precision_loss)]
        Some(finished as f64 / over.as_secs_f64())
    }
}

impl Rates {
    /// Jobs a second that each of `groups` finishes; `None` where that is not known (yet).
    pub(crate) fn of(&self, fleet: &FleetSnapshot, groups: &[&str]) -> Vec<Option<f64>> {
        let now = Instant::now();
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        past.note(now, fleet);
        groups.iter().map(|group| past.rate(now, group)).collect()
    }
}

/// Takes in the counters whenever they change, until the daemon ends.
pub(crate) async fn watch(rates: Arc<Rates>, handle: Handle) {
    let mut changes = handle.changes();
    loop {
        let fleet = handle.snapshot();
        rates.0.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now(), &fleet);
        drop(fleet);
        tokio::time::sleep(PAUSE).await;
        if !changes.next().await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use qfleet_model::link::Report;
    use qfleet_model::snapshot::{ProcessView, StateWord};
    use qfleet_model::time::WallTime;

    use super::*;

    fn fleet(workers: &[(i32, u64)]) -> FleetSnapshot {
        let processes = workers.iter().map(|(pid, completed)| ProcessView {
            name: format!("mail:mail_{pid:02}"),
            group: "mail".to_owned(),
            number: 0,
            state: StateWord::Running,
            pid: Some(*pid),
            since: WallTime::from_seconds(0),
            exit: None,
            description: String::new(),
            error: None,
            started_at: None,
            stopped_at: None,
            crashes: 0,
            schedule: None,
            report: Some(Report { completed: *completed, ..Report::default() }),
            tree: qfleet_model::snapshot::Keeping::Walk,
        });
        FleetSnapshot { processes: processes.collect(), ..FleetSnapshot::default() }
    }

    #[test]
    fn a_rate_is_of_the_last_half_minute_and_survives_replaced_workers() {
        let (mut past, begin) = (Past::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        past.note(at(0), &fleet(&[(1, 1_000)]));
        assert_eq!(past.rate(at(1), "mail"), None, "too early to tell");
        past.note(at(10), &fleet(&[(1, 1_100)]));
        assert_eq!(past.rate(at(10), "mail"), Some(10.0));
        past.note(at(20), &fleet(&[(2, 50)]));
        assert_eq!(past.rate(at(20), "mail"), Some(7.5), "a replacement counts from zero");
        past.note(at(3_000), &fleet(&[(2, 50)]));
        assert_eq!(past.rate(at(3_000), "mail"), Some(0.0), "nothing in the last half minute");
        past.note(at(3_001), &fleet(&[(2, 350)]));
        assert_eq!(past.rate(at(3_001), "mail"), Some(10.0), "300 in half a minute");
        assert_eq!(past.rate(at(3_001), "other"), None);
    }
}
