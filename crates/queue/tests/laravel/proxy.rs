//! A line to Redis that can be cut at the worst moment: a request arrives and is carried out, and its reply does not come.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What happens to the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It passes.
    No,
    /// It does not arrive, and the connection closes.
    Request,
    /// It is carried out; instead of the reply the connection closes.
    Reply,
}

/// Listens on a socket of its own until dropped.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    cut: Arc<AtomicU8>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn to(server: PathBuf, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let cut = Arc::new(AtomicU8::new(0));
        let seen = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&server).await else { continue };
                tokio::spawn(pass(client, server, Arc::clone(&seen)));
            }
        });
        Self { socket, cut, task }
    }

    /// Cuts the next script call.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests of the driver wait for their replies, so what arrives from the client is always one request, perhaps in
/// pieces.
async fn pass(mut client: UnixStream, mut server: UnixStream, cut: Arc<AtomicU8>) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut swallow = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let request = &from_client[..length];
                    let script = request.windows(7).any(|window| window == b"EVALSHA");
                    let wanted = if script { cut.swap(0, Ordering::SeqCst) } else { 0 };
                    if wanted == Cut::Request as u8 {
                        return;
                    }
                    swallow |= wanted == Cut::Reply as u8;
                    if server.write_all(request).await.is_err() {
                        return;
                    }
                }
            },
            read = server.read(&mut from_server) => match read {
                Ok(0) | Err(_) => return,
                Ok(_) if swallow => return,
                Ok(length) => {
                    if client.write_all(&from_server[..length]).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}
