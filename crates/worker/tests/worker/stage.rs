//! Where the tests play: a Redis, a scratch directory, and worker processes with the daemon's end of their link.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use qfleet_manifest::settings::{Work, WorkerSettings};
use qfleet_model::frame::{self, Frames};
use qfleet_model::link::{FromChild, Report, ToChild};
use qfleet_model::start::{DrainLimit, Preparation, Role, Start};
use qfleet_os::prepare;
use qfleet_testkit::{Guarded, RedisServer, Scratch, eventually};
use qfleet_worker::{Link, RecoverySettings};

/// Long enough for anything on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(120);

const ROLE: &str = "QFLEET_TEST_PLAYS_WORKER";
/// Value of [`ROLE`] for a worker that has no daemon.
const ALONE: &str = "alone";
const ENTRY: &str = "stage::plays_the_worker_for_the_other_tests";

/// A Redis, a directory, and what is made in them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) scratch: Scratch,
    processes: AtomicU32,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(RedisServer::start())
    }

    pub(crate) fn with(redis: RedisServer) -> Self {
        Self { redis, scratch: Scratch::new(), processes: AtomicU32::new(0) }
    }

    /// The settings of the first queue or pool of a manifest; the Redis is filled in. Names of Redis keys begin with `t_`.
    pub(crate) fn settings(&self, manifest: &str) -> WorkerSettings {
        let head = format!(
            "redis: {{url: \"redis+unix://{}\"}}\nconnections:\n  crm: {{driver: laravel, prefix: t_, retry-after: 90}}\n",
            self.redis.socket().display()
        );
        self.settings_of(&(head + manifest))
    }

    /// The same of a manifest that names its own Redis and connections.
    pub(crate) fn settings_of(&self, manifest: &str) -> WorkerSettings {
        let loaded = qfleet_manifest::load("test.yaml", manifest, &Outside);
        let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}\n{manifest}"));
        let groups = loaded.groups.into_iter();
        let worker = groups.filter_map(|group| match group.work {
            Work::Queue(worker) | Work::Pool(worker) => Some(worker),
            Work::Program { .. } | Work::Schedule(_) => None,
        });
        worker.into_iter().next().unwrap()
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) fn worker(&self, settings: &WorkerSettings) -> Process {
        let worker = self.worker_after(settings, Vec::new());
        worker.wait_for("ready", |message| *message == FromChild::Ready);
        worker
    }

    /// Starts a worker that has predecessors, and does not wait for it.
    pub(crate) fn worker_after(&self, settings: &WorkerSettings, after: Vec<PathBuf>) -> Process {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let ledger = self.scratch.join(&format!("ledger.{number}"));
        let settings = serde_json::to_value(settings).unwrap();
        let role = Role::Worker { settings, ledger: ledger.clone(), after };
        self.start(number, role, ledger, "yes")
    }

    /// Starts a worker that nobody supervises.
    pub(crate) fn worker_alone(&self, settings: &WorkerSettings) -> Process {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let ledger = self.scratch.join(&format!("ledger.{number}"));
        let settings = serde_json::to_value(settings).unwrap();
        self.start(
            number,
            Role::Worker { settings, ledger: ledger.clone(), after: Vec::new() },
            ledger,
            ALONE,
        )
    }

    /// Starts the recovery of a dead worker's jobs.
    pub(crate) fn recovery(&self, settings: &WorkerSettings, ledger: &Path) -> Process {
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        let settings = serde_json::to_value(settings).unwrap();
        self.start(number, Role::Recover { settings, ledger: ledger.to_owned() }, ledger.to_owned(), "yes")
    }

    /// Gives back what a dead worker held; how many were given back and buried.
    pub(crate) fn recover(&self, settings: &WorkerSettings, ledger: &Path) -> (u32, u32) {
        let mut process = self.recovery(settings, ledger);
        assert_eq!(process.wait(SOON), 0, "{}", process.log());
        assert!(!ledger.exists(), "the ledger is done with");
        let said = process.said();
        let recovered = said.iter().find_map(|message| match message {
            FromChild::Recovered { returned, buried, .. } => Some((*returned, *buried)),
            _ => None,
        });
        recovered.unwrap_or((0, 0))
    }

    fn start(&self, number: u32, role: Role, ledger: PathBuf, how: &str) -> Process {
        let (ours, its) = UnixStream::pair().unwrap();
        let log = self.scratch.join(&format!("log.{number}"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", ENTRY, "--nocapture", "--test-threads=1"]).env(ROLE, how);
        command.stdin(Stdio::from(OwnedFd::from(its))).stdout(Stdio::null()).stderr(file);
        let child = Guarded::spawn(&mut command);
        drop(command);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut heard, into) = (ours.try_clone().unwrap(), Arc::clone(&said));
        let listener = thread::spawn(move || {
            let (mut frames, mut buffer) = (Frames::default(), [0; 4096]);
            while let Ok(count @ 1..) = heard.read(&mut buffer) {
                frames.feed(&buffer[..count]);
                while let Some(message) = frames.next_message::<FromChild>().unwrap() {
                    into.lock().unwrap().push(message);
                }
            }
        });
        let process = Process { child, link: Some(ours), listener: Some(listener), said, ledger, log };
        let name = format!("test:test_{number:02}");
        let start = Start { name, preparation: Preparation::default(), role };
        process.tell(&ToChild::Start(Box::new(start)));
        process
    }

    /// Adds a payload to the ready list of a queue, as Laravel does.
    pub(crate) fn push(&self, queue: &str, payload: &[u8]) {
        let mut connection = self.redis.connection();
        let mut both = redis::pipe();
        both.atomic().cmd("RPUSH").arg(format!("t_queues:{queue}")).arg(payload);
        both.cmd("RPUSH").arg(format!("t_queues:{queue}:notify")).arg(1);
        both.exec(&mut connection).unwrap();
    }

    /// Jobs ready, delayed and reserved.
    pub(crate) fn depth(&self, queue: &str) -> (u64, u64, u64) {
        let mut connection = self.redis.connection();
        let key = format!("t_queues:{queue}");
        let mut all = redis::pipe();
        all.cmd("LLEN").arg(&key).cmd("ZCARD").arg(format!("{key}:delayed"));
        all.cmd("ZCARD").arg(format!("{key}:reserved"));
        all.query(&mut connection).unwrap()
    }

    /// Waits until a queue holds so many jobs ready, delayed and reserved.
    pub(crate) fn wait_depth(&self, queue: &str, wanted: (u64, u64, u64)) {
        eventually(SOON, &format!("{wanted:?} in `{queue}`, last {:?}", self.depth(queue)), || {
            (self.depth(queue) == wanted).then_some(())
        });
    }

    /// Payloads that wait in the ready list.
    pub(crate) fn ready(&self, queue: &str) -> Vec<String> {
        let key = format!("t_queues:{queue}");
        redis::cmd("LRANGE").arg(key).arg(0).arg(-1).query(&mut self.redis.connection()).unwrap()
    }

    /// Payloads that wait in the delayed set, and when they are due.
    pub(crate) fn delayed(&self, queue: &str) -> Vec<(String, f64)> {
        let key = format!("t_queues:{queue}:delayed");
        let mut command = redis::cmd("ZRANGE");
        command.arg(key).arg(0).arg(-1).arg("WITHSCORES");
        command.query(&mut self.redis.connection()).unwrap()
    }

    /// Failed jobs: id to reason and class.
    pub(crate) fn failed(&self) -> Vec<(String, String, String)> {
        let mut connection = self.redis.connection();
        let ids: Vec<String> =
            redis::cmd("ZRANGE").arg("t_qfleet:failed").arg(0).arg(-1).query(&mut connection).unwrap();
        ids.into_iter()
            .map(|id| {
                let mut command = redis::cmd("HMGET");
                command.arg(format!("t_qfleet:failed:{id}")).arg("reason").arg("class");
                let (reason, class): (String, Option<String>) = command.query(&mut connection).unwrap();
                (id, reason, class.unwrap_or_default())
            })
            .collect()
    }

    /// Keys under `queues:` that are left.
    pub(crate) fn queue_keys(&self) -> Vec<String> {
        redis::cmd("KEYS").arg("*queues:*").query(&mut self.redis.connection()).unwrap()
    }

    /// Lines of a file that jobs write to.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        self.scratch.read(name).lines().map(str::to_owned).collect()
    }

    /// Waits until a file that jobs write to has so many lines.
    pub(crate) fn wait_lines(&self, name: &str, count: usize) -> Vec<String> {
        eventually(SOON, &format!("{count} lines in `{name}`"), || {
            Some(self.lines(name)).filter(|lines| lines.len() >= count)
        })
    }
}

