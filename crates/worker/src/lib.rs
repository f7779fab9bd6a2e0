//! Runs jobs: slots, leases, timeouts, drain, and the handlers.
//!
//! A worker process serves one queue or a pool of them. Its loop takes jobs when there is room, starts an attempt for
//! each, and settles what was decided in the same call that takes more. Beside it the lease keeper renews everything in
//! hand. The ledger on disk says at every instant what is in hand, so that a worker's death costs nobody a job.

mod attempt;
mod begin;
mod bury;
mod drain;
pub mod gate;
pub mod handler;
mod hold;
mod lanes;
mod lease;
mod leave;
mod node_settings;
mod outage;
mod prefetch;
mod recycle;
mod report;
mod run;
mod slots;
mod source;
mod take;

pub use begin::{Link, RecoverySettings, recover, run};
