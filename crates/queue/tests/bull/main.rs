//! Bull's queues on a real Redis, and beside real workers, listeners and producers of the library.
#![allow(clippy::unwrap_used)]

#[path = "../contract/mod.rs"]
#[allow(dead_code)]
mod contract;
mod dumps;
mod events;
mod fleet;
mod limits;
mod malformed;
mod order;
mod pausing;
#[path = "../node/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "../node/shared_fleet.rs"]
mod shared_fleet;
mod stalled;
#[path = "../node/story.rs"]
mod story;
