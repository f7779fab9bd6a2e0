//! What a program says of itself: a socket of its own for each process with `ready: notify`, which it finds in
//! `NOTIFY_SOCKET`, and which is read until the process has ended.
//!
//! The socket lies in the state directory under the number of the slot, and belongs to the program's user alone. What
//! arrives counts when it comes from the process or one of its tree. The fleet hears of it through the letterbox,
//! so a program that never stops talking replaces its own words.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::os::unix::net::UnixDatagram as Plain;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use qfleet_model::notice::Notice;
use qfleet_model::observation::Observation;
use qfleet_model::process::Pid;
use qfleet_model::start::Identity;
use qfleet_os::notices;
use qfleet_os::replace::{Inherited, Surviving};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;

use super::letterbox::Letterbox;
use crate::fleet::SlotId;

/// How names of sockets begin. No name in a manifest begins with a dot, so no ledger is taken for one.
pub(super) const STEM: &str = ".notify.";

/// The variable in which a program looks for it.
pub(super) const VARIABLE: &str = "NOTIFY_SOCKET";

/// Bytes of one datagram that are read.
const LONGEST: usize = 4096;

/// The socket of one process.
#[derive(Debug)]
pub(super) struct Notices {
    socket: UnixDatagram,
    path: PathBuf,
}

/// A socket on its way to another program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CarriedNotices {
    descriptor: RawFd,
    path: PathBuf,
}

impl Notices {
    /// Opens the socket for the next process of a slot, which becomes `user`. A slot has one process at a time.
    pub(super) fn open(state_dir: &Path, slot: SlotId, user: Option<&Identity>) -> io::Result<Rc<Self>> {
        // The program may live in another directory.
        let path = std::path::absolute(state_dir)?.join(format!("{STEM}{}", slot.0));
        let socket = notices::open(&path, user.map(|user| (user.uid, user.gid)))?;
        match UnixDatagram::from_std(socket) {
            Ok(socket) => Ok(Rc::new(Self { socket, path })),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// What another program needs to go on with it.
    pub(super) fn carried<'a>(&'a self, surviving: &mut Surviving<'a>) -> CarriedNotices {
        CarriedNotices { descriptor: surviving.keep(&self.socket), path: self.path.clone() }
    }

    /// Goes on where another program was.
    pub(super) fn resume(carried: CarriedNotices, inherited: &Inherited) -> io::Result<Rc<Self>> {
        let socket = Plain::from(inherited.get(carried.descriptor)?);
        socket.set_nonblocking(true)?;
        Ok(Rc::new(Self { socket: UnixDatagram::from_std(socket)?, path: carried.path }))
    }

    /// What its process finds in [`VARIABLE`].
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the socket away, when its process has ended or was never started.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!("cannot remove `{}`: {error}", self.path.display());
        }
    }

    /// Reads all that comes, as long as the process lives: whoever sends would wait otherwise. `alive` closes when it has
    /// been reaped, `mark` is that of its tree.
    pub(super) async fn serve(
        self: Rc<Self>,
        pid: Pid,
        mark: Option<String>,
        letterbox: Letterbox,
        mut alive: watch::Receiver<()>,
    ) {
        let (mut said, mut warned) = (Notice::default(), false);
        loop {
            let received = tokio::select! {
                received = self.socket.async_io(Interest::READABLE, || self.receive()) => received,
                _ = alive.changed() => return,
            };
            let (notice, sender) = match received {
                Ok(received) => received,
                Err(error) => return tracing::warn!(pid, "cannot read what it says of itself: {error}"),
            };
            // Most words mean nothing here, and do not need to be believed.
            let all = notice.after(&said);
            if all == said {
                continue;
            }
            if notices::speaks_for(sender, pid, mark.as_deref()) {
                said = all;
                letterbox.put(Observation::Notified { pid, notice: said.clone() });
            } else if !std::mem::replace(&mut warned, true) {
                tracing::warn!(
                    pid,
                    sender,
                    "somebody who is none of its processes speaks for it, and is not believed"
                );
            }
        }
    }

    fn receive(&self) -> io::Result<(Notice, i32)> {
        let mut bytes = [0; LONGEST];
        let (length, sender) = notices::receive(&self.socket, &mut bytes)?;
        Ok((Notice::read(&bytes[..length.min(LONGEST)]), sender))
    }
}
