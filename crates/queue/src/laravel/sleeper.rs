//! Sleeping in Redis: one connection that waits on the notify lists of all wanted queues at once.
//!
//! A task owns the blocking call. Whoever waits states a wish and may stop waiting at any moment; the call goes on for a
//! short while, in case the same wish comes again (it does after every turn), and is then called off, so that it does
//! not take wake-ups from other workers that could use them. An element that was taken counts as one wake-up until a
//! turn has used it; unused ones are put back into Redis.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::error::QueueError;
use crate::redis::Link;

mod blocked;

/// The wake-up connection's limit for an answer: longer than a blocking call.
pub(super) const BLOCKED_ANSWERS_WITHIN: Duration = Duration::from_secs(65);

/// The front of the task; dropping it ends the task and closes the connection.
#[derive(Debug)]
pub(super) struct Sleeper {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    commands: Link,
    /// The notify list of each queue of the driver.
    lists: Vec<String>,
    wish: watch::Sender<Wish>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Clone, Default)]
struct Wish {
    queues: Option<Vec<usize>>,
    /// Counts the waits.
    number: u64,
    /// A new number asks for a new connection.
    epoch: u64,
}

#[derive(Debug, Default)]
struct State {
    woken: HashMap<usize, u32>,
    wrong: BTreeMap<usize, Instant>,
    fault: Option<QueueError>,
}

impl Sleeper {
    /// Connects when somebody waits.
    pub(super) fn new(link: Link, commands: Link, lists: Vec<String>) -> Self {
        let shared = Shared {
            link,
            commands,
            lists,
            wish: watch::Sender::new(Wish::default()),
            state: Mutex::default(),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// Returns when one of the queues may have a job, or after `at_most`.
    pub(super) async fn wait(&self, queues: Vec<usize>, at_most: Duration) -> Result<(), QueueError> {
        self.run();
        self.shared.state().fault = None;
        let _wish = StatedWish::state(&self.shared, &queues);
        let deadline = tokio::time::Instant::now() + at_most;
        loop {
            let changed = self.shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.shared.state();
                if let Some(error) = state.fault.take() {
                    return Err(error);
                }
                if queues.iter().any(|queue| state.woken.contains_key(queue)) {
                    return Ok(());
                }
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(deadline) => return Ok(()),
            }
        }
    }

    /// Wake-ups taken from this queue's notify list and not yet used.
    pub(super) fn take_woken(&self, queue: usize) -> u32 {
        self.shared.state().woken.remove(&queue).unwrap_or_default()
    }

    /// Wake-ups that were not used after all.
    pub(super) fn put_back(&self, woken: impl IntoIterator<Item = (usize, u32)>) {
        let mut state = self.shared.state();
        for (queue, count) in woken {
            if count > 0 {
                *state.woken.entry(queue).or_default() += count;
            }
        }
    }

    /// The commands found Redis gone: the wake-up connection may be dead without showing it.
    pub(super) fn reconnect(&self) {
        self.shared.wish.send_modify(|wish| wish.epoch += 1);
    }

    /// Queues whose notify key is of a wrong type.
    pub(super) fn wrong(&self) -> Vec<usize> {
        self.shared.state().wrong.keys().copied().collect()
    }

    fn run(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(blocked::sleep_for_ever(Arc::clone(&self.shared))));
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wish that holds as long as somebody waits.
struct StatedWish<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> StatedWish<'a> {
    fn state(shared: &'a Shared, queues: &[usize]) -> Self {
        let mut number = 0;
        shared.wish.send_modify(|wish| {
            wish.queues = Some(queues.to_vec());
            wish.number += 1;
            number = wish.number;
        });
        Self { shared, number }
    }
}

impl Drop for StatedWish<'_> {
    fn drop(&mut self) {
        // A wait that was cancelled may end after the next one has begun.
        self.shared.wish.send_if_modified(|wish| {
            let last = wish.number == self.number;
            if last {
                wish.queues = None;
            }
            last
        });
    }
}
