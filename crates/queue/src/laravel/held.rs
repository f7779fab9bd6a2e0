//! What the driver knows of a job in hand: the exact reserved bytes, how to undo the counter, and what is uncertain.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use qfleet_model::time::WallTime;
use ring::digest::{SHA256, digest};

use super::splice;
use crate::lease::Lease;

/// Inside of a receipt.
#[derive(Debug)]
pub(crate) struct Held {
    /// Which queue, among all of the driver's.
    pub(crate) queue: usize,
    /// Member of the reserved set, byte for byte.
    pub(crate) reserved: Vec<u8>,
    /// How to get the ready bytes back; none for an unreadable payload, which was reserved as it was.
    pub(crate) undo: Option<Undo>,
    /// Names the job's counters; empty when it has no name.
    pub(crate) identity: String,
    /// Deliveries before this one.
    pub(crate) deliveries: u32,
    /// When it was taken.
    pub(crate) taken: WallTime,
    /// It has counters beside it, to be removed with it.
    pub(crate) remembered: bool,
    /// Why it cannot be read.
    pub(crate) unreadable: Option<String>,
    /// Its reservation, as last confirmed.
    pub(crate) lease: Lease,
}

/// The counter as it stands in the reserved bytes, and the digits that stood there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undo {
    pub(crate) at: usize,
    pub(crate) len: usize,
    pub(crate) digits: String,
}

/// What a new [`Held`] starts from.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) queue: usize,
    pub(crate) reserved: Vec<u8>,
    pub(crate) undo: Option<Undo>,
    pub(crate) identity: String,
    pub(crate) deliveries: u32,
    pub(crate) remembered: bool,
    pub(crate) unreadable: Option<String>,
}

impl Held {
    /// A job just taken, reserved until the score says.
    pub(crate) fn new(found: Found, taken: WallTime, until: f64) -> Self {
        Self {
            queue: found.queue,
            reserved: found.reserved,
            undo: found.undo,
            identity: found.identity,
            deliveries: found.deliveries,
            taken,
            remembered: found.remembered,
            unreadable: found.unreadable,
            lease: Lease::new(lease_end(until)),
        }
    }

    /// Names the reserved bytes.
    pub(crate) fn digest(&self) -> [u8; 16] {
        digest_of(&self.reserved)
    }

    /// The bytes as they lay in the ready list.
    pub(crate) fn ready(&self) -> Cow<'_, [u8]> {
        match &self.undo {
            Some(undo) => Cow::Owned(splice::splice(&self.reserved, undo.at, undo.len, &undo.digits)),
            None => Cow::Borrowed(&self.reserved),
        }
    }
}

/// The date that the score of a reservation stands for, not later.
pub(crate) fn lease_end(score: f64) -> WallTime {
    // Seconds of our own century.
    WallTime::from_millis((score * 1000.0) as i64)
}

/// First half of SHA-256 over reserved bytes.
pub(crate) fn digest_of(reserved: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest(&SHA256, reserved).as_ref()[..16]);
    half
}

/// Reserved bytes and how to undo them, from the ready bytes and where the script found their counter.
pub(crate) fn raise(ready: &[u8], at: usize, len: usize, raised: &str) -> (Vec<u8>, Undo) {
    let digits = String::from_utf8_lossy(ready.get(at..at + len).unwrap_or_default()).into_owned();
    (splice::splice(ready, at, len, raised), Undo { at, len: raised.len(), digits })
}

/// The ready bytes behind reserved bytes, when only those are known. Raising and lowering are exact opposites.
pub(crate) fn lower(reserved: &[u8]) -> Option<(Vec<u8>, Undo)> {
    let counter = splice::counter(reserved)?;
    let digits = counter.value.checked_sub(1)?.to_string();
    let ready = splice::splice(reserved, counter.at, counter.len, &digits);
    Some((ready, Undo { at: counter.at, len: counter.len, digits }))
}

/// Names of all jobs in hand, so that a search for lost ones does not find those.
#[derive(Debug, Default)]
pub(crate) struct InHand(Mutex<HashSet<(usize, [u8; 16])>>);

impl InHand {
    /// Notes a job; false when it is in hand already.
    pub(crate) fn add(&self, held: &Held, digest: [u8; 16]) -> bool {
        self.lock().insert((held.queue, digest))
    }

    /// Forgets a job that was settled or lost.
    pub(crate) fn remove(&self, held: &Held, digest: [u8; 16]) {
        self.lock().remove(&(held.queue, digest));
    }

    /// Whether this job is in hand.
    pub(crate) fn has(&self, queue: usize, digest: [u8; 16]) -> bool {
        self.lock().contains(&(queue, digest))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<(usize, [u8; 16])>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
