//! The listening side of the control socket, and of TCP where that is wanted.
//!
//! It owns a thread with a runtime of its own, so that no client, however slow or strange, can delay the supervisor.
//! Whatever a client sends ends its own connection at most. The listeners are bound by the caller, who knows about file
//! modes and about predecessors.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::{Gate, Peer, Refused};
use crate::dispatch::Dispatch;
use crate::socket::patient::Patient;
use crate::socket::room::{Guest, Room};
use crate::socket::routes::{self, Body};
use crate::socket::stray::Stray;
use crate::socket::supervisord::plain;

/// A refused request's body is read up to this size: a client that is still writing would not read the refusal.
const MOST_REFUSED: usize = 64 * 1024;

/// Somebody who came in just before the end is listened to for this long.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// What is listened on.
#[derive(Debug)]
pub struct Doors {
    /// The control socket; its file's mode says who may come in.
    pub socket: StdListener,
    /// TCP, and who may come in there.
    pub tcp: Option<(StdTcpListener, Gate)>,
}

impl From<StdListener> for Doors {
    fn from(socket: StdListener) -> Self {
        Self { socket, tcp: None }
    }
}

/// What one client may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once that have sent the head of a request; more are turned away with 503. Those that have sent none
    /// have the places that are left, and lose them to newer ones.
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
    /// Serves these doors from a new thread. `build` makes what answers, inside that thread's runtime.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(
        doors: impl Into<Doors>,
        limits: Limits,
        build: impl FnOnce() -> Dispatch + Send + 'static,
    ) -> io::Result<Self> {
        let doors = doors.into();
        doors.socket.set_nonblocking(true)?;
        if let Some((tcp, _)) = &doors.tcp {
            tcp.set_nonblocking(true)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(None);
        let thread = std::thread::Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match Listeners::open(doors) {
                    Ok(listeners) => serve(listeners, Arc::new(limits), build(), stopped).await,
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

/// The doors inside the runtime.
struct Listeners {
    socket: UnixListener,
    tcp: Option<TcpListener>,
    gate: Arc<Gate>,
}

/// Somebody who has come in.
enum Came {
    Local(UnixStream),
    Remote(TcpStream, SocketAddr),
}

impl Listeners {
    fn open(doors: Doors) -> io::Result<Self> {
        let socket = UnixListener::from_std(doors.socket)?;
        let (tcp, gate) = match doors.tcp {
            Some((tcp, gate)) => (Some(TcpListener::from_std(tcp)?), gate),
            None => (None, Gate::new(Vec::new())),
        };
        Ok(Self { socket, tcp, gate: Arc::new(gate) })
    }

    /// Waits for the next one at any door.
    async fn accept(&self) -> io::Result<Came> {
        let remote = async {
            match &self.tcp {
                Some(tcp) => tcp.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            local = self.socket.accept() => local.map(|(stream, _)| Came::Local(stream)),
            remote = remote => remote.map(|(stream, from)| Came::Remote(stream, from)),
        }
    }
}

/// Accepts until told to stop, then waits for the open connections.
async fn serve(
    listeners: Listeners,
    limits: Arc<Limits>,
    dispatch: Dispatch,
    mut stopped: watch::Receiver<Option<Duration>>,
) {
    let room = Room::new(limits.connections);
    let mut open = JoinSet::new();
    let grace = loop {
        tokio::select! {
            grace = told_to_stop(&mut stopped) => break grace,
            Some(ended) = open.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a control connection failed: {error}");
                }
            }
            accepted = listeners.accept() => match accepted {
                Ok(came) => match room.enter() {
                    Some(mut guest) => {
                        let (limits, dispatch, stopped) = (Arc::clone(&limits), dispatch.clone(), stopped.clone());
                        let gate = Arc::clone(&listeners.gate);
                        open.spawn(async move {
                            guest.sit().await;
                            welcome(came, &guest, gate, &limits, dispatch, stopped).await;
                        });
                    }
                    None => turn_away(came),
                },
                // Most likely out of descriptors: there is nothing to accept with until something else is closed.
                Err(error) => {
                    tracing::warn!("no control connection could be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    };
    drop(listeners);
    // Whoever is still reading after the grace is cut off when the runtime goes away with its tasks.
    let _ = timeout(grace, async { while open.join_next().await.is_some() {} }).await;
}

/// Waits for the word to stop; says how long requests under way may take.
async fn told_to_stop(stopped: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stopped.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
}

/// Serves one connection to its end, as that of whoever came in by this door.
async fn welcome(
    came: Came,
    guest: &Guest,
    gate: Arc<Gate>,
    limits: &Limits,
    dispatch: Dispatch,
    stopped: watch::Receiver<Option<Duration>>,
) {
    let body_time = limits.body_time;
    match came {
        Came::Local(stream) => {
            let Some(peer) = Peer::of(&stream) else {
                tracing::warn!("a control connection was closed: the system does not say whose it is");
                return;
            };
            let answer = async move |request| routes::answer(&dispatch, &peer, body_time, request).await;
            converse(stream, guest, limits, stopped, answer).await;
        }
        Came::Remote(stream, from) => {
            // Answers are written as a whole; waiting for more to send along would only make them late.
            let _ = stream.set_nodelay(true);
            let answer = async move |request: Request<Incoming>| match gate.admit(request.headers()) {
                Ok(user) => {
                    let peer = Peer::Remote { from, user };
                    routes::answer(&dispatch, &peer, body_time, request).await
                }
                Err(refused) => refuse(refused, from, body_time, request).await,
            };
            converse(stream, guest, limits, stopped, answer).await;
        }
    }
}

/// Answers somebody who is not let in, and closes.
async fn refuse(
    refused: Refused,
    from: SocketAddr,
    body_time: Duration,
    request: Request<Incoming>,
) -> Response<Body> {
    let _unread = routes::whole_body(request.into_body(), MOST_REFUSED, body_time).await;
    let mut response = match refused {
        Refused::Unknown => {
            tracing::warn!(%from, "not let in over TCP: no user and password, or the wrong ones");
            let mut response = plain(StatusCode::UNAUTHORIZED, "user and password are wanted");
            let realm = HeaderValue::from_static("Basic realm=\"default\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, realm);
            response
        }
        Refused::WebPage => {
            tracing::warn!(%from, "not let in over TCP: the request comes from a web page");
            plain(StatusCode::FORBIDDEN, "web pages may not ask this")
        }
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    routes::signed(response)
}

/// Serves one connection to its end.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    guest: &Guest,
    limits: &Limits,
    mut stopped: watch::Receiver<Option<Duration>>,
    answer: impl AsyncFn(Request<Incoming>) -> Response<Body>,
) {
    let (answer, begun) = (&answer, &Notify::new());
    let service = service_fn(move |request| async move {
        if !guest.speak() {
            // Nothing of what he wants is begun; the connection ends at once.
            std::future::pending::<()>().await;
        }
        begun.notify_one();
        Ok::<_, std::convert::Infallible>(answer(request).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head)
        .serve_connection(TokioIo::new(Patient::new(Stray::new(stream), limits.unread_time)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        biased;
        () = guest.sent_away() => {
            tracing::debug!("a silent control connection was closed for another one");
            return;
        }
        result = connection.as_mut() => result,
        _ = told_to_stop(&mut stopped) => {
            let came_just_now = async {
                if !guest.has_spoken() {
                    let _ = timeout(FIRST_WORD, begun.notified()).await;
                }
            };
            tokio::select! {
                result = connection.as_mut() => result,
                () = came_just_now => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!("a control connection ended: {error}");
    }
}

/// Answers one connection too many without waiting for it.
fn turn_away(came: Came) {
    const BODY: &str = "{\"code\":\"busy\",\"error\":\"too many connections to the control socket\",\
        \"hint\":\"close some, or try again\"}\n";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nserver: qfleet/{}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
        connection: close\r\n\r\n{BODY}",
        env!("CARGO_PKG_VERSION"),
        BODY.len()
    );
    // The stream is not blocking, and an empty socket buffer takes this much; a failure leaves the client nothing to lose.
    let _ = match came {
        Came::Local(stream) => stream.into_std().and_then(|mut stream| stream.write_all(answer.as_bytes())),
        Came::Remote(stream, _) => {
            stream.into_std().and_then(|mut stream| stream.write_all(answer.as_bytes()))
        }
    };
}
