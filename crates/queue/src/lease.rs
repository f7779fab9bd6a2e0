//! Until when a job is ours for certain, and whether a verdict on it went unanswered.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use qfleet_model::time::WallTime;

/// What is uncertain about a job in hand.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Its end as last confirmed, in milliseconds since 1970.
    until: AtomicI64,
    /// A verdict was sent, and no answer came back.
    unanswered: AtomicBool,
}

impl Lease {
    /// A job reserved until then.
    pub(crate) fn new(until: WallTime) -> Self {
        Self { until: AtomicI64::new(until.as_millis()), unanswered: AtomicBool::new(false) }
    }

    /// It now lasts until then.
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
    /// A job leaves us by our verdict, or when its lease has ended and somebody else takes it. Before that end only the
    /// first is possible.
    pub(crate) fn must_have_taken_effect(&self, sent_before: bool, now: WallTime) -> bool {
        sent_before && now.as_millis() < self.until.load(Ordering::Relaxed)
    }
}
