//! The far end of an HTTP handler: a small HTTP/1.1 server that records what arrives and answers what the test says, or
//! misbehaves as the test says.
//!
//! A thread per connection, kept alive until the client or an [`Answer`] closes it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Gate, eventually, free_port};

/// Between two looks at a gate.
const LOOK: Duration = Duration::from_millis(5);

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST` and the like.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Names as written, and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking undone.
    pub body: Vec<u8>,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
    /// When it had arrived in full.
    pub at: Instant,
}

impl Received {
    /// The value of a header; its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// What to do about one request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    after: Duration,
    gate: Option<Gate>,
    manner: Manner,
}

#[derive(Debug, Clone)]
enum Manner {
    Whole,
    ThenClose,
    CutAfter(usize),
    Drip(Duration),
    Raw,
    Never,
}

impl Answer {
    /// An answer with this status and an empty body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            after: Duration::ZERO,
            gate: None,
            manner: Manner::Whole,
        }
    }

    /// Status 200.
    #[must_use]
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// Closes the connection without a word.
    #[must_use]
    pub fn cut() -> Self {
        Self::raw(b"")
    }

    /// Keeps the connection open and never answers.
    #[must_use]
    pub fn never() -> Self {
        Self { manner: Manner::Never, ..Self::ok() }
    }

    /// Writes exactly these bytes, then closes.
    #[must_use]
    pub fn raw(bytes: &[u8]) -> Self {
        Self { manner: Manner::Raw, ..Self::ok().body(bytes) }
    }

    /// Adds a header. `Content-Length` is added by itself.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Waits before it answers (or cuts).
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Waits before it answers until the gate is open.
    #[must_use]
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// Closes the connection after the answer, and says so.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.manner = Manner::ThenClose;
        self
    }

    /// Closes the connection after so many bytes of the body.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.manner = Manner::CutAfter(bytes);
        self
    }

    /// Writes the body one byte at a time, with this pause before each.
    #[must_use]
    pub fn drip(mut self, pause: Duration) -> Self {
        self.manner = Manner::Drip(pause);
        self
    }
}

impl Answer {
    /// Waits until it is to be given, or until the receiver stops.
    fn wait(&self, shared: &Shared) {
        if !self.after.is_zero() {
            shared.pause(Some(self.after));
        }
        while self.gate.as_ref().is_some_and(|gate| !gate.is_open()) && !shared.stopping() {
            shared.pause(Some(LOOK));
        }
        if matches!(self.manner, Manner::Never) {
            shared.pause(None);
        }
    }
}

/// A running receiver; its port is closed and its connections are cut when dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    place: Place,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone)]
enum Place {
    Tcp(u16),
    Unix(PathBuf),
}

struct Shared {
    answer: Box<dyn Fn(&Received) -> Answer + Send + Sync>,
    record: Mutex<Record>,
    stopping: AtomicBool,
    stopped: Condvar,
    in_hand: AtomicUsize,
    most_in_hand: AtomicUsize,
}

#[derive(Default)]
struct Record {
    requests: Vec<Received>,
    connections: usize,
    open: Vec<(usize, Stream)>,
    threads: Vec<JoinHandle<()>>,
}

impl Receiver {
    /// Listens on a port of 127.0.0.1 and answers each request as `answer` says, which is called from many threads.
    #[must_use]
    pub fn start(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        for _ in 0..100 {
            let port = free_port();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                return Self::serve(Listener::Tcp(listener), Place::Tcp(port), answer);
            }
        }
        panic!("no port for a receiver");
    }

    /// The same on a given port, as for one that comes back.
    #[must_use]
    pub fn start_on_port(port: u16, answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        Self::serve(Listener::Tcp(listener), Place::Tcp(port), answer)
    }

    /// The same on a unix socket.
    #[must_use]
    pub fn start_on_socket(
        path: &Path,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a unix socket");
        Self::serve(Listener::Unix(listener), Place::Unix(path.to_owned()), answer)
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Tcp(port) => *port,
            Place::Unix(path) => panic!("this receiver listens on `{}`", path.display()),
        }
    }

    /// All requests that have arrived so far, in order of arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Received> {
        self.shared.record().requests.clone()
    }

    /// How many requests have arrived so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.record().requests.len()
    }

    /// Waits until at least `count` requests have arrived, and gives all.
    ///
    /// # Panics
    /// When fewer have arrived within `limit`.
    #[track_caller]
    pub fn wait_for(&self, count: usize, limit: Duration) -> Vec<Received> {
        eventually(limit, &format!("{count} requests at the receiver"), || {
            (self.count() >= count).then_some(())
        });
        self.requests()
    }

    /// How many connections have ever been made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.record().connections
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.record().open.len()
    }

    /// How many requests have arrived and are not answered yet.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.shared.in_hand.load(Ordering::SeqCst)
    }

    /// The most requests that were in hand at one moment.
    #[must_use]
    pub fn most_in_hand(&self) -> usize {
        self.shared.most_in_hand.load(Ordering::SeqCst)
    }

    /// Stops listening and cuts every connection; what has arrived stays readable.
    pub fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        {
            // Under the lock, so that no waiter can miss it between its look and its sleep.
            let _record = self.shared.record();
            self.shared.stopping.store(true, Ordering::SeqCst);
            self.shared.stopped.notify_all();
        }
        let _woken = match &self.place {
            Place::Tcp(port) => TcpStream::connect(("127.0.0.1", *port)).map(drop),
            Place::Unix(path) => UnixStream::connect(path).map(drop),
        };
        let _ended = acceptor.join();
        let threads = {
            let mut record = self.shared.record();
            for (_, stream) in &record.open {
                stream.cut();
            }
            std::mem::take(&mut record.threads)
        };
        for thread in threads {
            let _ended = thread.join();
        }
        if let Place::Unix(path) = &self.place {
            let _gone = std::fs::remove_file(path);
        }
    }

    fn serve(
        listener: Listener,
        place: Place,
        answer: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            record: Mutex::default(),
            stopping: AtomicBool::new(false),
            stopped: Condvar::new(),
            in_hand: AtomicUsize::new(0),
            most_in_hand: AtomicUsize::new(0),
        });
        let for_acceptor = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &for_acceptor));
        Self { shared, place, acceptor: Some(acceptor) }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits, but not longer than until the receiver stops.
    fn pause(&self, limit: Option<Duration>) {
        let record = self.record();
        let waiting = |_: &mut Record| !self.stopping();
        match limit {
            Some(limit) => drop(self.stopped.wait_timeout_while(record, limit, waiting)),
            None => drop(self.stopped.wait_while(record, waiting)),
        }
    }
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    while let Ok(stream) = listener.accept() {
        if shared.stopping() {
            return;
        }
        let Ok(to_cut) = stream.try_clone() else { continue };
        let mut record = shared.record();
        let number = record.connections;
        record.connections += 1;
        record.open.push((number, to_cut));
        let shared = Arc::clone(shared);
        record.threads.push(thread::spawn(move || {
            let _broken = converse(stream, number, &shared);
            shared.record().open.retain(|(open, _)| *open != number);
        }));
    }
}

fn converse(stream: Stream, number: usize, shared: &Shared) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, number)? {
        let now = shared.in_hand.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most_in_hand.fetch_max(now, Ordering::SeqCst);
        shared.record().requests.push(request.clone());
        let answer = (shared.answer)(&request);
        answer.wait(shared);
        // Before the client can know, or its next request could arrive while this one still counts.
        shared.in_hand.fetch_sub(1, Ordering::SeqCst);
        if !write_answer(&mut writer, &answer, shared, request.method == "HEAD")? {
            writer.cut();
            break;
        }
    }
    Ok(())
}

/// Writes an answer; whether the connection stays open.
fn write_answer(to: &mut Stream, answer: &Answer, shared: &Shared, head_only: bool) -> io::Result<bool> {
    if shared.stopping() {
        return Ok(false);
    }
    if matches!(answer.manner, Manner::Raw) {
        to.write_all(&answer.body)?;
        return Ok(false);
    }
    let mut text = format!("HTTP/1.1 {} Scripted\r\n", answer.status).into_bytes();
    for (name, value) in &answer.headers {
        text.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let bodiless = matches!(answer.status, 100..=199 | 204 | 304);
    if !bodiless {
        text.extend_from_slice(format!("Content-Length: {}\r\n", answer.body.len()).as_bytes());
    }
    if matches!(answer.manner, Manner::ThenClose) {
        text.extend_from_slice(b"Connection: close\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let body: &[u8] = if bodiless || head_only { b"" } else { &answer.body };
    match answer.manner {
        Manner::CutAfter(bytes) => {
            text.extend_from_slice(&body[..bytes.min(body.len())]);
            to.write_all(&text)?;
            Ok(false)
        }
        Manner::Drip(pause) => {
            to.write_all(&text)?;
            for byte in body {
                shared.pause(Some(pause));
                if shared.stopping() {
                    return Ok(false);
                }
                to.write_all(&[*byte])?;
            }
            Ok(true)
        }
        ref whole => {
            text.extend_from_slice(body);
            to.write_all(&text)?;
            Ok(matches!(whole, Manner::Whole))
        }
    }
}

/// The next request, or nothing at the end of the connection.
fn read_request(from: &mut impl BufRead, connection: usize) -> io::Result<Option<Received>> {
    let first = read_line(from)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Received {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        connection,
        at: Instant::now(),
    };
    loop {
        let line = read_line(from)?;
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    request.body = if request.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        read_chunks(from)?
    } else {
        let length = request.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        let mut body = vec![0; length];
        from.read_exact(&mut body)?;
        body
    };
    request.at = Instant::now();
    Ok(Some(request))
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(read_line(from)?.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        from.read_exact(&mut body[start..])?;
        read_line(from)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn cut(&self) {
        let _gone = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
