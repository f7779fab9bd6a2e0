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
#[path = "../node/mod.rs"]
mod node;
mod order;
mod outages;
mod pausing;
mod presence;
#[path = "../laravel/proxy.rs"]
#[allow(dead_code)]
mod proxy;
mod repeating;
mod stalled;
mod wakeups;

use node::{rig, story};

/// What the shared tests run beside.
const LIBRARIES: &[&str] = &["bull"];
