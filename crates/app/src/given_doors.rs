//! Doors that whoever started the daemon has opened for it (a socket unit of systemd): they take the place of those that the
//! manifest would have opened. The daemon keeps them as long as it lives, also when it begins anew and over an upgrade, and
//! leaves the socket's file alone, which is not its own.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use qfleet_manifest::settings::{Control, Login};
use qfleet_os::activation::{Listener, listeners};
use serde::{Deserialize, Serialize};

use crate::daemon::NotStarted;
use crate::exit::Exit;

/// The doors that were given, if any.
#[derive(Debug, Default)]
pub(crate) struct GivenDoors {
    socket: Option<(UnixListener, PathBuf)>,
    tcp: Option<TcpListener>,
}

/// Which of the daemon's doors were given, as it is written down for the program that takes its place.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Given {
    socket: bool,
    tcp: bool,
}

impl GivenDoors {
    /// Takes them over; to be called once, before anything else is opened.
    ///
    /// # Errors
    /// They are no listeners, too many, or a socket without a file.
    pub(crate) fn take() -> Result<Self, NotStarted> {
        let no =
            |why: String| NotStarted::new(Exit::Taken, format!("cannot use the sockets handed over: {why}"));
        let mut doors = Self::default();
        for listener in listeners().map_err(|error| no(error.to_string()))? {
            match listener {
                Listener::Unix(socket) if doors.socket.is_none() => {
                    let path = path_of(&socket).map_err(|error| no(error.to_string()))?;
                    doors.socket = Some((socket, path));
                }
                Listener::Tcp(tcp) if doors.tcp.is_none() => doors.tcp = Some(tcp),
                Listener::Unix(_) | Listener::Tcp(_) => {
                    return Err(no(String::from("there may be one unix and one TCP socket")));
                }
            }
        }
        Ok(doors)
    }

    /// The same doors in the program that has taken the place of the one they were given to.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn carried(
        given: Given,
        socket: (&UnixListener, &Path),
        tcp: Option<&TcpListener>,
    ) -> io::Result<Self> {
        let (listener, path) = socket;
        let socket = if given.socket { Some((listener.try_clone()?, path.to_owned())) } else { None };
        Ok(Self { socket, tcp: tcp.filter(|_| given.tcp).map(TcpListener::try_clone).transpose()? })
    }

    pub(crate) fn which(&self) -> Given {
        Given { socket: self.socket.is_some(), tcp: self.tcp.is_some() }
    }

    /// Where the socket is.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.socket.as_ref().map(|(_, path)| path.as_path())
    }

    /// Another hold on the socket.
    pub(crate) fn socket(&self) -> Result<Option<UnixListener>, NotStarted> {
        let socket = self.socket.as_ref().map(|(socket, _)| socket.try_clone()).transpose();
        socket.map_err(NotStarted::internal("keep the control socket"))
    }

    /// Another hold on the TCP door, if the rules for those of the manifest allow it.
    pub(crate) fn tcp(&self, control: &Control) -> Result<Option<TcpListener>, NotStarted> {
        let Some(tcp) = &self.tcp else { return Ok(None) };
        let keep = NotStarted::internal;
        let address = tcp.local_addr().map_err(keep("look at the TCP socket handed over"))?;
        may_listen(address, &control.logins).map_err(|why| NotStarted::new(Exit::BadManifest, why))?;
        if let Some(listen) = control.listen.filter(|listen| *listen != address) {
            tracing::warn!(
                "listening at `{address}`, which was handed over, and not at `{listen}` (`control.listen`)"
            );
        }
        tcp.try_clone().map(Some).map_err(keep("keep the TCP socket handed over"))
    }
}

fn path_of(socket: &UnixListener) -> io::Result<PathBuf> {
    match socket.local_addr()?.as_pathname() {
        Some(path) => std::path::absolute(path),
        None => Err(io::Error::other("the unix socket has no file, beside which ledgers and lock could be")),
    }
}

/// Nobody in the network may steer the fleet unasked.
fn may_listen(address: SocketAddr, logins: &[Login]) -> Result<(), String> {
    if address.ip().to_canonical().is_loopback() || !logins.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the socket handed over listens at `{address}`, and without `auth` everybody in the network could steer the fleet; \
         add `control: {{listen: \"{address}\", auth: {{username: …, password-file: …}}}}`"
    ))
}

/// Whether two paths lead to the same file.
pub(crate) fn same_file(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).is_ok_and(|one| fs::canonicalize(other).is_ok_and(|other| one == other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_a_given_door_wants_logins() {
        for (address, alone) in [
            ("127.0.0.1:9001", true),
            ("[::1]:9001", true),
            ("[::ffff:127.0.0.1]:9001", true),
            ("0.0.0.0:9001", false),
            ("[::]:9001", false),
            ("10.0.0.7:9001", false),
        ] {
            assert_eq!(may_listen(address.parse().unwrap(), &[]).is_ok(), alone, "{address}");
        }
    }
}
