//! What the operating system does for us: processes, signals, descriptors. It stands apart because everything that is
//! specific to the system, or unsafe, is here and nowhere else; it knows nothing of jobs or programs.
//!
//! A child of the daemon is [launched](spawn) as our own binary and [prepares itself](prepare). The daemon
//! [signals](signal) its group and [reaps](reap) whoever ends. A worker keeps what it holds in a [locked map](locked_map)
//! that outlives it, and runs shell jobs as [children of its own](job_child).
//!
//! | For the daemon | For a worker | For both |
//! | --- | --- | --- |
//! | [`spawn`], [`reap`], [`replace`], [`lock`], [`socket`], [`activation`], [`service`], [`notices`], [`users`], [`wall`], [`mask`], [`cores`], [`code`] | [`prepare`], [`job_child`], [`locked_map`] | [`signal`], [`tree`], [`cgroup`], [`exit`], [`limits`], [`descriptors`], [`usage`], [`clock`] |
//!
//! `unsafe` stands in two files: the raw system calls, and the mapped file.

pub mod activation;
pub mod cgroup;
pub mod clock;
pub mod code;
pub mod cores;
pub mod descriptors;
mod env_file;
pub mod exit;
pub mod job_child;
pub mod limits;
pub mod lock;
pub mod locked_map;
pub mod mask;
pub mod notices;
pub mod prepare;
mod raw;
pub mod reap;
pub mod replace;
pub mod service;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod tree;
pub mod usage;
pub mod users;
pub mod wall;
