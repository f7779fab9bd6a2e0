//! What the tests of both of Node's libraries share: their rig, and what is promised beside either. Both bring along the
//! list of their `LIBRARIES`, the first of which is the usual one.

pub(crate) mod dumps;
pub(crate) mod fleet;
pub(crate) mod keeping;
pub(crate) mod outages;
pub(crate) mod presence;
pub(crate) mod promises;
#[allow(dead_code)]
pub(crate) mod rig;
pub(crate) mod schedules;
pub(crate) mod stalled;
pub(crate) mod story;
pub(crate) mod verdicts;
