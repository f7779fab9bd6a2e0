//! Who may ask: whoever the mode and group of the socket file let in may do everything; who it was is written down.
//!
//! The file is the gate (mode 0700, or 0660 with a group), so there is no second list of users to keep in step with it.
//! The system's word on who connected is taken once a connection, and every changing request is logged with it.

use std::fmt;

use tokio::net::UnixStream;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User number.
    pub uid: u32,
    /// Process number, where the system tells.
    pub pid: Option<i32>,
}

impl Peer {
    /// Asks the system who connected; `None` when it does not say, and then nothing may be asked.
    #[must_use]
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        Some(Self { uid: credentials.uid(), pid: credentials.pid() })
    }

    /// Writes down a changing request before it is carried out.
    pub fn note(&self, action: impl fmt::Display) {
        let (uid, pid) = (self.uid, self.pid.unwrap_or_default());
        tracing::info!(uid, pid, "asked over the control socket: {action}");
    }
}
