//! Listeners that whoever started this process has opened for it: systemd with a socket unit, or anybody else who speaks the
//! same way. `LISTEN_FDS` says how many there are, from descriptor 3 on, and `LISTEN_PID` for whom.

use std::env;
use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt,
};

use crate::{descriptors, raw};

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// More than anybody means.
const MOST: RawFd = 64;

/// A listener by its kind. It does not block, and no program that is executed keeps it.
#[derive(Debug)]
pub enum Listener {
    /// A unix stream socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// What was handed over to this process; to be called once, before anything else is opened, and by no program that has taken
/// another one's place, which finds the same variables.
///
/// # Errors
/// What was handed over are no listening stream sockets.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let count = count(&|name| env::var_os(name))?;
    (FIRST..FIRST + count).map(|number| listener(number, raw::inherited(number)?)).collect()
}

/// How many descriptors there are for us.
fn count(variable: &dyn Fn(&str) -> Option<OsString>) -> io::Result<RawFd> {
    let number = |name| variable(name)?.to_str()?.parse::<RawFd>().ok();
    // The variables may have been meant for a process that started us.
    let for_us = number("LISTEN_PID").is_some_and(|pid| i64::from(pid) == i64::from(std::process::id()));
    match variable("LISTEN_FDS") {
        Some(text) if for_us => match number("LISTEN_FDS") {
            Some(count @ 0..=MOST) => Ok(count),
            _ => Err(io::Error::other(format!(
                "`LISTEN_FDS` is `{}`; it must be a small number",
                text.display()
            ))),
        },
        _ => Ok(0),
    }
}

fn listener(number: RawFd, descriptor: OwnedFd) -> io::Result<Listener> {
    let no = |what: &str| io::Error::other(format!("descriptor {number} (`LISTEN_FDS`) is {what}"));
    let kind = getsockopt(&descriptor, sockopt::SockType).map_err(|_| no("no socket"))?;
    if kind != SockType::Stream || !getsockopt(&descriptor, sockopt::AcceptConn)? {
        return Err(no("no stream socket that listens (`ListenStream=` with `Accept=no`)"));
    }
    descriptors::set_nonblocking(&descriptor)?;
    match getsockname::<SockaddrStorage>(descriptor.as_raw_fd())?.family() {
        Some(AddressFamily::Unix) => Ok(Listener::Unix(UnixListener::from(descriptor))),
        Some(AddressFamily::Inet | AddressFamily::Inet6) => Ok(Listener::Tcp(TcpListener::from(descriptor))),
        _ => Err(no("neither a unix nor a TCP socket")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_us_counts() {
        let own = std::process::id().to_string();
        let count = |pid: Option<&str>, fds: Option<&str>| {
            let value = |name: &str| if name == "LISTEN_PID" { pid } else { fds };
            count(&|name| value(name).map(OsString::from)).ok()
        };
        assert_eq!(count(None, None), Some(0));
        assert_eq!(count(Some(&own), None), Some(0));
        assert_eq!(count(None, Some("1")), Some(0));
        assert_eq!(count(Some("1"), Some("1")), Some(0));
        assert_eq!(count(Some("1"), Some("many")), Some(0));
        assert_eq!(count(Some(&own), Some("2")), Some(2));
        for wrong in ["many", "-1", "65", "99999999999", ""] {
            assert_eq!(count(Some(&own), Some(wrong)), None, "{wrong}");
        }
    }
}
