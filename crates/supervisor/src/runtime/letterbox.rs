//! Where threads outside the loop leave what they have found out, until the loop looks.
//!
//! It holds the newest observation of each subject, so it is as large as there are subjects, however fast somebody
//! writes. Nobody waits at it for longer than a look into a map takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qfleet_model::observation::{Observation, Subject};
use tokio::sync::Notify;

/// Shared by everybody who observes, and the loop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Letterbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<BTreeMap<Subject, Observation>>,
    filled: Notify,
}

impl Letterbox {
    /// Leaves an observation; it takes the place of an earlier one of its subject.
    pub(crate) fn put(&self, observation: Observation) {
        self.waiting().insert(observation.subject(), observation);
        self.0.filled.notify_one();
    }

    /// All there is, each subject once.
    pub(super) fn take(&self) -> impl Iterator<Item = Observation> + use<> {
        std::mem::take(&mut *self.waiting()).into_values()
    }

    /// Waits until something was put in since the last wait.
    pub(super) async fn filled(&self) {
        self.0.filled.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Subject, Observation>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use qfleet_model::scale::Backlog;

    use super::*;

    #[test]
    fn a_newer_observation_takes_the_place_of_an_older_one() {
        let letterbox = Letterbox::default();
        let found = |group: &str, waiting| Observation::Backlog {
            group: group.to_owned(),
            found: Ok(Backlog { waiting, ..Backlog::default() }),
        };
        for waiting in 0..1_000 {
            letterbox.put(found("mail", waiting));
        }
        letterbox.put(found("audio", 1));
        let taken: Vec<_> = letterbox.take().collect();
        assert_eq!(taken, [found("audio", 1), found("mail", 999)]);
        assert_eq!(letterbox.take().count(), 0);
    }
}
