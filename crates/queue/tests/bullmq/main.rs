//! BullMQ's queues on a real Redis, and beside real workers, listeners and producers of the library.
#![allow(clippy::unwrap_used)]

#[path = "../contract/mod.rs"]
#[allow(dead_code)]
mod contract;
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
mod rig;
mod schedules;
mod stalled;
