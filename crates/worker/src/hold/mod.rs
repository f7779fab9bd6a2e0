//! What a worker process has in hand, written where it survives the process.
//!
//! [`ledger`] is the layout and the order of its stores, [`recover`] what is done with the ledger of a dead worker.

pub(crate) mod groups;
pub(crate) mod ledger;
pub(crate) mod recover;
