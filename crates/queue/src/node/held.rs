//! What the driver knows of a job in hand, and what is uncertain about it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use qfleet_model::time::WallTime;
use ring::digest::{SHA256, digest};

use crate::lease::Lease;

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
    /// Its lock, as last confirmed.
    pub(crate) lease: Lease,
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
        Self { queue, id, token, proof, noted, taken, pause: Duration::ZERO, lease: Lease::new(until) }
    }

    /// With the job's own pause after this attempt.
    pub(crate) fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
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
