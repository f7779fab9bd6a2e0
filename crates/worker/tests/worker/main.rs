//! The behaviour of worker processes, with real Redis servers, real children and a real far end. One file a behaviour.
//!
//! Every worker is a process of its own: this test binary, started again to play the worker (see `stage`).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod drain;
mod gates;
mod jobs;
mod kills;
mod leases;
mod measure;
mod node;
mod outage;
mod pools;
mod predecessors;
mod recycle;
mod retries;
mod shapes;
mod slots;
mod stage;
