//! TCP ports for servers that cannot choose one by themselves, or must come back on the same one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// Ports that tests of this process were given. Whoever has left one for a while finds nobody else there.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port on 127.0.0.1 where nobody listens now, another one each time.
///
/// It lies below the range the kernel takes ports of outgoing connections from, so a server may stop and come back to it;
/// chance keeps other processes' tests that run at the same time apart.
#[must_use]
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = fastrand::u16(10_000..32_000);
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1 after 1000 tries");
}
