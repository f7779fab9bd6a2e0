//! Six verbs over the queue families, and the store of failed jobs.
//!
//! A [`driver::QueueDriver`] speaks to one connection for all queues ("lanes") that one process serves there, so that a
//! pool of eleven queues costs one command connection and one wake-up connection. The promises behind each verb are
//! written at the trait and held by `tests/contract`. Nothing here decides about retries: drivers act on verdicts.

pub mod driver;
pub mod error;
pub mod failed;
