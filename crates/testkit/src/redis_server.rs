//! A real `redis-server` of a test's own, to be killed, frozen and brought back.
//!
//! It listens on a unix socket in its own directory; TCP and TLS ports on demand. It keeps nothing on disk unless
//! [`RedisServerBuilder::append_only`] says so.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Certificates, Guarded, Scratch, eventually, free_port};

const STARTS_WITHIN: Duration = Duration::from_secs(120);
const ENDS_WITHIN: Duration = Duration::from_secs(120);
const PORT_TAKEN: &str = "Address already in use";

/// What a server should be like; made by [`RedisServer::builder`].
#[derive(Debug, Clone, Default)]
pub struct RedisServerBuilder {
    tcp: bool,
    tls: bool,
    append_only: bool,
    sentinel: bool,
    cluster: bool,
    user: Option<String>,
    password: Option<String>,
    lines: Vec<String>,
}

impl RedisServerBuilder {
    /// Also listens on a TCP port of 127.0.0.1.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// Also listens with TLS on a port of 127.0.0.1, with certificates made for this server; clients need none of their own.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Writes every change to disk before it answers, so that a killed server comes back with all it acknowledged.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// Asks everybody for this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Knows one user, who may do everything; nobody gets in without a name.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some(name.to_owned());
        self.password(password)
    }

    /// Follows another server, which must have a TCP port and at most a password.
    #[must_use]
    pub fn replica_of(mut self, master: &RedisServer) -> Self {
        self.lines.push(format!("replicaof 127.0.0.1 {}", master.port()));
        if let Some(password) = &master.settings.password {
            self.lines.push(format!("masterauth {password}"));
        }
        self.tcp()
    }

    /// Adds a line to the server's configuration.
    #[must_use]
    pub fn config(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Runs as a sentinel, which writes its findings into its own configuration file.
    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self.tcp()
    }

    /// Runs as a node of a cluster, which has no slots and knows nobody yet.
    pub(crate) fn cluster(mut self) -> Self {
        self.cluster = true;
        self.tcp()
    }

    /// Starts it and waits until it answers.
    #[must_use]
    pub fn start(&self) -> RedisServer {
        let mut reason = String::new();
        // Somebody may take a port between our look and the server's bind.
        for _ in 0..5 {
            match self.try_start() {
                Ok(server) => return server,
                Err(failed) => reason = failed,
            }
            if !reason.contains(PORT_TAKEN) {
                break;
            }
        }
        panic!("`redis-server` did not start: {reason}");
    }

    fn try_start(&self) -> Result<RedisServer, String> {
        let scratch = Scratch::new();
        let certificates = self.tls.then(|| Certificates::in_dir(scratch.path()));
        let port = if self.tcp { free_port() } else { 0 };
        let tls_port = if self.tls { free_port() } else { 0 };
        scratch.write("redis.conf", self.configuration(&scratch, port, tls_port, certificates.as_ref()));
        let process = Mutex::new(spawn(&scratch, self.sentinel));
        let server = RedisServer { process, settings: self.clone(), certificates, port, tls_port, scratch };
        server.wait_until_ready().map(|()| server)
    }

    fn configuration(&self, at: &Scratch, port: u16, tls_port: u16, tls: Option<&Certificates>) -> String {
        let dir = at.path().display();
        let mut text = format!(
            "port {port}\nbind 127.0.0.1\nprotected-mode no\nunixsocket {dir}/redis.sock\nunixsocketperm 777\n\
             dir {dir}\ndaemonize no\n"
        );
        if !self.sentinel {
            // A sentinel refuses these.
            text.push_str("save \"\"\nenable-debug-command local\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n");
        }
        if let Some(files) = tls {
            let Certificates { ca, cert, key } = files;
            let (ca, cert, key) = (ca.display(), cert.display(), key.display());
            let _infallible = write!(
                text,
                "tls-port {tls_port}\ntls-ca-cert-file {ca}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-auth-clients no\n"
            );
        }
        if self.cluster {
            let bus = free_port();
            let _infallible =
                writeln!(text, "cluster-enabled yes\ncluster-config-file nodes.conf\ncluster-port {bus}");
        }
        if self.append_only {
            text.push_str("appendonly yes\nappendfsync always\n");
        }
        let _infallible = match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                writeln!(text, "user default off\nuser {user} on >{password} ~* &* +@all")
            }
            (None, Some(password)) => writeln!(text, "requirepass {password}"),
            _ => Ok(()),
        };
        for line in &self.lines {
            let _infallible = writeln!(text, "{line}");
        }
        text
    }
}

