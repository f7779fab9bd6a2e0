//! What the driver knows of a job in hand, and what is uncertain about it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qfleet_model::time::WallTime;
use ring::digest::{SHA256, digest};

/// Inside of a receipt.
#[derive(Debug)]
pub(crate) struct Held {
    /// Which queue, among all of the driver's.
    pub(crate) queue: usize,
    /// The job's id.
    pub(crate) id: String,
    /// What locks it.
    pub(crate) token: String,
    /// What its hash says of its starts, with ours. Nobody else starts it without changing this.
    pub(crate) proof: String,
    /// Something is noted beside it, to be removed with it.
    pub(crate) noted: bool,
    /// When it was taken.
    pub(crate) taken: WallTime,
    /// What the job says of the pause after this attempt, should it turn out that it cannot be completed yet.
    pub(crate) pause: Duration,
    /// End of the lock as last confirmed, in milliseconds since 1970.
    until: AtomicI64,
    /// A verdict was sent, and no answer came back.
    unanswered: AtomicBool,
}

impl Held {
    /// A job locked until then.
    pub(crate) fn new(
        queue: usize,
        id: String,
        token: String,
        proof: String,
        noted: bool,
        taken: WallTime,
        until: WallTime,
    ) -> Self {
        let (until, unanswered) = (AtomicI64::new(until.as_millis()), AtomicBool::new(false));
        Self { queue, id, token, proof, noted, taken, pause: Duration::ZERO, until, unanswered }
    }

    /// With the job's own pause after this attempt.
    pub(crate) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// The lock now lasts until then.
    pub(crate) fn renewed(&self, until: WallTime) {
        self.until.store(until.as_millis(), Ordering::Relaxed);
    }

    /// A verdict is about to be sent.
    pub(crate) fn sending(&self) {
        self.unanswered.store(true, Ordering::Relaxed);
    }

    /// The verdict sent last was answered.
    pub(crate) fn answered(&self) {
        self.unanswered.store(false, Ordering::Relaxed);
    }

    /// A verdict was sent before, and no answer came.
    pub(crate) fn sent_before(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Whether a verdict that finds the job not ours can only have taken effect at an earlier, unanswered try.
    ///
    /// A job leaves us by our verdict, or when its lock has ended and a check finds it stalled. Before the lock's end
    /// only the first is possible.
    pub(crate) fn must_have_taken_effect(&self, sent_before: bool, now: WallTime) -> bool {
        sent_before && now.as_millis() < self.until.load(Ordering::Relaxed)
    }
}

/// First half of SHA-256 over a job's id.
pub(crate) fn digest_of(id: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest(&SHA256, id.as_bytes()).as_ref()[..16]);
    half
}

/// Names of all jobs in hand, so that a search for lost ones does not find those. A job that was given back and taken
/// once more is another one, by its token.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<HashSet<(usize, [u8; 16], String)>>);

impl InHand {
    /// Notes a job.
    pub(crate) fn add(&self, held: &Held, digest: [u8; 16]) {
        self.lock().insert((held.queue, digest, held.token.clone()));
    }

    /// Forgets a job that was settled or lost.
    pub(crate) fn remove(&self, held: &Held, digest: [u8; 16]) {
        self.lock().remove(&(held.queue, digest, held.token.clone()));
    }

    /// Whether this job is in hand.
    pub(crate) fn has(&self, queue: usize, digest: [u8; 16], token: &str) -> bool {
        self.lock().contains(&(queue, digest, token.to_owned()))
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(usize, [u8; 16], String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