/// A worker (or recovery) process, with the daemon's end of its link.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) child: Guarded,
    link: Option<UnixStream>,
    listener: Option<thread::JoinHandle<()>>,
    said: Arc<Mutex<Vec<FromChild>>>,
    pub(crate) ledger: PathBuf,
    log: PathBuf,
}

impl Process {
    pub(crate) fn tell(&self, message: &ToChild) {
        let line = frame::line(message).unwrap();
        self.link.as_ref().unwrap().write_all(&line).unwrap();
    }

    pub(crate) fn drain(&self, limit: DrainLimit) {
        self.tell(&ToChild::Drain { limit });
    }

    /// Ends the link, as the death of the daemon does.
    pub(crate) fn cut_link(&mut self) {
        let link = self.link.take().unwrap();
        link.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// Waits for the end; gives the exit code.
    pub(crate) fn wait(&mut self, limit: Duration) -> i32 {
        let status = self.child.wait(limit);
        // What it said last is read when the link has ended.
        self.listener.take().map(thread::JoinHandle::join);
        status.code().unwrap_or_else(|| panic!("{status}\n{}", self.log()))
    }

    /// Drains without haste and waits for a clean end.
    pub(crate) fn finish(mut self) -> Report {
        self.drain(DrainLimit::JobsOwn);
        assert_eq!(self.wait(SOON), 0, "{}", self.log());
        assert!(!self.ledger.exists(), "nothing is left to recover");
        self.report()
    }

    pub(crate) fn said(&self) -> Vec<FromChild> {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&self, what: &str, test: impl Fn(&FromChild) -> bool) -> FromChild {
        eventually(SOON, &format!("{what} from the worker"), || {
            self.said().into_iter().find(|message| test(message))
        })
    }

    /// The latest figures.
    pub(crate) fn report(&self) -> Report {
        let reports = self.said().into_iter().rev();
        let mut reports = reports.filter_map(|message| match message {
            FromChild::Report(report) => Some(report),
            _ => None,
        });
        reports.next().unwrap_or_default()
    }

    pub(crate) fn wait_report(&self, what: &str, test: impl Fn(&Report) -> bool) -> Report {
        eventually(SOON, what, || Some(self.report()).filter(|report| test(report)))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Its log on standard error, where a failing test shows it.
    fn show(&self) {
        eprintln!("{:?}\n{}", self.report(), self.log());
    }

    /// How often its log has this text.
    pub(crate) fn logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show();
        }
    }
}

