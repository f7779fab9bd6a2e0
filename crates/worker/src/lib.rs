//! Runs jobs: slots, leases, timeouts, drain, and the handlers.
//!
//! A worker process serves one queue or a pool of them. Its loop takes jobs when there is room, starts an attempt for
//! each, and settles what was decided in the same call that takes more. Beside it the lease keeper renews everything in
//! hand. The ledger on disk says at every instant what is in hand, so that a worker's death costs nobody a job.
//!
//! One thread, one loop: stores and handlers are spoken to by tasks, which report as events; the loop decides and never
//! waits. Rules are pure and in files of their own.
//!
//! | File | What it owns |
//! | --- | --- |
//! | `begin` | the beginning: predecessors, opening everything, ready |
//! | `run` | the loop, and what a worker is |
//! | `take`, `sleep`, `settle` | turns: jobs in, waiting for jobs, verdicts out |
//! | `attempt`, `delivery`, `bury` | one job from the stock to its verdict |
//! | `lease`, `contact` | renewals; stores that are away |
//! | `remarks` | what handlers say while they run, to the store |
//! | `leave`, `report` | the end; what the daemon is told |
//! | `slots`, `source`, `lanes` | jobs in hand; a connection and what is under way there; queues with their handlers |
//! | `hold` | the ledger, and recovery from it |
//! | `prefetch`, `drain`, `outage`, `wakes`, `recycle`, [`gate`] | rules, pure |
//! | [`handler`] | who does the work |

mod attempt;
mod begin;
mod bury;
mod contact;
mod delivery;
mod drain;
pub mod gate;
pub mod handler;
mod hold;
mod lanes;
mod lease;
mod leave;
mod outage;
mod prefetch;
mod recycle;
mod remarks;
mod report;
mod run;
mod settle;
mod sleep;
mod slots;
mod source;
mod take;
mod wakes;

pub use begin::{Link, RecoverySettings, recover, run};
