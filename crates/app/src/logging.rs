//! Our own log lines: to standard error, as text or JSON, at the level the manifest says.
//!
//! Children's output does not pass here; the supervisor writes that itself.

use qfleet_manifest::settings::{Level, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging for this process; `QFLEET_LOG` (a filter such as `info,qfleet_worker=debug`) wins over `level`.
pub(crate) fn start(format: LogFormat, level: Level) {
    let default = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = EnvFilter::try_from_env("QFLEET_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // A second start within one process keeps the first: there is nothing to lose by that.
    drop(started);
}
