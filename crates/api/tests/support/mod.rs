//! A control socket in a scratch directory, with a real handle behind it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qfleet_api::{Client, Dispatch, Limits, Server};
use qfleet_manifest::World;
use qfleet_manifest::settings::Manifest;
use qfleet_os::service::Service;
use qfleet_os::spawn::OwnImage;
use qfleet_supervisor::{Handle, Setup, Supervisor};
use qfleet_testkit::Scratch;
use tokio::runtime::Runtime;

/// Long enough for a busy machine, short enough to notice a hang.
pub const SOON: Duration = Duration::from_secs(120);

/// Nothing outside matters to these manifests.
struct Nowhere;

impl World for Nowhere {
    fn env(&self, _: &str) -> Option<String> {
        None
    }
    fn read_secret(&self, path: &Path) -> Result<String, String> {
        Err(format!("no secret `{}`", path.display()))
    }
    fn find_program(&self, name: &str, _: Option<&str>, _: Option<&Path>) -> Result<PathBuf, String> {
        Ok(PathBuf::from(name))
    }
    fn user_exists(&self, _: &str, _: Option<&str>) -> Result<(), String> {
        Ok(())
    }
    fn is_root(&self) -> bool {
        false
    }
}

/// A manifest from its text.
pub fn manifest(text: &str) -> Manifest {
    qfleet_manifest::load("test.yaml", text, &Nowhere).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A supervisor that is ready to run.
pub fn supervisor(dir: &Scratch, text: &str) -> (Supervisor, Handle) {
    let again = dir.join("again.yaml");
    let setup = Setup {
        manifest: manifest(text),
        reload: Arc::new(move |_, _| {
            qfleet_manifest::load("again.yaml", &std::fs::read_to_string(&again).unwrap(), &Nowhere)
        }),
        image: OwnImage::open().unwrap(),
        child_args: vec!["child".to_owned()],
        environment: Vec::new(),
        state_dir: dir.join("slots"),
        use_cgroups: false,
        service: Service::from_variables(&|_| None).unwrap(),
        program: PathBuf::new(),
        outside: std::rc::Rc::new(()),
    };
    Supervisor::new(setup).unwrap()
}

/// A control socket whose supervisor is not running: it looks and asks queues, and starts nothing.
pub struct Door {
    pub dir: Scratch,
    pub socket: PathBuf,
    pub handle: Handle,
    server: Option<Server>,
    _supervisor: Supervisor,
    runtime: Runtime,
}

impl Door {
    /// A door to a daemon on this manifest.
    pub fn open(text: &str) -> Self {
        Self::with(text, Limits::default())
    }

    /// The same with other limits.
    pub fn with(text: &str, limits: Limits) -> Self {
        let dir = Scratch::new();
        let socket = dir.join("q.sock");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        let (supervisor, handle) = supervisor(&dir, text);
        drop(guard);
        let behind = handle.clone();
        let listener = UnixListener::bind(&socket).unwrap();
        let server = Server::start(listener, limits, move || Dispatch::new(behind)).unwrap();
        Self { dir, socket, handle, server: Some(server), _supervisor: supervisor, runtime }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.socket)
    }

    /// Runs to its end what must not take long.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(SOON, future).await.expect("an answer in time") })
    }

    /// A raw connection.
    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server closes.
    pub fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may close before it has read all; what it said counts.
        let _ = stream.write_all(bytes);
        read_all(&mut stream)
    }

    /// Closes the door politely.
    pub fn close(&mut self, grace: Duration) {
        self.server.take().unwrap().stop(grace);
    }
}

/// Everything until the other end closes (or resets, when it closed with our bytes unread).
pub fn read_all(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut some = [0; 4096];
    loop {
        match stream.read(&mut some) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&some[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
