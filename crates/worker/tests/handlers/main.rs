//! Handlers against real receivers and real processes.

#![allow(clippy::unwrap_used)]

mod given;
mod http_addresses;
mod http_answers;
mod http_connections;
mod http_requests;
mod http_tls;
mod shell_ending;
mod shell_running;
