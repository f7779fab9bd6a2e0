//! Laravel's queues on a real Redis, and beside a real Laravel.
#![allow(clippy::unwrap_used)]

#[path = "../contract/mod.rs"]
mod contract;
mod promises;
mod rig;
