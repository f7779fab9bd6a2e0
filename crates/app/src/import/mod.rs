//! From supervisord's configuration to a manifest: text in, YAML out.
//!
//! The way of a file: `files` (what is on disk, includes followed) → `ini` (sections and settings with their comments) →
//! `section` (expansions, typed values) → `program`, `settings`, `artisan`, `scheduler`, `queue`, `daemon`, `logs` (what each part becomes),
//! put together by `document` → `written`, `yaml` (the text). Only `files` touches the disk.
//!
//! The result must run the same work from the first minute. A command line of `queue:work` therefore becomes a queue when
//! somebody says who is to get its jobs, and stays a program, with the queue as a comment, when nobody does.

mod artisan;
mod daemon;
mod document;
mod expand;
mod files;
mod glob;
mod handler;
mod ini;
mod logs;
mod notes;
mod program;
mod queue;
mod scheduler;
mod section;
mod settings;
mod variables;
mod words;
mod written;
mod yaml;

#[cfg(test)]
mod tests;

pub(crate) use document::{Imported, import};
pub(crate) use files::gather;
pub(crate) use handler::Handler;
pub(crate) use notes::Problem;

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name for messages.
    pub(crate) name: String,
    /// Its directory, for `%(here)s`.
    pub(crate) here: String,
    /// Its text.
    pub(crate) text: String,
}
