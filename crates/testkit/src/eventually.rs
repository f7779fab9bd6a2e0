//! Waiting for a condition with a limit: what every test does instead of sleeping long enough.

use std::thread::sleep;
use std::time::{Duration, Instant};

const FIRST_STEP: Duration = Duration::from_millis(1);
const LONGEST_STEP: Duration = Duration::from_millis(20);

/// Asks `probe` again and again, with steps of 1 to 20 ms, until it gives a value, and returns that.
///
/// # Panics
/// When `limit` has passed; the message names `what` was awaited.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut step = FIRST_STEP;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        let waited = started.elapsed();
        assert!(waited < limit, "waited {waited:?} in vain for {what}");
        sleep(step.min(limit.saturating_sub(waited)));
        step = (step * 2).min(LONGEST_STEP);
    }
}
