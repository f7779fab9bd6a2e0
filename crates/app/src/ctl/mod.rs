//! The short commands: each asks the daemon over its control socket (or needs none), prints, and says how it went.

use crate::args::{Control, Options};
use crate::exit::Exit;

/// Carries out one short command.
#[must_use]
pub(crate) fn run(command: Control, options: &Options) -> Exit {
    let _ = (command, options);
    Exit::Internal
}
