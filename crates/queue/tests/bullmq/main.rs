//! BullMQ's queues on a real Redis, and beside real workers, listeners and producers of the library.
#![allow(clippy::unwrap_used)]

#[path = "../contract/mod.rs"]
#[allow(dead_code)]
mod contract;
mod damage;
mod dumps;
mod failed;
mod fleet;
mod flows;
mod limits;
mod outages;
mod pausing;
mod places;
mod presence;
mod promises;
#[path = "../laravel/proxy.rs"]
#[allow(dead_code)]
mod proxy;
#[path = "../node/rig.rs"]
#[allow(dead_code)]
mod rig;
mod schedules;
#[path = "../node/shared_fleet.rs"]
mod shared_fleet;
#[path = "../node/shared_outages.rs"]
mod shared_outages;
#[path = "../node/presence.rs"]
mod shared_presence;
mod stalled;
#[path = "../node/story.rs"]
mod story;
