//! Runs jobs: slots, leases, timeouts, drain, and the handlers.
//!
//! A worker process serves one queue or a pool of them. Its loop takes jobs when there is room, starts an attempt for
//! each, and settles what was decided in the same call that takes more. Beside it the lease keeper renews everything in
//! hand. The ledger on disk says at every instant what is in hand, so that a worker's death costs nobody a job.

mod drain;
pub mod gate;
pub mod handler;
mod hold;
mod lanes;
mod outage;
mod prefetch;
mod recycle;
mod slots;
