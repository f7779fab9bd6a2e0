//! The part of a schedule's child on several hosts: before the command is executed, finds out whether another host has
//! this date.
//!
//! A date nobody knows about is not run: an outage of Redis leaves dates out, and never doubles one.

use std::time::Duration;

use qfleet_manifest::queue::RedisSettings;
use qfleet_model::link::FromChild;
use qfleet_queue::agree;

/// Whether this host is the first that wants this date.
///
/// # Errors
/// In words, why that is not known.
pub(crate) fn is_ours(settings: serde_json::Value, key: &str, agreed_for: Duration) -> Result<bool, String> {
    let redis: RedisSettings =
        serde_json::from_value(settings).map_err(|error| format!("unreadable settings: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let first = runtime.block_on(agree::is_first(&redis, key, &holder(), agreed_for));
    // A thread that still looks up a name must not hold the command up.
    runtime.shutdown_background();
    first.map_err(|error| error.to_string())
}

/// How it is told that it is not known.
pub(crate) fn not_known(error: String) -> FromChild {
    let step = String::from("find out whether another host has this date");
    FromChild::Failed { step, errno: None, error }
}

/// A name that nobody else has, and that tells people where to look.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}:{:016x}", host.trim(), std::process::id(), fastrand::u64(..))
}
