//! A running fleet in a scratch directory, and what a person does with it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use qfleet_testkit::{Guarded, RedisServer, Scratch, eventually};
use serde_json::Value;

mod pace;

pub(crate) use pace::Pace;

/// Long enough for a machine with two cores that has much else to do and may stand still for a while, short enough to notice a
/// hang.
pub(crate) const SOON: Duration = Duration::from_secs(120);

/// The binary under test.
pub(crate) const QFLEET: &str = env!("CARGO_BIN_EXE_qfleet");

/// A daemon on a manifest of its own.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) dir: Scratch,
    daemon: Guarded,
    runs: u32,
}

impl Fleet {
    /// Starts a daemon on `manifest`, in which `{dir}` stands for the scratch directory; a control socket is added, at
    /// `{dir}/q.sock`, unless there is one.
    pub(crate) fn start(manifest: &str) -> Self {
        Self::start_through(&[], manifest)
    }

    /// The same, by a command that ends with executing its further arguments.
    pub(crate) fn start_through(starter: &[&str], manifest: &str) -> Self {
        let dir = Scratch::new();
        write_manifest(&dir, manifest);
        let daemon = spawn_daemon(&dir, 0, starter);
        let mut fleet = Self { dir, daemon, runs: 0 };
        eventually(SOON, "the control socket to answer", || {
            if let Some(status) = fleet.daemon.ended() {
                panic!("the daemon ended with {status}\n{}", fleet.log());
            }
            fleet.qfleet(&["pid"]).status.success().then_some(())
        });
        fleet
    }

    /// Starts a daemon whose queues' processes are all up.
    pub(crate) fn start_and_wait(manifest: &str) -> Self {
        let fleet = Self::start(manifest);
        fleet.wait_all_running();
        fleet
    }

    /// Writes another manifest; nobody reads it until a reload.
    pub(crate) fn rewrite(&self, manifest: &str) {
        write_manifest(&self.dir, manifest);
    }

    /// Starts another daemon in the same place, also while an old one's workers live.
    pub(crate) fn start_another(&mut self) {
        self.runs += 1;
        self.daemon = spawn_daemon(&self.dir, self.runs, &[]);
        eventually(SOON, "the new daemon's socket to answer", || {
            let pid = self.qfleet(&["pid"]);
            (pid.status.success() && text(&pid.stdout).trim() == self.daemon.pid().to_string()).then_some(())
        });
    }

    /// Runs a command to its end.
    pub(crate) fn qfleet(&self, args: &[&str]) -> Output {
        let mut command = command(&self.dir, &[]);
        command.env("QFLEET_SOCKET", self.dir.join("q.sock"));
        command.args(args).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed; gives its output.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.qfleet(args);
        assert!(
            output.status.success(),
            "qfleet {args:?}: {}\n{}{}\ndaemon:\n{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr),
            self.log()
        );
        text(&output.stdout)
    }

    /// `status --json`, whatever its exit code.
    pub(crate) fn status(&self) -> Vec<Value> {
        let output = self.qfleet(&["status", "--json"]);
        match serde_json::from_slice(&output.stdout) {
            Ok(Value::Array(list)) => list,
            other => panic!("status --json gave {other:?}: {}\n{}", text(&output.stderr), self.log()),
        }
    }

    /// One process of the status list.
    pub(crate) fn process(&self, name: &str) -> Value {
        let list = self.status();
        list.iter()
            .find(|process| process["name"] == name)
            .unwrap_or_else(|| panic!("`{name}` is not in {list:?}"))
            .clone()
    }

    /// The state of a process in supervisord's words.
    pub(crate) fn state(&self, name: &str) -> String {
        self.process(name)["state"].as_str().unwrap().to_owned()
    }

    /// Waits for a process to be in a state.
    #[track_caller]
    pub(crate) fn wait_state(&self, name: &str, state: &str) {
        eventually(SOON, &format!("`{name}` to be {state}"), || (self.state(name) == state).then_some(()));
    }

    /// Waits until every process is RUNNING.
    #[track_caller]
    pub(crate) fn wait_all_running(&self) {
        eventually(SOON, "every process to be RUNNING", || {
            let list = self.status();
            (!list.is_empty() && list.iter().all(|process| process["state"] == "RUNNING")).then_some(())
        });
    }

