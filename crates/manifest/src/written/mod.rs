//! The file as written: one reader for each kind of section.
//!
//! A reader takes what is there, notes every problem with its place, and leaves out what is missing, so that layers can be
//! put over each other before defaults are filled in.

pub(crate) mod address;
pub(crate) mod connection;
pub(crate) mod daemon;
pub(crate) mod document;
pub(crate) mod handler;
pub(crate) mod handler_http;
pub(crate) mod handler_shell;
pub(crate) mod headers;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod pool;
pub(crate) mod probes;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod queue;
pub(crate) mod redis;
pub(crate) mod redis_url;
pub(crate) mod scale;
pub(crate) mod schedule;
pub(crate) mod signing;
