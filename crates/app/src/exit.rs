//! Every exit code of the binary by name. Scripts and service managers depend on these numbers; they never change meaning.

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done as asked. `run`: drained, nothing was cut off.
    Done = 0,
    /// Something of what was asked did not work; the lines printed say what.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// `status`: a listed process is STOPPED, EXITED, FATAL or UNKNOWN.
    NotAllUp = 3,
    /// Nobody answers at the control socket.
    NoDaemon = 4,
    /// `run`: an error inside the daemon itself.
    Internal = 70,
    /// `run`: the control socket or the lock of the runtime directory is taken by another fleet.
    Taken = 73,
    /// `run`: `stop-wait` passed, so running work was cut off and given back.
    CutOff = 75,
    /// `run`: an essential program failed for good.
    EssentialFailed = 76,
    /// The manifest has problems; nothing was started or changed.
    BadManifest = 78,
}

impl Exit {
    /// What the supervisor's number for the daemon's end means.
    #[must_use]
    pub(crate) const fn of_daemon(code: u8) -> Self {
        match code {
            0 => Self::Done,
            75 => Self::CutOff,
            76 => Self::EssentialFailed,
            _ => Self::Internal,
        }
    }

    /// The number.
    #[must_use]
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
