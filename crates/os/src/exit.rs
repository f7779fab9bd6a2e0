//! How a child ended, and what it used: told apart as the system tells it, with code, signal and core flag.

use std::fmt;
use std::time::Duration;

use nix::libc;
use qfleet_model::snapshot;

use crate::signal;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        /// Its number.
        number: i32,
        /// Whether a core file was written.
        core: bool,
    },
}

impl Exit {
    /// Ended by itself with code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

/// As supervisord says it: `exit status 1`, `terminated by SIGKILL`, with `(core dumped)` where there is one.
impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exit status {code}"),
            Self::Signal { number, core } => {
                let core = if *core { " (core dumped)" } else { "" };
                write!(out, "terminated by SIG{}{core}", signal::name(*number))
            }
        }
    }
}

impl From<Exit> for snapshot::Exit {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Code(code) => Self::Code(code),
            Exit::Signal { number, .. } => Self::Signal(signal::name(number)),
        }
    }
}

/// What a child used until it ended, with those of its own children that it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Most resident memory at once, in bytes. A forked child counts from the size of the process that forked it, so
    /// small figures say little.
    pub peak_memory: u64,
    /// Processor time, in its own code and in the kernel.
    pub cpu: Duration,
}

impl From<&libc::rusage> for Usage {
    fn from(usage: &libc::rusage) -> Self {
        let time = |time: libc::timeval| {
            Duration::new(
                u64::try_from(time.tv_sec).unwrap_or(0),
                u32::try_from(time.tv_usec).unwrap_or(0).saturating_mul(1000),
            )
        };
        Self {
            peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024),
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_reads_as_supervisord_says_it() {
        assert_eq!(Exit::Code(1).to_string(), "exit status 1");
        assert_eq!(Exit::Signal { number: 9, core: false }.to_string(), "terminated by SIGKILL");
        assert_eq!(
            Exit::Signal { number: 11, core: true }.to_string(),
            "terminated by SIGSEGV (core dumped)"
        );
    }
}
