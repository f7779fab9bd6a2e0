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
#[path = "../node/mod.rs"]
mod node;
mod outages;
mod pausing;
mod places;
mod presence;
#[path = "../laravel/proxy.rs"]
#[allow(dead_code)]
mod proxy;
mod schedules;
mod stalled;

use node::{rig, story};

/// What the shared tests run beside.
const LIBRARIES: &[&str] = &["bullmq", "bullmq6"];
