//! Our own log lines: to standard error, as text or JSON, at the level the manifest says.
//!
//! Children's output does not pass here; the supervisor writes that itself. Workers write their lines to standard error
//! too, always as text; the daemon reads them there and wraps them as it was told.

use qfleet_manifest::settings::{Level, LogFormat};
use tracing_subscriber::EnvFilter;

/// Names the filter, such as `info,qfleet_worker=debug`; set by people, and by the daemon for its workers.
pub(crate) const FILTER: &str = "QFLEET_LOG";

/// Starts logging for this process; a filter in the environment wins over `level`.
pub(crate) fn start(format: LogFormat, level: Level) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(word(level)));
    // A worker that has outlived its daemon has nobody to read its lines, and must finish its jobs all the same.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A second start within one process keeps the first: there is nothing to lose by that.
    drop(started);
}

/// The level as a filter.
pub(crate) const fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}
