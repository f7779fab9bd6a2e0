//! What can go wrong with a queue, sorted by what the caller will do about it.

use std::fmt;

/// Why a verb could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueError {
    /// Redis does not answer, or not as one that works (loading, read-only, wrong password): wait and try again.
    /// Whether the call took effect is not known.
    Unreachable(String),
    /// Redis answered that this cannot work (a key of a wrong type, no permission): tell a person.
    Refused(String),
}

impl fmt::Display for QueueError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(what) | Self::Refused(what) => out.write_str(what),
        }
    }
}

impl std::error::Error for QueueError {}

/// Why one payload cannot be read as a job; the text fits after "the payload ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the payload {}", self.0)
    }
}
