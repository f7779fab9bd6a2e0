//! What is known of the queues since a turn asked them last, and how waiters hear of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qfleet_model::time::WallTime;
use tokio::sync::Notify;

use crate::clock;
use crate::driver::Waited;
use crate::error::QueueError;

/// What cannot wake a queue is tried again after this long.
pub(super) const WRONG_FOR: Duration = Duration::from_secs(60);

/// What is known of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// So often it was said that it has jobs.
    pub(crate) times: u32,
    /// It has one then.
    pub(crate) due: Option<WallTime>,
}

/// The news of all queues.
#[derive(Debug, Default)]
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    news: HashMap<usize, News>,
    resting: HashMap<usize, WallTime>,
    wrong: BTreeMap<usize, Instant>,
    fault: Option<QueueError>,
}

impl State {
    /// When a waiter for this queue is to wake by what is known.
    fn wakes_at(&self, queue: usize) -> Option<WallTime> {
        let news = self.news.get(&queue)?;
        if news.times > 0 { Some(WallTime::from_millis(0)) } else { news.due }
    }
}

impl Board {
    /// The queue has a job, now or at a date.
    pub(crate) fn woken(&self, queue: usize, due: Option<WallTime>) {
        let mut state = self.lock();
        let news = state.news.entry(queue).or_default();
        match due.filter(|due| *due > clock::now()) {
            Some(due) => news.due = Some(news.due.map_or(due, |known| known.min(due))),
            None => news.times = news.times.saturating_add(1),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// The connection is lost: whoever waits is told.
    pub(super) fn fail(&self, error: QueueError) {
        self.lock().fault = Some(error);
        self.changed.notify_waiters();
    }

    /// A new wait does not end with what befell an earlier one.
    pub(super) fn forget_fault(&self) {
        self.lock().fault = None;
    }

    /// Returns when one of the queues may have a job, or after `at_most`.
    pub(super) async fn wait(&self, queues: &[usize], at_most: Duration) -> Result<Waited, QueueError> {
        let deadline = tokio::time::Instant::now() + at_most;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let due = {
                let mut state = self.lock();
                if let Some(error) = state.fault.take() {
                    return Err(error);
                }
                queues.iter().filter_map(|queue| state.wakes_at(*queue)).min()
            };
            let now = clock::now();
            let until = match due {
                Some(due) if due <= now => return Ok(Waited::Woken),
                Some(due) => deadline.min(tokio::time::Instant::now() + due.since(now)),
                None => deadline,
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {
                    // What was known to come due has.
                    return Ok(if until < deadline { Waited::Woken } else { Waited::TimedOut });
                }
            }
        }
    }

    /// What is known of the queue is used; answers how often it was woken.
    pub(super) fn take(&self, queue: usize) -> u32 {
        self.lock().news.remove(&queue).unwrap_or_default().times
    }

    /// So often a queue was woken, and nobody has used it.
    pub(super) fn put_back(&self, woken: impl IntoIterator<Item = (usize, u32)>) {
        let mut state = self.lock();
        for (queue, times) in woken.into_iter().filter(|(_, times)| *times > 0) {
            let news = state.news.entry(queue).or_default();
            news.times = news.times.saturating_add(times);
        }
    }

    /// The queue has jobs that may not start before this date; `None` ends that.
    pub(super) fn rest(&self, queue: usize, until: Option<WallTime>) {
        let mut state = self.lock();
        match until {
            Some(until) => state.resting.insert(queue, until),
            None => state.resting.remove(&queue),
        };
    }

    /// Those of `queues` that are worth waiting for, and for how long, since the others are again after that.
    pub(super) fn without_resting(
        &self,
        mut queues: Vec<usize>,
        at_most: Duration,
    ) -> (Vec<usize>, Duration) {
        let now = clock::now();
        let mut state = self.lock();
        state.resting.retain(|_, until| *until > now);
        let ends = queues.iter().filter_map(|queue| state.resting.get(queue)).map(|until| until.since(now));
        let at_most = ends.chain([at_most]).min().unwrap_or(at_most);
        queues.retain(|queue| !state.resting.contains_key(queue));
        (queues, at_most)
    }

    /// Whether anything is known that no turn has used.
    pub(super) fn has_unused(&self) -> bool {
        !self.lock().news.is_empty()
    }

    /// Takes everything off, but for what is known of these queues.
    pub(super) fn take_unused(&self, except: &[usize]) -> Vec<(usize, News)> {
        self.lock().news.extract_if(|queue, _| !except.contains(queue)).collect()
    }

    /// Nothing can wake this queue for now.
    pub(super) fn is_wrong(&self, queue: usize) {
        self.lock().wrong.insert(queue, Instant::now());
    }

    /// All queues can be woken.
    pub(super) fn none_is_wrong(&self) {
        self.lock().wrong.clear();
    }

    /// Queues that nothing can wake.
    pub(super) fn wrong(&self) -> Vec<usize> {
        self.lock().wrong.keys().copied().collect()
    }

    /// Those that may be woken by now.
    pub(super) fn without_wrong(&self, queues: &[usize]) -> Vec<usize> {
        let mut state = self.lock();
        state.wrong.retain(|_, since| since.elapsed() < WRONG_FOR);
        queues.iter().copied().filter(|queue| !state.wrong.contains_key(queue)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
