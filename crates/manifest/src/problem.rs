//! A problem of a manifest: where, what, and what to do about it; and how a list of them prints.

use std::fmt;

/// One problem (or warning) with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name as the user gave it.
    pub file: String,
    /// Line, from 1; 0 when the problem has no place.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The line itself, secrets replaced.
    pub text: String,
    /// Path of the key, e.g. `queues.messages.numproc`.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do, e.g. did you mean `numprocs`?
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the file as a whole, without a place in it.
    #[must_use]
    pub fn of_file(file: &str, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            text: String::new(),
            at: String::new(),
            what: what.into(),
            hint: None,
        }
    }
}

/// Every problem of a manifest, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// One problem of the file as a whole, such as that it cannot be read.
    #[must_use]
    pub fn of_file(file: &str, what: impl Into<String>) -> Self {
        Self(vec![Problem::of_file(file, what)])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(out, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.file)?;
        if self.line > 0 {
            write!(out, ":{}:{}", self.line, self.column)?;
        }
        if !self.at.is_empty() {
            write!(out, ": `{}`", self.at)?;
        }
        write!(out, ": {}", self.what)?;
        if !self.text.is_empty() {
            write!(out, "\n  {:>4} | {}", self.line, self.text)?;
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n       = {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
