//! Whether a store can be reached: one line when it cannot, one when it can again, and in between one call at a time.

use qfleet_model::time::Moment;
use qfleet_queue::error::QueueError;
use tracing::{info, warn};

use crate::prefetch::Known;
use crate::run::Worker;

impl Worker {
    /// The store did not answer last time: one call at a time, and the first one renews what is in hand.
    pub(crate) fn try_again(&mut self, at: usize, next_try: Moment, now: Moment) {
        let source = &mut self.sources[at];
        source.wait = None;
        if source.turn.is_some() || source.renewing.is_some() || source.probing {
            return;
        }
        if now < next_try {
            self.wake_at(next_try);
            return;
        }
        if !self.renew_everything(at) {
            self.sources[at].send_probe(at, &self.events);
        }
    }

    /// The store has taken a turn.
    pub(crate) fn store_answers(&mut self, at: usize, now: Moment) {
        let source = &mut self.sources[at];
        if let Some(lasted) = source.reach.answered(now) {
            let seconds = format!("{:.1}", lasted.as_secs_f64());
            info!(connection = source.name, "`{}` answers again after {seconds} s", source.shown);
            self.speaker.changed();
        }
    }

    /// The store has not answered, or says that it cannot work.
    pub(crate) fn store_fails(&mut self, at: usize, error: &QueueError, now: Moment) {
        let source = &mut self.sources[at];
        if source.reach.failed(error.to_string(), now, fastrand::f64()) {
            warn!(
                connection = source.name,
                "`{}` cannot be used, trying on until it can: {error}", source.shown
            );
            self.speaker.changed();
        }
    }

    /// A look whether the store is back.
    pub(crate) fn probed(&mut self, at: usize, answer: Result<(), QueueError>, now: Moment) {
        self.sources[at].probing = false;
        match answer {
            Ok(()) => {
                self.sources[at].reach.looks_well();
                for lane in self.sources[at].lanes.clone() {
                    self.lane_states[lane].note(Known::Unknown, now);
                }
            }
            Err(error) => self.store_fails(at, &error, now),
        }
    }
}
