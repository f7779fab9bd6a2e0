//! What the fleet makes of what others have found out.

use qfleet_model::observation::Observation;

use super::{Fleet, Now};

impl Fleet {
    pub(super) fn observed(&mut self, observation: &Observation, _now: Now) {
        match observation {
            // No group follows its backlog yet.
            Observation::Backlog { .. } => {}
        }
    }
}
