//! The original supervisorctl, as Debian and pip have it, against a fleet: same words, same exit codes.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

#[allow(dead_code, unused_imports)]
#[path = "../e2e/support/mod.rs"]
mod support;

mod client;
mod daemon;
mod follow;
mod library;
mod moving;
mod reread;
mod schedules;
mod table;
