//! The socket at which a program says how it is, by the protocol that systemd has for it: a place for datagrams that only
//! its user can send to, and who has sent what arrives there.

use std::fs;
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{self, Pid, Uid};

use crate::socket::check_path;
use crate::{tree, usage};

/// Ancestors of a sender that are looked at.
const MOST_ANCESTORS: usize = 64;

/// Makes the socket at `path`, for the user and group given or our own. Nobody else can send to it but root, from its first
/// moment on. A socket that was left there is replaced. It does not block.
///
/// # Errors
/// The path is too long or taken by something that is no socket, or its directory cannot be written.
pub fn open(path: &Path, owner: Option<(u32, u32)>) -> io::Result<UnixDatagram> {
    check_path(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    // The file is born with the mode that the socket has.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Who may not give it away cannot become that user either, which the child says in clearer words.
    if let Some((user, group)) = owner.filter(|_| Uid::effective().is_root())
        && let Err(error) = chown(path, Some(user), Some(group))
    {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(UnixDatagram::from(socket))
}

/// Takes the next datagram: how long it is, cut off where `into` ends, and its sender's process number; 0 for one in a
/// namespace that we cannot see. A descriptor that is sent along is closed at once, which is all the answer it wants.
///
/// # Errors
/// There is none ([`ErrorKind::WouldBlock`]), or the system refused.
pub fn receive(socket: &impl AsFd, into: &mut [u8]) -> io::Result<(usize, i32)> {
    // No room for anything but the sender.
    let mut space = cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(into)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut sender = 0;
    // One that is cut short is told as an error, and without its sender nobody is believed.
    for message in received.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmCredentials(credentials) = message {
            sender = credentials.pid();
        }
    }
    Ok((received.bytes, sender))
}

/// Whether a sender may speak for the process `root`: it is that process, in its session, descends from it, or has the
/// `mark` of its tree, as an orphan has that began a session of its own. One that has ended by now cannot be asked any more
/// and is believed, since nobody but the user could send.
#[must_use]
pub fn speaks_for(sender: i32, root: i32, mark: Option<&str>) -> bool {
    if sender <= 0 {
        return false;
    }
    if sender == unistd::getpid().as_raw() {
        // `systemd-notify` of root sends in its parent's name, and an orphan's parent are we. Whoever may do that may send
        // in any name.
        return true;
    }
    match unistd::getsid(Some(Pid::from_raw(sender))) {
        Err(Errno::ESRCH) => true,
        Ok(session) if session.as_raw() == root => true,
        Ok(_) | Err(_) => {
            descends(sender, root)
                || mark.is_some() && tree::variable_of(sender, tree::MARK).as_deref() == mark
        }
    }
}

fn descends(sender: i32, root: i32) -> bool {
    let mut pid = sender;
    for _ in 0..MOST_ANCESTORS {
        if pid == root {
            return true;
        }
        match usage::of(pid) {
            Ok(usage) if usage.parent > 1 => pid = usage.parent,
            Ok(_) | Err(_) => return false,
        }
    }
    false
}
