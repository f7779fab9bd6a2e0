//! Settings of the daemon itself: `control` and `logging`.

use std::path::PathBuf;

use crate::keys;
use crate::settings::{Control, Level, LogFormat, Logging};
use crate::value::Value;

/// Longer paths do not fit in the address of a socket.
const LONGEST_SOCKET: usize = 107;

pub(crate) fn default_control() -> Control {
    Control { socket: None, mode: 0o700, group: None }
}

pub(crate) fn default_logging() -> Logging {
    Logging { format: LogFormat::Text, level: Level::Info, dir: None, max_size: 50 << 20, keep: 10 }
}

pub(crate) fn read_control(value: &Value<'_>) -> Option<Control> {
    let section = value.section(&keys::CONTROL)?;
    let base = default_control();
    Some(Control {
        socket: section.read("socket", read_socket),
        mode: section.read("mode", read_mode).unwrap_or(base.mode),
        group: section.read("group", Value::line),
    })
}

fn read_mode(value: &Value<'_>) -> Option<u32> {
    let mode = value.mode()?;
    if mode > 0o777 {
        value.problem("a mode has three octal digits, like \"0660\"");
        return None;
    }
    if mode & 0o002 != 0 {
        value.warn(
            "everybody on this machine can steer the fleet",
            "give it to a group: `mode: \"0660\"`, `group: …`",
        );
    }
    Some(mode)
}

pub(crate) fn read_socket(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.absolute_path()?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        value.problem(format!(
            "must have at most {LONGEST_SOCKET} characters: sockets have no longer addresses"
        ));
        return None;
    }
    Some(path)
}

pub(crate) fn read_logging(value: &Value<'_>) -> Option<Logging> {
    let section = value.section(&keys::LOGGING)?;
    let base = default_logging();
    let levels = [
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
    Some(Logging {
        format: section
            .read("format", |value| value.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)], &[]))
            .unwrap_or(base.format),
        level: section.read("level", |value| value.word(&levels, &[])).unwrap_or(base.level),
        dir: section.read("dir", Value::absolute_path),
        max_size: section.read("max-size", |value| value.size(4096..=1 << 40)).unwrap_or(base.max_size),
        keep: section.read("keep", |value| value.number(0..=10_000)).unwrap_or(base.keep),
    })
}
