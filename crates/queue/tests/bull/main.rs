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
mod outages;
mod pausing;
#[path = "../laravel/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "../node/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "../node/shared_fleet.rs"]
mod shared_fleet;
#[path = "../node/shared_outages.rs"]
mod shared_outages;
mod stalled;
#[path = "../node/story.rs"]
mod story;
