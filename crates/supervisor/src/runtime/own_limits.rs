//! What the daemon changes about its own limits for as long as it runs, and what they were: programs get that.
//!
//! Used when the supervisor is made and when it ends; what they were goes along to another program that takes our place.

use std::io;

use qfleet_os::cores::{self, Cores};
use qfleet_os::descriptors::{self, OpenFiles};

/// The limits before we changed them.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnLimits {
    pub(super) open_files: OpenFiles,
    pub(super) cores: Cores,
}

impl OwnLimits {
    /// Takes what the system gives: as many descriptors as it allows, and no core dumps.
    pub(super) fn change() -> io::Result<Self> {
        Ok(Self { open_files: descriptors::raise_open_files()?, cores: cores::forbid()? })
    }

    /// Those of the program whose place we have taken; it may have been one that let core dumps be.
    pub(super) fn resume(open_files: (u64, u64), cores: Option<(u64, u64)>) -> io::Result<Self> {
        let forbidden = cores::forbid()?;
        let cores = cores.map_or(forbidden, |(soft, hard)| Cores { soft, hard });
        Ok(Self { open_files: OpenFiles { soft: open_files.0, hard: open_files.1 }, cores })
    }

    /// Takes it back, before everything begins anew in this process.
    pub(super) fn restore(&self) {
        if let Err(error) = descriptors::restore_open_files(self.open_files) {
            tracing::warn!("cannot set the limit of open files to what it was: {error}");
        }
        if let Err(error) = cores::restore(self.cores) {
            tracing::warn!("cannot set the limit of core dumps to what it was: {error}");
        }
    }
}
