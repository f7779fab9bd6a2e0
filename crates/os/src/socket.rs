//! Unix sockets: a listener that never exists with the wrong mode, and who is at the other end of a stream.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt,
    listen as start_listening, socket, sockopt,
};

/// The longest path a client can connect to.
pub const LONGEST_PATH: usize = 107;

/// Listens on a unix stream socket at `path` with exactly `mode` and, if given, `group`. An old socket at that path is
/// replaced in one step; hold the instance lock and ask [`is_served`], or somebody loses a socket in use. The listener does
/// not block.
///
/// # Errors
/// The path is too long, taken by something that is no socket, or its directory cannot be written.
pub fn listen(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    check_path(path)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(directory)?;
    // Through the directory's descriptor, so that a path of any length leaves room for the temporary name.
    let temporary = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .join(format!(".{}.socket", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let listener = listen_at(&temporary, mode, group).and_then(|listener| {
        fs::rename(&temporary, path)?;
        Ok(listener)
    });
    if listener.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    listener
}

/// Whether a living process listens at `path`, as far as one may ask. Does not wait.
#[must_use]
pub fn is_served(path: &Path) -> bool {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(asking) = socket(AddressFamily::Unix, SockType::Stream, flags, None) else { return false };
    let Ok(address) = UnixAddr::new(path) else { return false };
    // Would block: somebody is there, and busy.
    matches!(connect(asking.as_raw_fd(), &address), Ok(()) | Err(Errno::EAGAIN))
}

pub(crate) fn check_path(path: &Path) -> io::Result<()> {
    let shown = path.display();
    if path.as_os_str().len() > LONGEST_PATH {
        let text = format!("`{shown}` is longer than the {LONGEST_PATH} bytes a socket path may have");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("`{shown}` exists and is no socket")))
        }
        _ => Ok(()),
    }
}

fn listen_at(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Nobody can connect before it listens, so whatever mode it was born with does not matter. The group comes first,
    // because changing it may take bits from the mode.
    if let Some(group) = group {
        chown(path, None, Some(group))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    start_listening(&socket, Backlog::MAXCONN)?;
    Ok(UnixListener::from(socket))
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process number, as it was when the connection was made; 0 when it is in a namespace that we cannot see.
    pub pid: i32,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

/// Who made the other end of a unix stream.
///
/// # Errors
/// Not a unix socket.
pub fn peer(stream: &impl AsFd) -> io::Result<Peer> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials)?;
    Ok(Peer { pid: credentials.pid(), uid: credentials.uid(), gid: credentials.gid() })
}
