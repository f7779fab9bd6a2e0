//! The binary as people use it: one file a behaviour, each with a fleet, a Redis and a directory of its own.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod support;

mod activation;
mod answers;
mod bounds;
mod cluster;
mod commands;
mod crash;
mod dependents;
mod deployments;
mod drain;
mod first_process;
mod handed_over;
mod hanging;
mod jobs;
mod logs;
mod node_apps;
mod notices;
mod odd_starts;
mod orphaned;
mod outage;
mod packaging;
mod probe;
mod probe_commands;
mod probes;
mod programs;
mod reload;
mod rolling;
mod scaling;
mod schedules;
mod stop_limit;
mod trees;
mod upgrade;
mod users;
