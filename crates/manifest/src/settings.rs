//! The file as meant: every value valid, every default filled in, every reference resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use qfleet_model::name::ProcessName;
pub use qfleet_model::process::Autorestart;
use qfleet_model::scale::Rule;
pub use qfleet_model::schedule::{Missed, Overlap};
pub use qfleet_model::start::EnvFile;
use serde::{Deserialize, Serialize};

pub use crate::logs::Logs;
use crate::probes::{Health, Ready};
use crate::problem::Problem;
use crate::queue::{Connection, FailedJobs, Lane, RedisSettings};
use crate::secret::Secret;

/// A whole manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Queues, pools, programs and schedules in the order of the file.
    pub groups: Vec<Group>,
    /// Every connection by name; the nameless `redis:` section with the Laravel driver is `default` when none is named.
    pub connections: BTreeMap<String, Connection>,
    /// The `redis:` section.
    pub redis: RedisSettings,
    /// Every queue as workers see it, in the order of the file, also those inside pools.
    pub lanes: Vec<Lane>,
    /// Where Laravel jobs go that failed for good.
    pub failed_jobs: FailedJobs,
    /// The control socket.
    pub control: Control,
    /// Log lines of the daemon and of its children.
    pub logging: Logging,
    /// What holds for all groups together.
    pub overall: Overall,
    /// Names of variables used in secrets; children do not inherit them.
    pub secret_variables: Vec<String>,
    /// Things that are allowed and probably not meant.
    #[serde(skip)]
    pub warnings: Vec<Problem>,
}

impl Manifest {
    /// The group of this name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The queue of this manifest name.
    #[must_use]
    pub fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name == name)
    }
}

/// A queue, a pool, a program or a schedule: processes that are named, started and scaled together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name in status and commands.
    pub name: String,
    /// Settings of the processes.
    pub process: ProcessSettings,
    /// What the processes do.
    pub work: Work,
}

impl Group {
    /// What `count` processes of this group are called, by number.
    #[must_use]
    pub fn names(&self, count: u32) -> Vec<ProcessName> {
        let first = match self.work {
            Work::Program { .. } if count == 1 => return vec![ProcessName::single(&self.name)],
            Work::Schedule(ref schedule) if schedule.overlap != Overlap::Allow => {
                return (0..count.min(1)).map(|_| ProcessName::single(&self.name)).collect();
            }
            Work::Program { .. } => self.process.numprocs_start,
            Work::Queue(_) | Work::Pool(_) | Work::Schedule(_) => 0,
        };
        let numbers = first..first.saturating_add(count);
        numbers.map(|number| ProcessName::numbered(&self.name, number)).collect()
    }
}

/// What the processes of a group do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Serve one queue.
    Queue(WorkerSettings),
    /// Serve several queues.
    Pool(WorkerSettings),
    /// Execute a command.
    Program {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// Execute a command at its dates.
    Schedule(ScheduleSettings),
}

/// A command and its dates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSettings {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The pattern of its dates, as cron writes them.
    pub cron: String,
    /// Where the pattern's hours are.
    #[serde(with = "jiff::fmt::serde::tz::required")]
    pub zone: TimeZone,
    /// What happens when a date comes and the run before still runs.
    pub overlap: Overlap,
    /// A run that takes longer is stopped.
    pub timeout: Option<Duration>,
    /// A run begins up to this much later than its date.
    pub jitter: Duration,
    /// What becomes of dates at which nobody could start the run.
    pub missed: Missed,
    /// Of several hosts with the same schedule one runs a date, whichever is the first to write so in this Redis.
    pub once: Option<RedisSettings>,
}

