//! Tells the service manager how we are, when there is one.

use std::io;
use std::time::Duration;

use qfleet_model::time::Moment;
use qfleet_os::service::Service;
use serde::{Deserialize, Serialize};

/// While starting or draining takes its time, more of it is asked for this often, and this much.
const ASK_EVERY: Duration = Duration::from_secs(10);
const MORE: Duration = Duration::from_secs(30);

/// What was said, and when to say something next.
#[derive(Debug)]
pub(super) struct Telling {
    service: Service,
    status: String,
    /// The first start is over; reloading is said only from then on.
    is_ready: bool,
    next_alive: Option<Moment>,
    /// While the manager waits for the end of something.
    next_more: Option<Moment>,
}

/// It on its way to another program.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CarriedTelling {
    is_ready: bool,
    next_alive: Option<Moment>,
    next_more: Option<Moment>,
}

impl Telling {
    pub(super) fn new(service: Service, now: Moment) -> Self {
        let next_alive = service.watchdog_interval().map(|interval| now + interval);
        let next_more = service.is_supervised().then(|| now + ASK_EVERY);
        Self { service, status: String::new(), is_ready: false, next_alive, next_more }
    }

    /// What another program needs to go on with it.
    pub(super) fn carried(&self) -> CarriedTelling {
        CarriedTelling { is_ready: self.is_ready, next_alive: self.next_alive, next_more: self.next_more }
    }

    /// Goes on where another program was, and says that it is there.
    pub(super) fn resume(&mut self, carried: &CarriedTelling) {
        CarriedTelling { is_ready: self.is_ready, next_alive: self.next_alive, next_more: self.next_more } =
            *carried;
        self.reloaded();
        self.alive();
    }

    /// Says that we live, whether or not that is due: the other program may take a while to say it.
    pub(super) fn alive(&self) {
        if self.next_alive.is_some() {
            warn(self.service.alive());
        }
    }

    pub(super) fn ready(&mut self) {
        self.is_ready = true;
        self.next_more = None;
        warn(self.service.ready());
    }

    pub(super) fn reloading(&self, now: Moment) {
        if self.is_ready {
            warn(self.service.reloading(now));
        }
    }

    pub(super) fn reloaded(&self) {
        if self.is_ready {
            warn(self.service.ready());
        }
    }

    pub(super) fn stopping(&mut self, now: Moment) {
        if self.service.is_supervised() {
            self.next_more = Some(now);
        }
        self.is_ready = false;
        warn(self.service.stopping());
    }

    /// Says how many are up, when that has changed.
    pub(super) fn status(&mut self, (up, all): (usize, usize)) {
        if !self.service.is_supervised() {
            return;
        }
        let status = format!("{up} of {all} processes running");
        if status != self.status {
            warn(self.service.status(&status));
            self.status = status;
        }
    }

    /// Says what is due. To be called from the loop, so that it shows that the loop turns.
    pub(super) fn time_passed(&mut self, now: Moment) {
        if self.next_alive.is_some_and(|at| at <= now) {
            warn(self.service.alive());
            self.next_alive = self.service.watchdog_interval().map(|interval| now + interval);
        }
        if self.next_more.is_some_and(|at| at <= now) {
            warn(self.service.extend(MORE));
            self.next_more = Some(now + ASK_EVERY);
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.next_alive.into_iter().chain(self.next_more).min()
    }
}

/// Nothing of ours depends on the manager hearing us.
fn warn(said: io::Result<()>) {
    if let Err(error) = said {
        tracing::debug!("the service manager does not take messages: {error}");
    }
}