    /// The process number of a process.
    pub(crate) fn pid_of(&self, name: &str) -> i32 {
        i32::try_from(self.process(name)["pid"].as_i64().unwrap_or_else(|| panic!("`{name}` has no pid")))
            .unwrap()
    }

    /// The daemon's process number.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.daemon.pid()).unwrap()
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Waits for the daemon's end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.daemon.wait(SOON)
    }

    /// Drains with SIGTERM; gives the exit code.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        status.code().unwrap_or_else(|| panic!("the daemon ended with {status}\n{}", self.log()))
    }

    /// Kills the daemon with SIGKILL, and nobody else.
    pub(crate) fn kill9(&mut self) {
        self.signal(Signal::SIGKILL);
        self.daemon.wait(SOON);
    }

    /// Everything the daemon and its children have written so far.
    pub(crate) fn log(&self) -> String {
        (0..=self.runs).map(|run| self.dir.read(&format!("log.{run}"))).collect()
    }
}

fn write_manifest(dir: &Scratch, manifest: &str) {
    let place = dir.path().display().to_string();
    let mut text = manifest.replace("{dir}", &place);
    if !text.contains("\ncontrol:") {
        text.push_str(&format!("\ncontrol: {{socket: {place}/q.sock}}\n"));
    }
    dir.write("qfleet.yaml", text);
}

fn command(dir: &Scratch, starter: &[&str]) -> Command {
    let words = [starter, &[QFLEET]].concat();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .current_dir(dir.path())
        .env("QFLEET_CONFIG", dir.join("qfleet.yaml"))
        .env_remove("QFLEET_SOCKET")
        .env_remove("NOTIFY_SOCKET");
    command
}

fn spawn_daemon(dir: &Scratch, run: u32, starter: &[&str]) -> Guarded {
    let log = File::create(dir.join(&format!("log.{run}"))).unwrap();
    let mut run_command = command(dir, starter);
    run_command.arg("run").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    run_command.process_group(0);
    Guarded::spawn(&mut run_command)
}

/// Bytes as text, for messages.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A Laravel payload of a string handler, as an application would push it.
pub(crate) fn payload(n: usize, extra: &str) -> String {
    format!(
        r#"{{"uuid":"00000000-0000-4000-8000-{n:012}","displayName":"App\\Jobs\\Job{n}","job":"App\\Jobs\\Job@fire","maxTries":null,"maxExceptions":null,"failOnTimeout":false,"backoff":null,"timeout":null,"data":{{"n":{n},"none":[],"big":9007199254740993}},"id":"id{n:030}","attempts":0{extra}}}"#
    )
}

/// Pushes payloads the way Laravel does, and all at once: nobody sees some of them only.
pub(crate) fn push(redis: &RedisServer, queue: &str, payloads: impl IntoIterator<Item = String>) {
    let mut connection = redis.connection();
    let mut pipe = redis::pipe();
    pipe.atomic();
    for payload in payloads {
        pipe.rpush(format!("queues:{queue}"), payload).ignore();
        pipe.rpush(format!("queues:{queue}:notify"), 1).ignore();
    }
    pipe.query::<()>(&mut connection).unwrap();
}

/// Every key of Laravel's queues that is left.
pub(crate) fn queue_keys(redis: &RedisServer) -> Vec<String> {
    redis::cmd("KEYS").arg("*queues:*").query(&mut redis.connection()).unwrap()
}

/// Waits until no job is left anywhere in the queues.
#[track_caller]
pub(crate) fn wait_empty(redis: &RedisServer, fleet: &Fleet) {
    let mut left = Vec::new();
    let deadline = std::time::Instant::now() + SOON;
    while std::time::Instant::now() < deadline {
        left = queue_keys(redis);
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("still there: {left:?}\n{}", fleet.log());
}

/// Lines of a file that a shell handler appends to.
pub(crate) fn lines(fleet: &Fleet, name: &str) -> Vec<String> {
    std::fs::read_to_string(fleet.dir.join(name)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// A script in the fleet's directory-to-be; shell handlers are resolved when the manifest is read.
pub(crate) fn script(dir: &Scratch, name: &str, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.write(name, format!("#!/bin/sh\n{body}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// The parent of a process, while it exists.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Living children of a process, by process number.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}
