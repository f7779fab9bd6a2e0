//! Numbers for the queues of one call.

use std::collections::HashMap;

/// The queues of one call, in order of appearance.
#[derive(Default)]
pub(crate) struct Places {
    queues: Vec<usize>,
    by_queue: HashMap<usize, usize>,
}

impl Places {
    /// The queue's place in the call, from 1.
    pub(crate) fn of(&mut self, queue: usize) -> usize {
        *self.by_queue.entry(queue).or_insert_with(|| {
            self.queues.push(queue);
            self.queues.len()
        })
    }

    /// The queue at each place.
    pub(crate) fn queues(&self) -> &[usize] {
        &self.queues
    }
}
