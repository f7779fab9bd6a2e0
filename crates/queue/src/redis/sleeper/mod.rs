//! Sleeping in Redis: one connection that is woken for all wanted queues at once.
//!
//! Whoever waits states a [`Wish`] and may stop waiting at any moment. A task of its own, the [`Source`], owns the
//! connection, hears what happens in Redis, and writes it on the [`Board`], where waiters look. What stands there counts
//! until a turn asks its queue. There are two sources: [`Blocked`] takes wake-ups out of
//! keys, [`Subscribed`] hears messages.

mod blocked;
mod board;
mod call;
mod subscribed;
mod wish;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use qfleet_model::time::WallTime;
use tokio::task::JoinHandle;

pub(super) use self::blocked::BLOCKED_ANSWERS_WITHIN;
pub(crate) use self::blocked::{Blocked, Wakeups};
use self::board::Board;
pub(crate) use self::board::News;
pub(crate) use self::subscribed::{Channels, Subscribed};
use self::wish::Wishes;
use crate::driver::Waited;
use crate::error::QueueError;

/// Where news of queues comes from.
#[async_trait]
pub(crate) trait Source: std::fmt::Debug + Send + Sync + 'static {
    /// Serves one wish after the other, for ever. After an error it rests until somebody waits again.
    async fn serve(&self, desk: &Desk);
}

/// What waiters and the source share.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    wishes: Wishes,
    board: Board,
}

/// The front of the task; dropping it ends the task and closes the connection.
#[derive(Debug)]
pub(crate) struct Sleeper {
    source: Arc<dyn Source>,
    desk: Arc<Desk>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sleeper {
    /// Connects when somebody waits.
    pub(crate) fn new(source: impl Source) -> Self {
        Self { source: Arc::new(source), desk: Arc::default(), task: Mutex::default() }
    }

    /// Returns when one of the queues may have a job, or after `at_most`.
    pub(crate) async fn wait(&self, queues: Vec<usize>, at_most: Duration) -> Result<Waited, QueueError> {
        self.run();
        self.desk.board.forget_fault();
        // What lies in Redis for a queue that rests is left there, for others and for later.
        let (queues, at_most) = self.desk.board.without_resting(queues, at_most);
        let _wish = self.desk.wishes.state(&queues);
        self.desk.board.wait(&queues, at_most).await
    }

    /// A turn asks this queue: what is known of it is used. Answers how often it was woken.
    pub(crate) fn take_woken(&self, queue: usize) -> u32 {
        self.desk.board.take(queue)
    }

    /// Wake-ups that were not used after all.
    pub(crate) fn put_back(&self, woken: impl IntoIterator<Item = (usize, u32)>) {
        self.desk.board.put_back(woken);
    }

    /// The queue has jobs that may not start before this date, so nothing wakes on its behalf until then; `None` ends that.
    pub(crate) fn rest(&self, queue: usize, until: Option<WallTime>) {
        self.desk.board.rest(queue, until);
    }

    /// The commands found Redis gone: the wake-up connection may be dead without showing it.
    pub(crate) fn reconnect(&self) {
        self.desk.wishes.renew();
    }

    /// Queues that nothing can wake, since their key is of a wrong type.
    pub(crate) fn wrong(&self) -> Vec<usize> {
        self.desk.board.wrong()
    }

    fn run(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (source, desk) = (Arc::clone(&self.source), Arc::clone(&self.desk));
            *task = Some(tokio::spawn(async move { source.serve(&desk).await }));
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
