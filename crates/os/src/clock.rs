//! The two clocks. Logic uses [`now`], which never jumps; [`wall`] is for dates that are stored or shown.

use std::time::{SystemTime, UNIX_EPOCH};

use qfleet_model::time::{Moment, WallTime};

use crate::raw;

/// The monotonic clock. Stands still while the machine sleeps.
#[must_use]
pub fn now() -> Moment {
    Moment::from_nanos(u64::try_from(raw::monotonic().as_nanos()).unwrap_or(u64::MAX))
}

/// Today's date and time.
#[must_use]
pub fn wall() -> WallTime {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    WallTime::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
