//! Being seen: idle connections whose names the libraries look for.
//!
//! `getWorkers()` finds workers by the names of connections, and a connection has one name. A process of one queue gives
//! its wake-up connection that name; one of several queues may open a connection more for each.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::redis::{Address, Ear};

/// Between two attempts at first; twice as long after each that did not last.
const PAUSE: Duration = Duration::from_millis(500);
/// No pause is longer, and a connection that lasted this long was a good one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The connections; dropping it closes them.
#[derive(Debug)]
pub(crate) struct Presence {
    address: Address,
    /// Of connections that are yet to be opened.
    names: Mutex<Vec<String>>,
    open: Mutex<JoinSet<()>>,
}

impl Presence {
    /// Opens nothing yet.
    pub(crate) fn new(address: Address, names: Vec<String>) -> Self {
        Self { address, names: Mutex::new(names), open: Mutex::default() }
    }

    /// From now on we are seen, as far as the server can be reached.
    pub(crate) fn show(&self) {
        let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
        for name in names {
            let stay = stay(self.address.clone(), name);
            self.open.lock().unwrap_or_else(PoisonError::into_inner).spawn(stay);
        }
    }
}

/// Keeps one connection open, for ever.
async fn stay(address: Address, name: String) {
    let mut pause = PAUSE;
    loop {
        let opened = Instant::now();
        // A server that cannot be reached is the business of those who work.
        if let Ok(mut ear) = Ear::open(&address, Some(&name)).await {
            while ear.next().await.is_some() {}
        }
        if opened.elapsed() >= LONGEST_PAUSE {
            pause = PAUSE;
        }
        // Spread, so that not all come at once to a server that has just started.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
