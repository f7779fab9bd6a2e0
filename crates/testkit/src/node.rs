//! A real Node process with the libraries whose queues are tested, which does what a test tells it to.
//!
//! The libraries are installed once by `scripts/set-up.sh` under `target/node`, as `node/package-lock.json` of this crate
//! names them.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Guarded, RedisCluster, RedisServer};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/session.js");
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/node/node_modules");
const ANSWERS_WITHIN: Duration = Duration::from_secs(180);

/// A Node process with one library and one Redis; killed when dropped.
#[derive(Debug)]
pub struct Node {
    process: Mutex<Guarded>,
    line: Mutex<Line>,
}

#[derive(Debug)]
struct Line {
    input: ChildStdin,
    output: Receiver<String>,
    calls: u64,
}

impl Node {
    /// Starts it. `library` is `bullmq` (5), `bullmq6` or `bull` (4).
    #[must_use]
    pub fn start(library: &str, redis: &RedisServer) -> Self {
        Self::launch(library, redis.socket().as_os_str())
    }

    /// Starts it on a cluster, where the prefix of all queues is `{bull}`.
    #[must_use]
    pub fn start_on_cluster(library: &str, cluster: &RedisCluster) -> Self {
        let ports: Vec<String> = cluster.ports().iter().map(u16::to_string).collect();
        Self::launch(library, format!("cluster:{}", ports.join(",")).as_ref())
    }

    fn launch(library: &str, place: &OsStr) -> Self {
        let mut command = Self::script(Path::new(SCRIPT));
        command.arg(library).arg(place);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Guarded::spawn(&mut command);
        let input = process.child().stdin.take().expect("a pipe");
        let output = process.child().stdout.take().expect("a pipe");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let line = Line { input, output: lines, calls: 0 };
        Self { process: Mutex::new(process), line: Mutex::new(line) }
    }

    /// A command that runs another script with the same libraries.
    ///
    /// # Panics
    /// When they are not installed.
    #[must_use]
    pub fn script(path: &Path) -> Command {
        assert!(
            Path::new(MODULES).is_dir(),
            "the libraries for Node are not installed; `scripts/set-up.sh test` does that"
        );
        let mut command = Command::new("node");
        command.arg(path).env("NODE_PATH", MODULES);
        command
    }

    /// Runs the body of an async function that is given `kit` (see `node/session.js`), and returns what it returns.
    ///
    /// # Panics
    /// When it throws, with what it threw.
    pub fn run(&self, code: &str) -> Value {
        let mut line = self.line.lock().expect("a call that did not panic");
        line.calls += 1;
        let id = line.calls;
        writeln!(line.input, "{}", json!({ "id": id, "code": code })).expect("a Node process that listens");
        let answer = line.output.recv_timeout(ANSWERS_WITHIN).unwrap_or_else(|_| {
            panic!("no answer of Node in {ANSWERS_WITHIN:?} to: {code}");
        });
        let mut answer: Value = serde_json::from_str(&answer).expect("an answer as a line of JSON");
        assert_eq!(answer["id"], id, "answers come in the order of the calls");
        if let Some(error) = answer.get("error") {
            panic!("{}\nin: {code}", error.as_str().unwrap_or_default());
        }
        answer["value"].take()
    }

    /// Kills it as a crash would.
    pub fn kill9(&self) {
        self.process.lock().expect("a call that did not panic").kill9();
    }
}
