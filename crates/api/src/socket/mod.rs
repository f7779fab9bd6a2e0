//! HTTP/1.1 on the control socket: the [server], the routes of its requests, and the [client].

pub mod client;
mod file_tail;
mod patient;
mod room;
mod routes;
pub mod server;
mod stray;
mod supervisord;
