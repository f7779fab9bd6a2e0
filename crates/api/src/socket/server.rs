//! The listening side of the control socket.
//!
//! It owns a thread with a runtime of its own, so that no client, however slow or strange, can delay the supervisor.
//! Whatever a client sends ends its own connection at most. The listener is bound by the caller, who knows about file
//! modes and about predecessors.

use std::io::{self, Write};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::access::Peer;
use crate::dispatch::Dispatch;
use crate::socket::patient::Patient;
use crate::socket::routes;

/// What one client may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more are turned away with 503.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// Time for a request's head to arrive, also the longest pause between two requests of one connection.
    pub head_time: Duration,
    /// Time for a request's body to arrive.
    pub body_time: Duration,
    /// Longest time a client may leave its answer unread.
    pub unread_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            head: 32 * 1024,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(60),
            unread_time: Duration::from_secs(60),
        }
    }
}

/// A running server; dropping it ends it at once.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<Option<Duration>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `listener` from a new thread. `build` makes what answers, inside that thread's runtime.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(
        listener: StdListener,
        limits: Limits,
        build: impl FnOnce() -> Dispatch + Send + 'static,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(None);
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match UnixListener::from_std(listener) {
                    Ok(listener) => serve(listener, Arc::new(limits), build(), stopped).await,
                    Err(error) => tracing::error!("the control socket cannot be served: {error}"),
                }
            });
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Takes no more connections, lets requests under way finish for at most `grace`, and returns when all is closed.
    pub fn stop(mut self, grace: Duration) {
        self.end(grace);
    }

    fn end(&mut self, grace: Duration) {
        self.stop.send_replace(Some(grace));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control socket's thread panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// Accepts until told to stop, then waits for the open connections.
async fn serve(
    listener: UnixListener,
    limits: Arc<Limits>,
    dispatch: Dispatch,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    let grace = loop {
        tokio::select! {
            grace = told_to_stop(&mut stopped) => break grace,
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a control connection failed: {error}");
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match Arc::clone(&room).try_acquire_owned() {
                    Ok(place) => {
                        let (limits, dispatch, stopped) = (Arc::clone(&limits), dispatch.clone(), stopped.clone());
                        open.spawn(async move {
                            converse(stream, &limits, dispatch, stopped).await;
                            drop(place);
                        });
                    }
                    Err(_) => turn_away(stream),
                },
                // Most likely out of descriptors: there is nothing to accept with until something else is closed.
                Err(error) => {
                    tracing::warn!("no control connection could be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    };
    drop(listener);
    // Whoever is still reading after the grace is cut off when the runtime goes away with its tasks.
    let _ = tokio::time::timeout(grace, async { while open.join_next().await.is_some() {} }).await;
}

/// Waits for the word to stop; says how long requests under way may take.
async fn told_to_stop(stopped: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stopped.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
}

/// Serves one connection to its end.
async fn converse(
    stream: UnixStream,
    limits: &Limits,
    dispatch: Dispatch,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let Some(peer) = Peer::of(&stream) else {
        tracing::warn!("a control connection was closed: the system does not say whose it is");
        return;
    };
    let body_time = limits.body_time;
    let service = service_fn(move |request| {
        let dispatch = dispatch.clone();
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&dispatch, peer, body_time, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.unread_time)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = told_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(uid = peer.uid, "a control connection ended: {error}");
    }
}

/// Answers one connection too many without waiting for it.
fn turn_away(stream: UnixStream) {
    const BODY: &str = "{\"code\":\"busy\",\"error\":\"too many connections to the control socket\",\
        \"hint\":\"close some, or try again\"}\n";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nserver: qfleet/{}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
        connection: close\r\n\r\n{BODY}",
        env!("CARGO_PKG_VERSION"),
        BODY.len()
    );
    // The stream is not blocking, and an empty socket buffer takes this much; a failure leaves the client nothing to lose.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write_all(answer.as_bytes());
    }
}
