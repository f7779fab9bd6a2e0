//! The places that connections have, as many as there may be at once.
//!
//! Whoever has not yet said what he wants keeps his place only until somebody else needs it, the oldest first: connections
//! that are opened and say nothing, however many, keep nobody from the fleet. Whoever has sent the head of a request is not
//! touched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// All places.
#[derive(Debug)]
pub(crate) struct Room {
    free: Arc<Semaphore>,
    /// Who has said nothing yet, in the order in which they came, and how to have them leave.
    silent: Mutex<BTreeMap<u64, Arc<Notify>>>,
    came: AtomicU64,
}

impl Room {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(places)),
            silent: Mutex::default(),
            came: AtomicU64::new(0),
        })
    }

    /// Lets somebody in, and another one out for it if that is necessary; `None`: all who are here have said what they want.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Guest> {
        let place = Arc::clone(&self.free).try_acquire_owned().ok();
        let mut silent = self.silent();
        if place.is_none() {
            silent.pop_first()?.1.notify_one();
        }
        let number = self.came.fetch_add(1, Ordering::Relaxed);
        let leave = Arc::new(Notify::new());
        silent.insert(number, leave.clone());
        Some(Guest { room: self.clone(), place, number, leave, has_spoken: AtomicBool::new(false) })
    }

    fn silent(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody with a place, until he is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    room: Arc<Room>,
    place: Option<OwnedSemaphorePermit>,
    number: u64,
    leave: Arc<Notify>,
    has_spoken: AtomicBool,
}

impl Guest {
    /// Waits until the place is free, which whoever was sent away for it leaves at once.
    pub(crate) async fn sit(&mut self) {
        if self.place.is_none() {
            // Nobody closes it.
            self.place = Arc::clone(&self.room.free).acquire_owned().await.ok();
        }
    }

    /// He has said what he wants, and keeps his place. Not if he was sent away just before: then he is not answered.
    pub(crate) fn speak(&self) -> bool {
        let stays = self.has_spoken() || self.room.silent().remove(&self.number).is_some();
        self.has_spoken.store(stays, Ordering::Relaxed);
        stays
    }

    /// Whether he has said what he wants.
    pub(crate) fn has_spoken(&self) -> bool {
        self.has_spoken.load(Ordering::Relaxed)
    }

    /// Waits until somebody else needs the place.
    pub(crate) async fn sent_away(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.room.silent().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_oldest_of_the_silent_leaves_and_nobody_who_has_spoken() {
        let room = Room::new(3);
        let [first, second, third] = [(); 3].map(|()| room.enter().unwrap());
        assert!(first.speak());
        let mut fourth = room.enter().unwrap();
        second.sent_away().await;
        assert!(!second.speak() && !second.has_spoken(), "too late");
        drop(second);
        fourth.sit().await;
        assert!(third.speak() && fourth.speak() && fourth.speak());
        assert!(room.enter().is_none(), "all have spoken");
        drop(third);
        assert!(room.enter().is_some());
        assert!(room.silent().is_empty());
    }
}