/// How the processes of a group are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSettings {
    /// How many; where the number follows the backlog, how many at least.
    pub numprocs: u32,
    /// What the number follows; `None`: it is fixed.
    #[serde(default)]
    pub scale: Option<Rule>,
    /// Number of the first one (programs).
    pub numprocs_start: u32,
    /// Started in ascending, stopped in descending order.
    pub priority: i32,
    /// Groups whose processes are up before these start, and end after these have.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// Start with the daemon.
    pub autostart: bool,
    /// A program is up after living this long; zero: at once. Workers say so themselves.
    pub startsecs: Duration,
    /// Retries before FATAL.
    pub startretries: u32,
    /// Pause after which what is FATAL is tried once more, longer each time; `None`: never.
    #[serde(default)]
    pub retry_fatal: Option<Duration>,
    /// How long a worker may take until it is ready.
    pub start_wait: Duration,
    /// What to do when it ends by itself.
    pub autorestart: Autorestart,
    /// Exit codes that are expected.
    pub exitcodes: Vec<i32>,
    /// The whole fleet ends when it fails for good, or has done its work.
    pub essential: bool,
    /// A further process is up before one is taken away to be replaced (workers).
    #[serde(default)]
    pub overlap: bool,
    /// Signal number that asks it to end.
    pub stop_signal: i32,
    /// Further signals, each so long after the first one (programs).
    #[serde(default)]
    pub stop_again: Vec<(Duration, i32)>,
    /// These go to the whole process group, not to the program alone.
    #[serde(default = "yes")]
    pub stop_as_group: bool,
    /// The same of SIGKILL.
    #[serde(default = "yes")]
    pub kill_as_group: bool,
    /// How long ending may take.
    pub stop_wait: Duration,
    /// After a forced stop of jobs, how long until SIGKILL.
    pub kill_after: Duration,
    /// Login name or number to become.
    pub user: Option<String>,
    /// Group name or number, else the user's own.
    pub group: Option<String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Added to the nice value.
    pub nice: Option<i32>,
    /// Whether nothing it executes gives it more rights; `None`: if it becomes another user.
    #[serde(default)]
    pub no_new_privileges: Option<bool>,
    /// Soft and hard resource limits by name.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Variables on top of the inherited ones.
    pub environment: BTreeMap<String, String>,
    /// Files of variables, read at each start; `environment` is on top of them, later files on earlier ones.
    #[serde(default)]
    pub env_files: Vec<EnvFile>,
    /// Inherit the daemon's variables, less those named in secrets; `false`: PATH, HOME, LANG, TZ only.
    pub inherit_environment: bool,
    /// How it is found out that it is up (programs); `None`: that it lives is enough.
    #[serde(default)]
    pub ready: Option<Ready>,
    /// How it is found out that it has to be replaced (programs).
    #[serde(default)]
    pub health: Option<Health>,
    /// Replaced above this much memory of its own and of its group, in bytes (programs; workers look themselves).
    #[serde(default)]
    pub memory: Option<u64>,
    /// Standard error goes where standard output goes (programs).
    pub redirect_stderr: bool,
    /// Where output goes.
    #[serde(default)]
    pub logs: Logs,
}

/// What holds for all groups together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overall {
    /// From the wish to end until nothing lives any more; `None`: as long as the groups' own limits allow.
    pub shutdown_timeout: Option<Duration>,
    /// Processes that may be missing at once because they are being replaced; `None`: a tenth of all.
    pub replace_at_once: Option<u32>,
}

/// Settings written by a version that did not have them.
const fn yes() -> bool {
    true
}

/// Settings of one worker process, as they travel to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// The group's name.
    pub group: String,
    /// Queues it serves: one, or a pool's.
    pub lanes: Vec<Lane>,
    /// Jobs at once in the process.
    pub concurrency: u32,
    /// Replaced after this long (spread by ±10 %).
    pub max_time: Option<Duration>,
    /// Replaced after this many jobs.
    pub max_jobs: Option<u64>,
    /// Replaced between jobs above this much private memory, in bytes.
    pub memory: Option<u64>,
    /// Longest sleep until a change that cannot wake us is seen.
    pub sleep: Duration,
    /// Limit for stop and shutdown.
    pub stop_wait: Duration,
    /// From TERM to KILL of a job's processes.
    pub kill_after: Duration,
    /// The connections its queues use.
    pub connections: BTreeMap<String, Connection>,
    /// Where failed Laravel jobs go.
    pub failed_jobs: FailedJobs,
    /// Variables that job processes must not inherit.
    pub secret_variables: Vec<String>,
}

/// The control socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Where it is; `None`: `/run/qfleet/qfleet.sock` or under `$XDG_RUNTIME_DIR`.
    pub socket: Option<PathBuf>,
    /// File mode of the socket.
    pub mode: u32,
    /// Group that owns the socket.
    pub group: Option<String>,
    /// Where it listens on TCP, too.
    pub listen: Option<SocketAddr>,
    /// Who may come in over TCP; nobody is asked when it is empty.
    pub logins: Vec<Login>,
}

/// Somebody who may come in over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Without a colon.
    pub username: String,
    /// In clear, or `{SHA}` and the SHA-1 of it in hex.
    pub password: Secret,
}

/// Log lines of the daemon and of its children.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logging {
    /// Text or JSON.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: Level,
    /// Directory for one file a process; `None`: our own output only.
    pub dir: Option<PathBuf>,
    /// A log file is rotated at this size, in bytes.
    pub max_size: u64,
    /// Rotated files kept.
    pub keep: u32,
}

/// Formats of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Unusual, handled.
    Warn,
    /// What an operator did or the daemon changed.
    Info,
    /// Each job.
    Debug,
    /// Everything.
    Trace,
}
