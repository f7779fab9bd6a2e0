//! What a new child must become before it works: said by the daemon, carried out by the child itself.
//!
//! Every child begins as our own binary. It reads a [`Start`] from the link on its descriptor 0, prepares itself, and
//! then either executes a program or goes on as a worker. So nothing happens between fork and exec, failures come back
//! with step and errno, and no secret is ever in an argument or the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// First message on the link of every child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The slot's full name, e.g. `messages:messages_01`.
    pub name: String,
    /// What to become first.
    pub preparation: Preparation,
    /// What to do then.
    pub role: Role,
}

/// What a prepared child does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Execute a program.
    Program {
        /// Program and arguments; the program may be looked up in `PATH`.
        argv: Vec<String>,
    },
    /// Execute a program, if no other host has the same date of its schedule.
    Once {
        /// The Redis over which hosts agree, as the manifest crate writes it; may hold secrets.
        settings: serde_json::Value,
        /// The key that the first host writes.
        key: String,
        /// How long it stays.
        agreed_for: Duration,
        /// Exit code when another host was first.
        elsewhere: i32,
        /// Program and arguments; the program may be looked up in `PATH`.
        argv: Vec<String>,
    },
    /// Go on as a worker.
    Worker {
        /// The worker's settings, as the manifest crate writes them; may hold secrets.
        settings: serde_json::Value,
        /// The ledger file to create for this incarnation.
        ledger: PathBuf,
        /// Ledgers of earlier incarnations of this slot: wait until their locks are free and recover them first.
        after: Vec<PathBuf>,
    },
    /// Give back what a dead worker held, then end.
    Recover {
        /// Settings of every connection the ledger may name; may hold secrets.
        settings: serde_json::Value,
        /// The dead worker's ledger.
        ledger: PathBuf,
    },
}

/// Limits, identity and place of a child.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Preparation {
    /// Become this user; resolved by the daemon.
    pub user: Option<Identity>,
    /// Working directory, entered as the target user.
    pub cwd: Option<PathBuf>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Added to the nice value.
    pub nice: Option<i32>,
    /// Whether nothing it executes gives it more rights; `None`: if it becomes another user.
    pub no_new_privileges: Option<bool>,
    /// Soft and hard limits by name: `nofile`, `core`, `nproc`, `as`, `memlock`, `cpu`, `fsize`, `stack`.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Control group to move into, made by the daemon. Where that fails the child goes on without.
    pub cgroup: Option<PathBuf>,
    /// Files of variables; relative ones are in `cwd`.
    pub env_files: Vec<EnvFile>,
    /// Variables that no such file changes.
    pub fixed_variables: Vec<String>,
    /// Signal the kernel sends when the daemon dies; `None` for workers, which watch their link.
    pub parent_death: Option<i32>,
}

/// A file of variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFile {
    /// Where it is.
    pub path: PathBuf,
    /// It need not be there.
    pub optional: bool,
}

/// A user, resolved to numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Login name, where there is one.
    pub name: Option<String>,
    /// User number.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: Option<PathBuf>,
    /// Login shell.
    pub shell: Option<PathBuf>,
}

/// How long stopping may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DrainLimit {
    /// As long as the running jobs' own timeouts allow (replacing a worker).
    JobsOwn,
    /// At most this long, then running jobs are cut off and given back (stop, shutdown).
    AtMost(Duration),
}
