//! The one clock of this crate: dates as they are written to a store.

use std::time::{SystemTime, UNIX_EPOCH};

use qfleet_model::time::WallTime;

/// The date by this machine's clock.
pub(crate) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
