//! Every way into a running daemon, and the client that comes in by them.
//!
//! The doors differ in wire format only. Behind them is one corridor, [`dispatch`]: processes are the supervisor's
//! business and reached through its handle, queues are looked after by the [`desk`]. The control socket speaks HTTP/1.1:
//! [`socket::server`] takes connections on a thread of its own, [`access`] says who is there, [`protocol`] is what passes
//! as JSON, [`xmlrpc`] is supervisord's protocol, and [`socket::client`] is the other end of the first.

pub mod access;
pub mod desk;
pub mod dispatch;
pub mod protocol;
pub mod socket;
pub mod xmlrpc;

pub use dispatch::Dispatch;
pub use socket::client::{Client, ClientError};
pub use socket::server::{Doors, Limits, Server};
