//! The daemon's own mask for new files, called once when it starts. Children get theirs when they are prepared.

use nix::sys::stat::{Mode, umask};

/// Makes sure that nobody else may write to what the daemon creates (its logs, its ledgers), and that it may itself, with
/// whatever mask it was started. What a stricter mask takes from others stays taken.
pub fn keep_files_ours() {
    let started_with = umask(Mode::S_IWGRP | Mode::S_IWOTH);
    umask((started_with | Mode::S_IWGRP | Mode::S_IWOTH) - Mode::S_IRWXU);
}
