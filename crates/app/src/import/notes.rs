//! What is said about a file: problems, for which supervisord would refuse it too, and remarks on what is not carried over.

use std::fmt;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    /// From 1.
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.file, self.line)
    }
}

/// Why a file cannot be read as supervisord's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem(pub(super) String);

impl Problem {
    pub(super) fn at(place: &Place, what: impl fmt::Display) -> Self {
        Self(format!("{place}: {what}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Everything said so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    /// Lines, each with its place.
    pub(super) remarks: Vec<String>,
}

impl Notes {
    pub(super) fn problem(&mut self, place: &Place, what: impl fmt::Display) {
        let problem = Problem::at(place, what);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Something is not carried over, or differs from now on; `what` says what to do about it.
    pub(super) fn remark(&mut self, place: &Place, what: impl fmt::Display) {
        let line = format!("{place}: {what}");
        if !self.remarks.contains(&line) {
            self.remarks.push(line);
        }
    }
}
