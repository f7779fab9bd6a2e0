//! Turns YAML text into typed settings, lists every problem at once, and says what changed between two manifests.
//!
//! Text and environment come in as arguments; nothing here opens a file or reads the environment itself. The file as
//! written and the file as meant are two types: `written` keeps positions, [`settings`] has only what is valid.

pub mod handler;
pub mod problem;
pub mod queue;
pub mod secret;
pub mod settings;
