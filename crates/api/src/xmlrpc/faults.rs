//! What can go wrong, by supervisord's numbers.

use std::fmt;

use qfleet_model::command::{ProcessResult, Refusal, Trouble};

use super::value::Value;

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// There is no such method.
    UnknownMethod = 1,
    /// Too many, too few or wrong parameters.
    IncorrectParameters = 2,
    /// Parameters that make no sense together.
    BadArguments = 3,
    /// Nothing is known about this method.
    SignatureUnsupported = 4,
    /// The daemon drains.
    ShutdownState = 6,
    /// No group or process has this name.
    BadName = 10,
    /// No signal has this name.
    BadSignal = 11,
    /// The file (a program, a log) is not there, or input is closed.
    NoFile = 20,
    /// The program cannot be executed.
    NotExecutable = 21,
    /// Anything else.
    Failed = 30,
    /// It ended while somebody waited for its start.
    AbnormalTermination = 40,
    /// It could not be started, or did not stay up.
    SpawnError = 50,
    /// It runs already.
    AlreadyStarted = 60,
    /// It does not run.
    NotRunning = 70,
    /// The group is in the fleet already.
    AlreadyAdded = 90,
    /// The group has processes that are not at rest.
    StillRunning = 91,
    /// The manifest has problems.
    CantReread = 92,
}

/// Stands in the results of operations on several processes for "done".
pub const SUCCESS: i32 = 80;

impl Kind {
    /// Its name in capitals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownMethod => "UNKNOWN_METHOD",
            Self::IncorrectParameters => "INCORRECT_PARAMETERS",
            Self::BadArguments => "BAD_ARGUMENTS",
            Self::SignatureUnsupported => "SIGNATURE_UNSUPPORTED",
            Self::ShutdownState => "SHUTDOWN_STATE",
            Self::BadName => "BAD_NAME",
            Self::BadSignal => "BAD_SIGNAL",
            Self::NoFile => "NO_FILE",
            Self::NotExecutable => "NOT_EXECUTABLE",
            Self::Failed => "FAILED",
            Self::AbnormalTermination => "ABNORMAL_TERMINATION",
            Self::SpawnError => "SPAWN_ERROR",
            Self::AlreadyStarted => "ALREADY_STARTED",
            Self::NotRunning => "NOT_RUNNING",
            Self::AlreadyAdded => "ALREADY_ADDED",
            Self::StillRunning => "STILL_RUNNING",
            Self::CantReread => "CANT_REREAD",
        }
    }

    /// The fault without a detail.
    #[must_use]
    pub fn bare(self) -> Fault {
        Fault { kind: self, detail: None }
    }

    /// The fault with a detail.
    pub fn of(self, detail: impl Into<String>) -> Fault {
        Fault { kind: self, detail: Some(detail.into()) }
    }
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub kind: Kind,
    /// What exactly.
    pub detail: Option<String>,
}

impl Fault {
    /// The number.
    #[must_use]
    pub const fn code(&self) -> i32 {
        self.kind as i32
    }

    /// As it stands in an answer.
    #[must_use]
    pub fn value(&self) -> Value {
        Value::members([("faultCode", self.code().into()), ("faultString", self.to_string().into())])
    }

    /// Why one process is not as asked; `None` when it is.
    pub(super) fn of_result(result: &ProcessResult) -> Option<Self> {
        let kind = match result.trouble {
            _ if result.ok => return None,
            Some(Trouble::NoFile) => return Some(Kind::NoFile.of(&result.text)),
            Some(Trouble::NotExecutable) => return Some(Kind::NotExecutable.of(&result.text)),
            Some(Trouble::StartFailed) => Kind::SpawnError,
            Some(Trouble::Ended) => Kind::AbnormalTermination,
            Some(Trouble::NotRunning) => Kind::NotRunning,
            None => return Some(Kind::Failed.of(&result.text)),
        };
        Some(kind.of(&result.name))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) => write!(out, "{}: {detail}", self.kind.name()),
            None => out.write_str(self.kind.name()),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoMatch { name, .. } => Kind::BadName.of(name),
            // To this client a daemon that is not there for a moment is one that comes back.
            Refusal::ShuttingDown | Refusal::Replaced => Kind::ShutdownState.bare(),
            Refusal::BadManifest { problems } => Kind::CantReread.of(problems),
            Refusal::AlreadyActive { group } => Kind::AlreadyAdded.of(group),
            Refusal::StillRunning { group } => Kind::StillRunning.of(group),
            Refusal::NotRunning { name } => Kind::NotRunning.of(name),
            Refusal::NoInput { name, why } => Kind::NoFile.of(format!("{name}: {why}")),
            Refusal::RolloutUnderWay { .. } | Refusal::NotUpgraded { .. } | Refusal::BadRequest { .. } => {
                Kind::Failed.of(refusal.to_string())
            }
        }
    }
}
