//! A real Laravel: pushes jobs as an application does, and works queues as `queue:work` does.
//!
//! PHP with Debian's Illuminate libraries, wired by the scripts in `php/` of this crate. Each call is a process of its own.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{Guarded, RedisServer, Scratch, eventually};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/php");
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A Laravel application on a given Redis. Its key prefix is `laravel_database_`, its `retry_after` 90 s.
#[derive(Debug)]
pub struct Php {
    settings: Value,
    scratch: Scratch,
    calls: AtomicUsize,
}

/// Kinds of job; `value` means [`Push::value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// A class job that notes its value: `App\Jobs\Plain`.
    Plain,
    /// tries 5, maxExceptions 3, timeout 7, failOnTimeout, backoff 1, 5, 10: `App\Jobs\WithOptions`.
    Options,
    /// May be retried for ten minutes: `App\Jobs\RetryUntil`.
    RetryUntil,
    /// Private and protected properties, hence NUL bytes in the command: `App\Jobs\WithSecrets`.
    Secrets,
    /// A class job whose value is awkward text.
    Unicode,
    /// A class job that always throws: `App\Jobs\Throwing`.
    Throwing,
    /// A class job that takes `value` seconds: `App\Jobs\Slow`.
    Slow,
    /// A class job that releases itself for `value` seconds: `App\Jobs\Releasing`.
    Releasing,
    /// `App\Jobs\ByName@fire` with `value` as its data.
    ByName,
    /// The same with integers beyond 2^53, floats and empty lists.
    Numbers,
    /// The same with awkward text as values and keys.
    UnicodeByName,
    /// The same with lists 300 levels deep.
    Deep,
}

impl JobKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::Options,
        Self::RetryUntil,
        Self::Secrets,
        Self::Unicode,
        Self::Throwing,
        Self::Slow,
        Self::Releasing,
        Self::ByName,
        Self::Numbers,
        Self::UnicodeByName,
        Self::Deep,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Options => "options",
            Self::RetryUntil => "retry-until",
            Self::Secrets => "secrets",
            Self::Unicode => "unicode",
            Self::Throwing => "throwing",
            Self::Slow => "slow",
            Self::Releasing => "releasing",
            Self::ByName => "by-name",
            Self::Numbers => "numbers",
            Self::UnicodeByName => "unicode-by-name",
            Self::Deep => "deep",
        }
    }
}

/// What to push.
#[derive(Debug, Clone)]
pub struct Push {
    kind: JobKind,
    count: usize,
    value: Value,
    delay: Option<u32>,
}

impl Push {
    /// One job, ready at once, with the value 0.
    #[must_use]
    pub fn new(kind: JobKind) -> Self {
        Self { kind, count: 1, value: json!(0), delay: None }
    }

    /// So many of them.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// What the job is given.
    #[must_use]
    pub fn value(mut self, value: impl Into<Value>) -> Self {
        self.value = value.into();
        self
    }

    /// Ready only after so many seconds.
    #[must_use]
    pub fn delay(mut self, seconds: u32) -> Self {
        self.delay = Some(seconds);
        self
    }
}

/// A job as Laravel put it into Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The exact payload.
    pub raw: Vec<u8>,
    /// Seconds until it is due, if it went into the delayed set.
    pub delay: Option<u64>,
}

/// What a PHP worker did with a job at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkEvent {
    /// `started`, `ran` (the job's own code was reached), `processed` (done, or released by itself), `threw`, `failed` (for good).
    pub event: String,
    /// The payload's `id`.
    pub id: String,
    /// Which attempt this is, counted from 1.
    pub attempts: u64,
    /// The job's class, or `Class@method`.
    pub class: String,
    /// The payload as it was popped.
    pub raw: Vec<u8>,
    /// With `ran`: what the job was given, as JSON text.
    pub value: Option<String>,
}

impl Php {
    /// An application that uses this server, over its unix socket.
    #[must_use]
    pub fn on(server: &RedisServer) -> Self {
        let settings = json!({
            "host": server.socket(),
            "port": 0,
            "username": server.user(),
            "password": server.password(),
            "prefix": "laravel_database_",
            "retry_after": 90,
            "block_for": null,
        });
        Self { settings, scratch: Scratch::new(), calls: AtomicUsize::new(0) }
    }

