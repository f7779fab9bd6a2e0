//! Tells systemd how we are: ready, reloading, stopping, alive. Everything is a no-op when nobody asked to be told.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use qfleet_model::time::Moment;

/// Variables by which systemd spoke to the daemon, and which its children must not see: one that has `NOTIFY_SOCKET` could
/// declare the service ready.
pub const NOT_FOR_CHILDREN: [&str; 18] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "MAINPID",
    "MANAGERPID",
    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "CREDENTIALS_DIRECTORY",
    crate::replace::HANDED_OVER,
    crate::replace::GIVEN_BACK,
];

/// The one who started us and wants to know.
#[derive(Debug)]
pub struct Service {
    notify: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Service {
    /// Reads what systemd told us from the environment of this process.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is set and is no socket address.
    pub fn from_env() -> io::Result<Self> {
        Self::from_variables(&|name| env::var_os(name))
    }

    /// [`Service::from_env`] with another environment.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is set and is no socket address.
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let notify = match variable("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => {
                let socket = UnixDatagram::unbound()?;
                // The manager being slow must not hold up the daemon's loop.
                socket.set_nonblocking(true)?;
                Some((socket, socket_address(&address)?))
            }
            _ => None,
        };
        Ok(Self { notify, watchdog: watchdog(variable) })
    }

    /// Whether anybody wants to know.
    #[must_use]
    pub fn is_supervised(&self) -> bool {
        self.notify.is_some()
    }

    /// How often to say [`Service::alive`]: half of what systemd allows. `None` when it does not watch.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Up, or done with reloading.
    ///
    /// # Errors
    /// The message could not be handed over; nothing depends on it here.
    pub fn ready(&self) -> io::Result<()> {
        self.say("READY=1")
    }

    /// What we are doing, for `systemctl status`. One line.
    ///
    /// # Errors
    /// The message could not be handed over.
    pub fn status(&self, text: &str) -> io::Result<()> {
        self.say(&format!("STATUS={}", text.replace('\n', " ")))
    }

    /// Begins to reload; say [`Service::ready`] at its end, also when it failed.
    ///
    /// # Errors
    /// The message could not be handed over.
    pub fn reloading(&self, now: Moment) -> io::Result<()> {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_nanos() / 1000))
    }

    /// Begins to stop.
    ///
    /// # Errors
    /// The message could not be handed over.
    pub fn stopping(&self) -> io::Result<()> {
        self.say("STOPPING=1")
    }

    /// The loop still turns. To be called from the loop itself.
    ///
    /// # Errors
    /// The message could not be handed over.
    pub fn alive(&self) -> io::Result<()> {
        self.say("WATCHDOG=1")
    }

    /// Starting, reloading or stopping needs at least this much more time from now.
    ///
    /// # Errors
    /// The message could not be handed over.
    pub fn extend(&self, by: Duration) -> io::Result<()> {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))
    }

    fn say(&self, message: &str) -> io::Result<()> {
        let Some((socket, address)) = &self.notify else { return Ok(()) };
        socket.send_to_addr(message.as_bytes(), address).map(drop)
    }
}

fn socket_address(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(text),
        _ => {
            let text = format!("NOTIFY_SOCKET is `{}`; it must begin with `/` or `@`", text.display());
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

fn watchdog(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
    // The variables may have been meant for a process that started us.
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| for_us && *micros > 0).map(Duration::from_micros)
}
