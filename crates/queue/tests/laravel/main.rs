//! Laravel's queues on a real Redis, and beside a real Laravel.
#![allow(clippy::unwrap_used)]

#[path = "../contract/mod.rs"]
mod contract;
mod damage;
mod failed;
mod limits;
mod outages;
mod payloads;
mod peers;
mod prefix;
mod promises;
mod proxy;
mod reaching;
mod rig;
mod spoilt;
mod wakeups;