    /// Uses another key prefix.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.settings["prefix"] = json!(prefix);
        self
    }

    /// Another `retry_after`: seconds a reservation of PHP lasts.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.settings["retry_after"] = json!(seconds);
        self
    }

    /// Workers wait in Redis for so many seconds instead of polling.
    #[must_use]
    pub fn block_for(mut self, seconds: u32) -> Self {
        self.settings["block_for"] = json!(seconds);
        self
    }

    /// Pushes `count` jobs of a kind and tells what went into Redis, in order.
    pub fn produce(&self, queue: &str, kind: JobKind, count: usize) -> Vec<Pushed> {
        self.push(queue, &Push::new(kind).count(count))
    }

    /// Pushes jobs and tells what went into Redis, in order.
    pub fn push(&self, queue: &str, push: &Push) -> Vec<Pushed> {
        let record = self.call(
            "produce.php",
            queue,
            &json!({"kind": push.kind.name(), "count": push.count, "value": push.value, "delay": push.delay}),
        );
        lines(&record.file)
            .iter()
            .map(|line| Pushed { raw: unhex(&line["raw"]), delay: line["delay"].as_u64() })
            .collect()
    }

    /// How many jobs Laravel counts in a queue: waiting, delayed and reserved.
    #[must_use]
    pub fn size(&self, queue: &str) -> u64 {
        let output = self.call("size.php", queue, &json!({})).output;
        output.trim().parse().unwrap_or_else(|_| panic!("`size.php` printed: {output}"))
    }

    /// A worker for a queue, or for several (`high,default`): tries 1, timeout 60 s, backoff 0.
    #[must_use]
    pub fn worker(&self, queue: &str) -> WorkerOptions<'_> {
        let options = json!({"tries": 1, "timeout": 60, "backoff": 0, "sleep": 0.02, "max_jobs": 0});
        WorkerOptions { php: self, queue: queue.to_owned(), options }
    }

    fn call(&self, script: &str, queue: &str, more: &Value) -> Finished {
        let mut call = self.begin(script, queue, more);
        let status = call.process.wait(ENDS_WITHIN);
        let output = call.output();
        assert!(status.success(), "`{script}` ended with {status}: {output}");
        Finished { output, file: call.record.clone() }
    }

    fn begin(&self, script: &str, queue: &str, more: &Value) -> PhpWorker {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let record = self.scratch.join(&format!("record-{call}"));
        let output = self.scratch.join(&format!("output-{call}"));
        let mut settings = self.settings.clone();
        settings["queue"] = json!(queue);
        settings["record"] = json!(record);
        for (key, value) in more.as_object().into_iter().flatten() {
            settings[key] = value.clone();
        }
        let to = File::create(&output).expect("a file for the output of PHP");
        let mut process = Guarded::spawn(
            Command::new("php")
                .arg(Path::new(SCRIPTS).join(script))
                .stdin(Stdio::piped())
                .stdout(to.try_clone().expect("a second handle"))
                .stderr(to),
        );
        let mut stdin = process.child().stdin.take().expect("a pipe was asked for");
        stdin.write_all(settings.to_string().as_bytes()).expect("PHP reads its settings");
        PhpWorker { process, record, output }
    }
}

struct Finished {
    output: String,
    file: PathBuf,
}

/// How a PHP worker should be; made by [`Php::worker`].
#[derive(Debug)]
pub struct WorkerOptions<'a> {
    php: &'a Php,
    queue: String,
    options: Value,
}

impl WorkerOptions<'_> {
    /// `--tries`.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.options["tries"] = json!(tries);
        self
    }

    /// `--timeout`, in seconds.
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.options["timeout"] = json!(seconds);
        self
    }

    /// `--backoff`, in seconds.
    #[must_use]
    pub fn backoff(mut self, seconds: u32) -> Self {
        self.options["backoff"] = json!(seconds);
        self
    }

    /// `--max-jobs`.
    #[must_use]
    pub fn max_jobs(mut self, count: u32) -> Self {
        self.options["max_jobs"] = json!(count);
        self
    }

    /// Works until the queue is empty (or `max_jobs` are done), and tells what happened.
    ///
    /// # Panics
    /// When the worker ends with anything but success.
    #[must_use]
    pub fn run_until_empty(mut self) -> Vec<WorkEvent> {
        self.options["stop_when_empty"] = json!(true);
        let finished = self.php.call("work.php", &self.queue, &self.options);
        events(&finished.file)
    }

    /// Starts a worker that goes on until it is told to stop.
    #[must_use]
    pub fn start(mut self) -> PhpWorker {
        self.options["stop_when_empty"] = json!(false);
        self.php.begin("work.php", &self.queue, &self.options)
    }
}

/// A running PHP worker; killed when dropped.
#[derive(Debug)]
pub struct PhpWorker {
    process: Guarded,
    record: PathBuf,
    output: PathBuf,
}

impl PhpWorker {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has done so far.
    #[must_use]
    pub fn events(&self) -> Vec<WorkEvent> {
        events(&self.record)
    }

    /// Waits until it has done at least `count` things of this name, and gives all it did.
    ///
    /// # Panics
    /// When it has not within `limit`.
    #[track_caller]
    pub fn wait_for(&self, event: &str, count: usize, limit: Duration) -> Vec<WorkEvent> {
        eventually(limit, &format!("{count} times `{event}` from a PHP worker"), || {
            let events = self.events();
            (events.iter().filter(|one| one.event == event).count() >= count).then_some(events)
        })
    }

    /// Kills it in the middle of whatever it does.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to end after the running job, waits for that, and tells all it did.
    ///
    /// # Panics
    /// When it does not end within `limit`, or not with success.
    pub fn stop(&mut self, limit: Duration) -> Vec<WorkEvent> {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(limit);
        assert!(status.success(), "a PHP worker ended with {status}: {}", self.output());
        self.events()
    }

    /// What it has printed, for a look when a test fails.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.output)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

fn events(record: &Path) -> Vec<WorkEvent> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines(record)
        .iter()
        .filter(|line| line["event"] != "pushed")
        .map(|line| WorkEvent {
            event: text(&line["event"]),
            id: text(&line["id"]),
            attempts: line["attempts"].as_u64().unwrap_or_default(),
            class: text(&line["class"]),
            raw: unhex(&line["raw"]),
            value: line["value"].as_str().map(str::to_owned),
        })
        .collect()
}

/// The whole lines of a record; none while there is no file. The writer may be in the middle of the last one.
fn lines(record: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("PHP writes one JSON object per line"))
        .collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap_or_default();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("PHP writes payloads in hexadecimal"))
        .collect()
}
