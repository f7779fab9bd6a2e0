//! Bull's queues on a real Redis, and beside real workers, listeners and producers of the library.
#![allow(clippy::unwrap_used)]

mod administering;
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
mod presence;
mod promises;
#[path = "../laravel/proxy.rs"]
#[allow(dead_code)]
mod proxy;
mod repeating;
#[path = "../node/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "../node/shared_fleet.rs"]
mod shared_fleet;
#[path = "../node/shared_outages.rs"]
mod shared_outages;
#[path = "../node/presence.rs"]
mod shared_presence;
mod stalled;
#[path = "../node/story.rs"]
mod story;
mod wakeups;
