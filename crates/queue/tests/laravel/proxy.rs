//! A line to Redis that can be cut at the worst moment: a request arrives and is carried out, and its reply does not come.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Script calls that pass, and what happens to the one after them.
type Plan = Arc<Mutex<(u32, Cut)>>;

/// Listens on a socket of its own until dropped.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    plan: Plan,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn to(server: PathBuf, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let plan = Plan::new(Mutex::new((0, Cut::No)));
        let seen = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = UnixStream::connect(&server).await else { continue };
                tokio::spawn(pass(client, server, Arc::clone(&seen)));
            }
        });
        Self { socket, plan, task }
    }

    /// Cuts the next script call.
    pub(crate) fn cut(&self, cut: Cut) {
        self.cut_after(0, cut);
    }

    /// Cuts a later script call.
    pub(crate) fn cut_after(&self, calls: u32, cut: Cut) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = (calls, cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Requests of the driver wait for their replies, so what arrives from the client is always one request, perhaps in
/// pieces.
async fn pass(mut client: UnixStream, mut server: UnixStream, plan: Plan) {
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut swallow = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let request = &from_client[..length];
                    let script = request.windows(7).any(|window| window == b"EVALSHA");
                    let cut = if script { next(&plan) } else { Cut::No };
                    if cut == Cut::Request {
                        return;
                    }
                    swallow |= cut == Cut::Reply;
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

/// What happens to this script call.
fn next(plan: &Plan) -> Cut {
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    match plan.0.checked_sub(1) {
        Some(left) => {
            plan.0 = left;
            Cut::No
        }
        None => std::mem::replace(&mut plan.1, Cut::No),
    }
}
