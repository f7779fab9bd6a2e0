//! TCP ports for servers that cannot choose one by themselves, or must come back on the same one.

use std::net::{Ipv4Addr, TcpListener};

/// A port on 127.0.0.1 where nobody listens now.
///
/// It lies below the range the kernel takes ports of outgoing connections from, so a server may stop and come back to it;
/// chance keeps tests that run at the same time apart.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 after 1000 tries");
}
