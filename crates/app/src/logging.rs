//! Our own log lines: to standard error, as text or JSON, at the level the manifest says.
//!
//! The daemon keeps the last of its own lines in memory, too, for whoever asks for them over its socket.
//!
//! Children's output does not pass here; the supervisor writes that itself. Workers write their lines to standard error
//! too, always as text; the daemon reads them there and wraps them as it was told.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use qfleet_manifest::settings::{Level, LogFormat};
use qfleet_model::words::counted;
use qfleet_os::descriptors::write_all;
use qfleet_supervisor::OwnLog;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Names the filter, such as `info,qfleet_worker=debug`; set by people, and by the daemon for its workers.
pub(crate) const FILTER: &str = "QFLEET_LOG";

/// Bytes of the daemon's own lines that may wait for a reader.
const LIMIT: usize = 256 * 1024;

/// How long the end of the daemon waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Starts logging for a child; a filter in the environment wins over `level`.
pub(crate) fn start(format: LogFormat, level: Level) {
    // A worker that has outlived its daemon has nobody to read its lines, and must finish its jobs all the same.
    let _never_changed = start_on(format, level, io::stderr);
}

/// Starts logging for the daemon: as [`start`], but whoever logs does not wait for whoever reads. Lines are written by a
/// thread, and dropped and counted when nobody reads them.
///
/// # Errors
/// No thread could be started, or standard error is closed.
pub(crate) fn start_apart(format: LogFormat, level: Level) -> io::Result<Apart> {
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let lines = Lines::default();
    let (read, written) = (lines.clone(), lines.clone());
    thread::Builder::new().name("log".to_owned()).spawn(move || read.write_to(stderr))?;
    let change_filter = start_on(format, level, move || written.clone());
    Ok(Apart { lines, change_filter })
}

/// Puts another filter in place of the one the log began with.
type ChangeFilter = Box<dyn Fn(EnvFilter)>;

fn start_on<W>(format: LogFormat, level: Level, writer: W) -> ChangeFilter
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(writer)
        .with_target(false)
        .log_internal_errors(false);
    // A second start within one process keeps the first, and a filter that cannot be changed stays: nothing is lost by that.
    match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::stderr().is_terminal()).with_filter_reloading();
            let handle = lines.reload_handle();
            drop(lines.try_init());
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            let handle = lines.reload_handle();
            drop(lines.try_init());
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    }
}

/// What is logged: as the environment says, else at this level.
fn filter(level: Level) -> EnvFilter {
    EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(word(level)))
}

/// The daemon's log. Dropping it waits for the last lines to be written, but not for ever.
pub(crate) struct Apart {
    lines: Lines,
    change_filter: ChangeFilter,
}

impl Apart {
    /// Logs at another level from now on, unless the environment says which lines are wanted.
    pub(crate) fn set_level(&self, level: Level) {
        (self.change_filter)(filter(level));
    }

    /// Waits for the lines so far to be written, but not for ever.
    pub(crate) fn flush(&self) {
        self.lines.wait_until_written(LAST_LINES);
    }

    /// The last lines, for whoever asks for them.
    pub(crate) fn kept(&self) -> OwnLog {
        self.lines.kept.clone()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.lines.wait_until_written(LAST_LINES);
    }
}

/// Lines on their way to the thread that writes them; clones are the same.
#[derive(Debug, Clone, Default)]
struct Lines {
    shared: Arc<(Mutex<Waiting>, Condvar)>,
    kept: OwnLog,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    /// Lines that had no room since the writer looked last.
    lost: u64,
    /// What was taken has not been written yet.
    writing: bool,
}

impl Lines {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut stderr: File) {
        let mut waiting = self.waiting();
        loop {
            while waiting.text.is_empty() {
                waiting = self.shared.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let (text, lost) = (mem::take(&mut waiting.text), mem::take(&mut waiting.lost));
            waiting.writing = true;
            drop(waiting);
            // Where standard error is closed there is nobody to tell.
            let _closed = write_all(&mut stderr, &text);
            waiting = self.waiting();
            waiting.writing = false;
            self.shared.1.notify_all();
            if lost > 0 {
                drop(waiting);
                let lost = counted(lost, "line of our own was", "lines of our own were");
                tracing::warn!("{lost} dropped because standard error was blocked");
                waiting = self.waiting();
            }
        }
    }

    fn wait_until_written(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut waiting = self.waiting();
        while waiting.writing || !waiting.text.is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            waiting = self.shared.1.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for Lines {
    /// Takes a whole line. Never waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.kept.write(&without_colours(line));
        let mut waiting = self.waiting();
        if waiting.text.len() + line.len() > LIMIT && !waiting.text.is_empty() {
            waiting.lost += 1;
        } else {
            waiting.text.extend_from_slice(line);
            self.shared.1.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line as it looks where there are no colours.
fn without_colours(line: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.windows(2).position(|two| two == b"\x1b[") {
        plain.extend_from_slice(&rest[..at]);
        let sequence = &rest[at + 2..];
        let end = sequence.iter().position(u8::is_ascii_alphabetic).map_or(sequence.len(), |end| end + 1);
        rest = &sequence[end..];
    }
    plain.extend_from_slice(rest);
    plain
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

#[cfg(test)]
mod tests {
    use super::without_colours;

    #[test]
    fn colours_are_taken_out_of_kept_lines() {
        for (line, expected) in [
            ("plain\n", "plain\n"),
            ("\x1b[2m2026\x1b[0m \x1b[32m INFO\x1b[0m x\n", "2026  INFO x\n"),
            ("cut \x1b[3", "cut "),
            ("\x1b", "\x1b"),
        ] {
            assert_eq!(without_colours(line.as_bytes()), expected.as_bytes(), "{line:?}");
        }
    }
}