/// A running (or killed, or frozen) server; killed and its directory removed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    // Dropped before the directory goes.
    process: Mutex<Guarded>,
    settings: RedisServerBuilder,
    certificates: Option<Certificates>,
    port: u16,
    tls_port: u16,
    scratch: Scratch,
}

impl RedisServer {
    /// A server on a unix socket, open to everybody who reaches it, with nothing on disk.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Any other server.
    #[must_use]
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// How to reach it over its unix socket: `redis+unix://…`, with user and password where it asks for them.
    #[must_use]
    pub fn url(&self) -> String {
        let mut query = Vec::new();
        if let Some(user) = &self.settings.user {
            query.push(format!("user={}", escaped(user)));
        }
        if let Some(password) = &self.settings.password {
            query.push(format!("pass={}", escaped(password)));
        }
        let mark = if query.is_empty() { "" } else { "?" };
        format!("redis+unix://{}{mark}{}", self.socket().display(), query.join("&"))
    }

    /// How to reach it over TCP: `redis://…`.
    #[must_use]
    pub fn tcp_url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", self.login(), self.port())
    }

    /// How to reach it with TLS: `rediss://…`; trust [`Certificates::ca`] for it.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("rediss://{}127.0.0.1:{}", self.login(), self.tls_port())
    }

    /// Its unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("redis.sock")
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        assert!(self.port != 0, "this server was built without `tcp()`");
        self.port
    }

    /// Its TLS port on 127.0.0.1.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        assert!(self.tls_port != 0, "this server was built without `tls()`");
        self.tls_port
    }

    /// The files behind its TLS port.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("this server was built without `tls()`")
    }

    /// The password it asks for.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.settings.password.as_deref()
    }

    /// The user it asks for.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.settings.user.as_deref()
    }

    /// A client over the unix socket.
    #[must_use]
    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("an address of our own making")
    }

    /// A blocking connection over the unix socket.
    #[must_use]
    pub fn connection(&self) -> redis::Connection {
        self.client().get_connection().expect("a connection to our own server")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.scratch.read("redis.log")
    }

    /// Its directory, with `redis.conf`, `redis.log` and what it keeps on disk.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Kills it as a crash would.
    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// Ends it as an operator would, and waits for that.
    pub fn stop(&self) {
        let mut process = self.process();
        process.signal(Signal::SIGTERM);
        process.wait(ENDS_WITHIN);
    }

    /// Freezes it: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.process().signal(Signal::SIGSTOP);
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.process().signal(Signal::SIGCONT);
    }

    /// Starts it again on the same socket, ports and data (killing it first if it still runs), and waits until it answers.
    pub fn restart(&self) {
        {
            let mut process = self.process();
            process.kill9();
            *process = spawn(&self.scratch, self.settings.sentinel);
        }
        if let Err(reason) = self.wait_until_ready() {
            panic!("`redis-server` did not come back: {reason}");
        }
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        eventually(STARTS_WITHIN, "an answer of `redis-server`", || {
            if let Some(status) = self.process().ended() {
                return Some(Err(format!("{status}\n{}", self.log())));
            }
            let mut connection = self.client().get_connection_with_timeout(Duration::from_secs(1)).ok()?;
            redis::cmd("PING").query::<String>(&mut connection).ok().map(|_| Ok(()))
        })
    }

    fn login(&self) -> String {
        match (&self.settings.user, &self.settings.password) {
            (user, Some(password)) => {
                format!("{}:{}@", user.as_deref().map(escaped).unwrap_or_default(), escaped(password))
            }
            _ => String::new(),
        }
    }

    fn process(&self) -> MutexGuard<'_, Guarded> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(scratch: &Scratch, sentinel: bool) -> Guarded {
    let log = File::options().create(true).append(true).open(scratch.join("redis.log")).expect("a log file");
    let mut command = Command::new("redis-server");
    command.arg(scratch.join("redis.conf")).current_dir(scratch.path());
    if sentinel {
        command.arg("--sentinel");
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
    Guarded::spawn(&mut command)
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