/// The outside as a manifest sees it: everything is there and allowed.
struct Outside;

impl qfleet_manifest::World for Outside {
    fn env(&self, _name: &str) -> Option<String> {
        None
    }

    fn read_secret(&self, path: &Path) -> Result<String, String> {
        Err(format!("no file `{}`", path.display()))
    }

    fn find_program(&self, name: &str, _path: Option<&str>, _cwd: Option<&Path>) -> Result<PathBuf, String> {
        Ok(PathBuf::from(name))
    }

    fn user_exists(&self, _name: &str, _group: Option<&str>) -> Result<(), String> {
        Ok(())
    }

    fn is_root(&self) -> bool {
        true
    }
}

/// Not a test: what the processes of all tests run. Does nothing unless it was started by [`Stage`].
#[test]
fn plays_the_worker_for_the_other_tests() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut link = prepare::take_link().unwrap();
    let (mut frames, mut buffer) = (Frames::default(), [0; 64 * 1024]);
    let start = loop {
        match frames.next_message().unwrap() {
            Some(ToChild::Start(start)) => break start,
            Some(other) => panic!("{other:?} came first"),
            None => {
                let count = link.read(&mut buffer).unwrap();
                frames.feed(&buffer[..count]);
            }
        }
    };
    let filter = tracing_subscriber::EnvFilter::new("info,qfleet_worker=debug,qfleet_queue=debug");
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let supervised = std::env::var(ROLE).unwrap() != ALONE;
    let link = supervised.then(|| Link::new(link, frames));
    let code = runtime.block_on(async {
        match start.role {
            Role::Worker { settings, ledger, after } => {
                qfleet_worker::run(serde_json::from_value(settings).unwrap(), ledger, after, link).await
            }
            Role::Recover { settings, ledger } => {
                let settings: RecoverySettings = serde_json::from_value(settings).unwrap();
                qfleet_worker::recover(settings, ledger, link).await
            }
            Role::Program { .. } | Role::Once { .. } => panic!("no case asks for a program"),
        }
    });
    std::process::exit(code);
}
