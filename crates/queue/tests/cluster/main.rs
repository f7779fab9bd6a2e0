//! Every family on a real cluster: the same promises, while slots move from node to node and masters die.
#![allow(clippy::unwrap_used)]

#[path = "../contract/mod.rs"]
#[allow(dead_code)]
mod contract;
mod failed;
mod failover;
mod finding;
mod moving;
mod promises;
mod rig;
