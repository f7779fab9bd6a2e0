//! What somebody waits for now.

use tokio::sync::watch;

/// What the source should do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// The queues somebody waits for; `None` when nobody waits.
    pub(super) queues: Option<Vec<usize>>,
    /// Counts the waits.
    pub(super) number: u64,
    /// A new number asks for a new connection.
    pub(super) epoch: u64,
}

/// The wish as it changes.
#[derive(Debug, Default)]
pub(super) struct Wishes(watch::Sender<Wish>);

impl Wishes {
    /// Somebody waits, as long as the answer lives.
    pub(super) fn state(&self, queues: &[usize]) -> Stated<'_> {
        let mut number = 0;
        self.0.send_modify(|wish| {
            wish.queues = Some(queues.to_vec());
            wish.number += 1;
            number = wish.number;
        });
        Stated { wishes: self, number }
    }

    /// Asks for a new connection.
    pub(super) fn renew(&self) {
        self.0.send_modify(|wish| wish.epoch += 1);
    }

    /// For the source: hears of every change.
    pub(super) fn follow(&self) -> watch::Receiver<Wish> {
        self.0.subscribe()
    }
}

/// A wish that holds as long as somebody waits.
pub(super) struct Stated<'a> {
    wishes: &'a Wishes,
    number: u64,
}

impl Drop for Stated<'_> {
    fn drop(&mut self) {
        // A wait that was cancelled may end after the next one has begun.
        self.wishes.0.send_if_modified(|wish| {
            let last = wish.number == self.number;
            if last {
                wish.queues = None;
            }
            last
        });
    }
}
