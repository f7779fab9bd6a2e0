//! Settings of the daemon itself: `control`, `logging`, and what holds for all groups together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::keys;
use crate::section::Section;
use crate::settings::{Control, Level, LogFormat, Logging, Login, Overall};
use crate::value::Value;
use crate::written::process::{LONGEST_STOP, MOST_PROCESSES};
use crate::written::redis;

/// Longer paths do not fit in the address of a socket.
const LONGEST_SOCKET: usize = 107;

pub(crate) fn default_control() -> Control {
    Control { socket: None, mode: 0o700, group: None, listen: None, logins: Vec::new() }
}

pub(crate) fn default_logging() -> Logging {
    Logging { format: LogFormat::Text, level: Level::Info, dir: None, max_size: 50 << 20, keep: 10 }
}

pub(crate) fn read_control(value: &Value<'_>) -> Option<Control> {
    let section = value.section(&keys::CONTROL)?;
    let base = default_control();
    let listen = section.read("listen", read_listen);
    Some(Control {
        socket: section.read("socket", read_socket),
        mode: section.read("mode", read_mode).unwrap_or(base.mode),
        group: section.read("group", Value::line),
        listen,
        logins: read_logins(&section, listen),
    })
}

/// An address and a port. No name is looked up: it might mean another address tomorrow.
fn read_listen(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.line()?;
    let written = match text.split_once(':') {
        Some(("" | "*", port)) => format!("0.0.0.0:{port}"),
        Some(("localhost", port)) => format!("127.0.0.1:{port}"),
        _ => text,
    };
    match written.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Some(address),
        _ => {
            value.problem_with_hint(
                "must be an address and a port",
                "like `127.0.0.1:9001`, `[::1]:9001`, or `*:9001` for all addresses",
            );
            None
        }
    }
}

/// One login or a list of them. Without any, only this machine may be let in.
fn read_logins(section: &Section<'_>, listen: Option<SocketAddr>) -> Vec<Login> {
    if let Some(auth) = section.get("auth") {
        if section.get("listen").is_none() {
            auth.problem_with_hint(
                "has no meaning without `listen`",
                "the socket's file mode and group say who may use it",
            );
        }
        let items = if auth.is_list() { auth.list().unwrap_or_default() } else { vec![auth.clone()] };
        if items.is_empty() {
            auth.problem("must name at least one user");
        }
        return items.iter().filter_map(read_login).collect();
    }
    if let (Some(value), Some(listen)) = (section.get("listen"), listen) {
        const HINT: &str = "add `auth: {username: …, password-file: …}`";
        if listen.ip().is_loopback() {
            value.warn("everybody on this machine can steer the fleet", HINT);
        } else {
            value.problem_with_hint("without `auth` everybody in the network could steer the fleet", HINT);
        }
    }
    Vec::new()
}

fn read_login(value: &Value<'_>) -> Option<Login> {
    let section = value.section(&keys::AUTH)?;
    let username = section.read("username", |value| {
        let name = value.line()?;
        if name.contains(':') {
            value.problem("must not contain a colon");
            return None;
        }
        Some(name)
    });
    if section.get("username").is_none() {
        section.missing("username", "who may come in");
    }
    let password = redis::read_password(&section);
    if ["password", "password-file"].iter().all(|key| section.get(key).is_none()) {
        section.missing("password", "or give `password-file`");
    }
    Some(Login { username: username?, password: password? })
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

/// Keys at the top of the file.
pub(crate) fn read_overall(document: &Section<'_>) -> Overall {
    let shutdown_timeout =
        document.read("shutdown-timeout", |value| value.duration(Duration::from_secs(1)..=LONGEST_STOP));
    Overall {
        shutdown_timeout,
        replace_at_once: document.read("replace-at-once", |value| value.number(1..=MOST_PROCESSES)),
    }
}
