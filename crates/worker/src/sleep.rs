//! Sleeping in the store: when nothing is to be had and there is room, until one of the lanes may have a job.

use std::collections::BTreeSet;

use qfleet_model::time::Moment;
use qfleet_queue::driver::Waited;
use qfleet_queue::error::QueueError;
use tracing::{debug, warn};

use crate::prefetch::Known;
use crate::run::Worker;
use crate::take::SHORTEST_WAIT;

impl Worker {
    /// Begins a wait when there is room and nothing to ask for, ends one that is for other lanes.
    pub(crate) fn wait_if_idle(&mut self, at: usize, now: Moment) {
        if self.sources[at].turn.as_ref().is_some_and(|turn| !turn.asks.is_empty()) {
            // Its answer says whether there is something to wait for.
            return;
        }
        let lanes = self.lanes_with_room(at, now);
        self.sources[at].wait.take_if(|wait| wait.lanes != lanes);
        let asked = lanes.iter().all(|lane| self.known(at, *lane, now) == Known::Empty);
        let source = &mut self.sources[at];
        if lanes.is_empty() || !asked || source.wait.is_some() {
            return;
        }
        if let Some(quiet) = source.wakes.quiet_until(now) {
            self.wake_at(quiet);
            return;
        }
        let sleep = self.settings.sleep;
        let at_most = source.next_due.map_or(sleep, |due| due.since(now).min(sleep)).max(SHORTEST_WAIT);
        source.begin_wait(at, lanes, at_most, &self.events);
    }

    /// The lanes that could start a job now.
    fn lanes_with_room(&mut self, at: usize, now: Moment) -> BTreeSet<usize> {
        // What turns of other connections may bring will be known soon, and most bring nothing: no wait is given up for
        // that, since the next one takes another look first.
        if self.room_beside(0, 0) == 0 {
            return BTreeSet::new();
        }
        let lanes = self.sources[at].lanes.clone();
        lanes.into_iter().filter(|lane| self.lane_room(*lane, 0, now) > 0).collect()
    }

    /// A wait has ended: whatever was empty may have something now.
    pub(crate) fn waited(&mut self, at: usize, number: u64, answer: Result<Waited, QueueError>, now: Moment) {
        if !self.sources[at].wait_ended(number, answer.as_ref().ok().copied(), now, fastrand::f64()) {
            return;
        }
        for lane in self.sources[at].lanes.clone() {
            if self.known(at, lane, now) == Known::Empty {
                self.lane_states[lane].note(Known::Unknown, now);
            }
        }
        if let Err(error) = answer {
            let source = &self.sources[at];
            match source.wakes.failures() {
                // The turn that follows tells whether it is an outage.
                1 => debug!(connection = source.name, "cannot sleep in `{}`: {error}", source.shown),
                3 => {
                    warn!(
                        connection = source.name,
                        "cannot sleep in `{}`, looking every few seconds: {error}", source.shown
                    );
                }
                _ => {}
            }
        }
    }
}
