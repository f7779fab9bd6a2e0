//! Every key of a manifest, section by section: what there is, what is still to come, and what others call it.
//!
//! The tables are the one list of settings: readers may only ask for keys that are in them, unknown keys are judged by
//! them, and the test of `config.example.yaml` wants every one of them shown.

/// The keys of one section.
#[derive(Debug)]
pub struct Table {
    /// The section as a path, e.g. `queues.NAME`.
    pub section: &'static str,
    /// Keys that have a meaning, in groups that several sections share.
    pub known: &'static [&'static [&'static str]],
    /// Keys that will have a meaning.
    pub later: &'static [&'static str],
    /// Keys that others use, in groups that several sections share.
    pub instead: &'static [Hints],
}

/// What others write, with what to do here.
type Hints = &'static [(&'static str, &'static str)];

impl Table {
    /// Every key with a meaning.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.known.iter().flat_map(|group| group.iter().copied())
    }

    /// What to do here for a key that others use.
    #[must_use]
    pub fn hint(&self, name: &str) -> Option<&'static str> {
        let mut all = self.instead.iter().flat_map(|group| group.iter());
        all.find(|(other, _)| *other == name).map(|(_, hint)| *hint)
    }

    /// Whether the key has a meaning.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }
}

/// Every section.
pub const TABLES: &[&Table] = &[
    &DOCUMENT,
    &REDIS,
    &CONNECTION,
    &FAILED_JOBS,
    &DEFAULTS,
    &QUEUE,
    &OVERRIDE,
    &BACKOFF,
    &KEEP,
    &RATE_LIMIT,
    &POOL,
    &PROGRAM,
    &STOP_STEP,
    &READY,
    &HEALTH,
    &SCHEDULE,
    &ONCE,
    &NUMPROCS,
    &SCALE,
    &BUDGET,
    &LIMITS,
    &LOGS,
    &ROUTE,
    &HANDLER,
    &HTTP,
    &SIGNING_KEY,
    &SHELL,
    &CONTROL,
    &AUTH,
    &LOGGING,
];

/// The top of the file.
pub const DOCUMENT: Table = Table {
    section: "",
    known: &[&[
        "redis",
        "connections",
        "defaults",
        "queues",
        "pools",
        "programs",
        "schedules",
        "timezone",
        "budgets",
        "failed-jobs",
        "control",
        "logging",
        "shutdown-timeout",
        "replace-at-once",
    ]],
    later: &["http", "alerts", "telemetry"],
    instead: &[&[
        ("supervisord", "settings of the daemon are in `control` and `logging`"),
        ("unix_http_server", "the socket is `control: {socket: …}`"),
        ("inet_http_server", "write `control: {listen: …, auth: …}`"),
        ("programs:", "write `programs:`"),
        ("workers", "worker processes belong to `queues`; plain commands to `programs`"),
        ("handlers", "a handler is written where it is used: `queues: {NAME: {handler: …}}`"),
    ]],
};

/// Where Redis is; also inside a connection.
pub const REDIS: Table = Table {
    section: "redis",
    known: &[&["url", "url-file", "username", "password", "password-file", "database", "ca-file"]],
    later: &["client-cert", "client-key", "server-name"],
    instead: &[&[
        ("host", "write `url: redis://HOST:PORT/DATABASE`"),
        ("port", "write `url: redis://HOST:PORT/DATABASE`"),
        ("socket", "write `url: redis+unix:///path/to/redis.sock`"),
        ("db", "write `database`"),
        ("prefix", "the prefix belongs to a connection: `connections: {NAME: {prefix: …}}`"),
    ]],
};

/// Who writes the jobs.
pub const CONNECTION: Table = Table {
    section: "connections.NAME",
    known: &[
        &["driver", "redis", "prefix", "retry-after", "laravel-name", "cluster-keys", "failed-jobs"],
        &["url", "url-file", "username", "password", "password-file", "database", "ca-file"],
    ],
    later: &["table"],
    instead: &[&[
        ("lock-duration", "this belongs to the queues: write it there, or under `defaults` for all of them"),
        (
            "stalled-interval",
            "this belongs to the queues: write it there, or under `defaults` for all of them",
        ),
        ("max-stalled", "this belongs to the queues: write it there, or under `defaults` for all of them"),
        ("keep-completed", "this belongs to the queues: write it there, or under `defaults` for all of them"),
        ("keep-failed", "this belongs to the queues: write it there, or under `defaults` for all of them"),
        ("metrics", "this belongs to the queues: write it there, or under `defaults` for all of them"),
        ("accept-version", "this belongs to the queues: write it there, or under `defaults` for all of them"),
        ("host", "write `url: redis://HOST:PORT/DATABASE`"),
        ("port", "write `url: redis://HOST:PORT/DATABASE`"),
        ("queue", "queues are listed under `queues`"),
        ("block-for", "not needed: workers sleep in Redis and wake at once"),
        ("after-commit", "this is the producer's setting, not the worker's"),
        ("connection", "write `url: redis://…`, or `laravel-name` for the name in config/queue.php"),
    ]],
};

/// Where Laravel jobs go that failed for good.
pub const FAILED_JOBS: Table = Table {
    section: "failed-jobs",
    known: &[&["driver"]],
    later: &["url", "url-file", "table", "keep"],
    instead: &[],
};

/// What both kinds of processes have.
const PROCESS: &[&str] = &[
    "numprocs",
    "priority",
    "depends-on",
    "autostart",
    "startretries",
    "retry-fatal",
    "essential",
    "stop-wait",
    "user",
    "group",
    "cwd",
    "umask",
    "nice",
    "no-new-privileges",
    "limits",
    "environment",
    "env-file",
    "env",
    "logs",
];

/// What only worker processes have.
const WORKER: &[&str] = &["max-time", "max-jobs", "memory", "start-wait", "kill-after", "scale", "overlap"];

/// What queues have beyond processes.
const QUEUE_OWN: &[&str] = &[
    "connection",
    "concurrency",
    "tries",
    "timeout",
    "backoff",
    "override",
    "sleep",
    "snooze-max",
    "snooze-age",
    "max-delay",
    "delay-as-backoff",
    "redeliver",
    "handler",
    "routes",
];

/// What only queues of Node's libraries have.
pub(crate) const NODE: &[&str] = &[
    "lock-duration",
    "stalled-interval",
    "max-stalled",
    "keep-completed",
    "keep-failed",
    "metrics",
    "accept-version",
];

const QUEUE_LATER: &[&str] = &["limit", "fetch-ahead", "ready", "health"];

const QUEUE_INSTEAD: Hints = &[
    ("command", "commands belong to `programs`; a queue's jobs go to its `handler`"),
    ("http", "write `handler: {http: …}`"),
    ("shell", "write `handler: {shell: …}`"),
    ("process", "write `handler: {process: …}`"),
    ("workers", "write `numprocs` for processes, `concurrency` for jobs at once in each"),
    ("processes", "write `numprocs`"),
    ("rest", "not needed: concurrency and `rate-limit` decide"),
    ("force", "not needed: there is no maintenance mode to ignore"),
    ("stop-when-empty", "not yet in this version"),
    ("retry-after", "this belongs to the connection: `connections: {NAME: {retry-after: …}}`"),
    ("prefix", "this belongs to the connection: `connections: {NAME: {prefix: …}}`"),
    ("driver", "this belongs to the connection: `connections: {NAME: {driver: …}}`"),
    ("startsecs", "not needed: a worker says itself when it is ready"),
    ("autorestart", "not needed: workers are always started again"),
    ("exitcodes", "not needed: workers are always started again"),
    ("stop-signal", "not needed: workers are asked to drain"),
    ("redirect-stderr", "not needed: workers have one log"),
    ("presence", "not needed: a process of one queue is always seen; write it on a pool"),
];

/// The layer under every queue.
pub const DEFAULTS: Table = Table {
    section: "defaults",
    known: &[QUEUE_OWN, NODE, PROCESS, WORKER],
    later: QUEUE_LATER,
    instead: &[&[
        ("queue", "every queue has its own; write it there"),
        ("presence", "every pool has its own; write it there"),
        ("rate-limit", "every queue has its own; write it there"),
        ("retry-after", "this belongs to the connection: `connections: {NAME: {retry-after: …}}`"),
    ]],
};

/// A queue.
pub const QUEUE: Table = Table {
    section: "queues.NAME",
    known: &[&["queue", "rate-limit"], QUEUE_OWN, NODE, PROCESS, WORKER],
    later: QUEUE_LATER,
    instead: &[QUEUE_INSTEAD],
};

/// Limits that win over the job's own.
pub const OVERRIDE: Table = Table {
    section: "queues.NAME.override",
    known: &[&["tries", "timeout", "backoff"]],
    later: &[],
    instead: &[],
};

/// The pause before the next attempt, as a section.
pub const BACKOFF: Table = Table {
    section: "queues.NAME.backoff",
    known: &[&["type", "delay"]],
    later: &["jitter", "max"],
    instead: &[],
};

/// Which finished jobs stay, as a section.
pub const KEEP: Table = Table {
    section: "queues.NAME.keep-completed",
    known: &[&["count", "age"]],
    later: &[],
    instead: &[&[("limit", "how many go at once is no setting; write `count`, `age` or both")]],
};

/// Starts in a time.
pub const RATE_LIMIT: Table = Table {
    section: "queues.NAME.rate-limit",
    known: &[&["max", "per"]],
    later: &[],
    instead: &[&[
        ("duration", "write `per`"),
        ("groupKey", "not yet in this version"),
        ("bounceBack", "remove it: a job that has to wait stays where it is"),
    ]],
};

/// Several queues in the same processes.
pub const POOL: Table = Table {
    section: "pools.NAME",
    known: &[&["queues", "concurrency", "sleep", "presence"], PROCESS, WORKER],
    later: &["ready", "health"],
    instead: &[&[
        ("queue", "write `queues: […]`"),
        ("handler", "each queue of the pool has its own, under `queues`"),
        ("tries", "each queue of the pool has its own, under `queues`"),
        ("timeout", "each queue of the pool has its own, under `queues`"),
        ("backoff", "each queue of the pool has its own, under `queues`"),
    ]],
};

/// A plain supervised command.
pub const PROGRAM: Table = Table {
    section: "programs.NAME",
    known: &[
        &[
            "command",
            "numprocs-start",
            "startsecs",
            "autorestart",
            "exitcodes",
            "stop-signal",
            "stop-as-group",
            "kill-as-group",
            "redirect-stderr",
            "ready",
            "health",
            "memory",
        ],
        PROCESS,
    ],
    later: &["sockets", "limits-by-cgroup"],
    instead: &[OF_PROGRAMS, OF_COMMANDS],
};

/// What supervisord and others call it where a command is executed.
const OF_COMMANDS: Hints = &[
    ("stopwaitsecs", "write `stop-wait`"),
    ("kill-after", "write `stop-wait`: how long ending may take before SIGKILL"),
    ("directory", "write `cwd`"),
    ("argv", "write `command`, as one line or as a list"),
    ("cmd", "write `command`"),
    ("env_file", "write `env-file`"),
];

/// What supervisord and others call it where something is to be up.
const OF_PROGRAMS: Hints = &[
    ("scale", "programs have one number of processes; queues and pools can follow their backlog"),
    ("stopsignal", "write `stop-signal`"),
    ("process_name", "remove it: processes are named `NAME`, or `NAME:NAME_00` with several"),
    ("stdout_logfile", "write `logs: {file: …}`, or `logging: {dir: …}` for one file a process"),
    ("stderr_logfile", "write `logs: {stderr-file: …}`, or `logging: {dir: …}` for one file a process"),
    ("stdout_logfile_maxbytes", "write `logs: {max-size: …}`"),
    ("stderr_logfile_maxbytes", "write `logs: {max-size: …}`"),
    ("stdout_logfile_backups", "write `logs: {keep: …}`"),
    ("stderr_logfile_backups", "write `logs: {keep: …}`"),
    ("stdout_capture_maxbytes", "remove it: capture mode has no counterpart"),
    ("stderr_capture_maxbytes", "remove it: capture mode has no counterpart"),
    ("stdout_events_enabled", "remove it: events have no counterpart"),
    ("stderr_events_enabled", "remove it: events have no counterpart"),
    ("stdout_syslog", "remove it: output goes to ours, which the service manager can log"),
    ("stderr_syslog", "remove it: output goes to ours, which the service manager can log"),
    ("stopasgroup", "write `stop-as-group`; left out, a program's whole process group is meant"),
    ("killasgroup", "write `kill-as-group`; left out, a program's whole process group is meant"),
    ("serverurl", "remove it: the commands find the control socket themselves"),
    ("cron", "what runs at dates is written under `schedules`"),
    (
        "overlap",
        "queues, pools and schedules have it; of a program's processes one is replaced after the other",
    ),
    ("once", "only schedules have it; what runs at dates is written under `schedules`"),
    ("restart", "write `autorestart`"),
];

/// How it is found out that a program is ready.
pub const READY: Table = Table {
    section: "programs.NAME.ready",
    known: &[&["tcp", "http", "command", "notify", "interval", "timeout", "within"]],
    later: &[],
    instead: &[&[
        ("url", "write `http`"),
        ("port", "write `tcp: \"127.0.0.1:PORT\"`"),
        ("exec", "write `command`"),
    ]],
};

/// How it is found out that a program is healthy.
pub const HEALTH: Table = Table {
    section: "programs.NAME.health",
    known: &[&["tcp", "http", "command", "interval", "timeout", "failures", "start-period"]],
    later: &[],
    instead: &[&[
        ("url", "write `http`"),
        ("port", "write `tcp: \"127.0.0.1:PORT\"`"),
        ("exec", "write `command`"),
        ("test", "write `command`"),
        ("retries", "write `failures`"),
    ]],
};

/// One of several signals that ask a program to end.
pub const STOP_STEP: Table = Table {
    section: "programs.NAME.stop-signal[]",
    known: &[&["signal", "wait"]],
    later: &[],
    instead: &[&[("timeout", "write `wait`"), ("after", "write `wait` on the signal before it")]],
};

/// A command that runs at its dates.
pub const SCHEDULE: Table = Table {
    section: "schedules.NAME",
    known: &[&[
        "cron",
        "timezone",
        "command",
        "overlap",
        "timeout",
        "jitter",
        "missed",
        "once",
        "exitcodes",
        "stop-signal",
        "stop-wait",
        "redirect-stderr",
        "priority",
        "depends-on",
        "user",
        "group",
        "cwd",
        "umask",
        "nice",
        "no-new-privileges",
        "limits",
        "environment",
        "env-file",
        "env",
        "logs",
    ]],
    later: &[],
    instead: &[
        OF_COMMANDS,
        &[
            ("numprocs", "remove it: each date is one run; `overlap: allow` lets runs overlap"),
            ("autostart", "remove it: it runs at its dates; `qfleet stop` holds it"),
            ("autorestart", "remove it: the next date is the next run"),
            ("startsecs", "remove it: a run may end as soon as it likes"),
            ("startretries", "remove it: the next date is the next run"),
            ("tries", "remove it: the next date is the next run"),
            ("schedule", "write `cron`"),
            ("every", "write `cron`: `*/5 * * * *` is every five minutes"),
            ("interval", "write `cron`: `*/5 * * * *` is every five minutes"),
            ("tz", "write `timezone`"),
            ("time-zone", "write `timezone`"),
            ("without-overlapping", "write `overlap: skip`"),
            ("on-one-server", "write `once: redis`"),
            ("max-time", "write `timeout`"),
            ("handler", "a schedule executes a `command`; a command can push a job: `qfleet push …`"),
        ],
    ],
};

/// Over which Redis several hosts agree who runs a date, as a section.
pub const ONCE: Table = Table {
    section: "schedules.NAME.once",
    known: &[&["connection"]],
    later: &[],
    instead: &[&[("redis", "write `once: redis`, or `once: {connection: NAME}`")]],
};

/// Where the output of a group goes.
pub const LOGS: Table = Table {
    section: "logs",
    known: &[&["file", "stderr-file", "max-size", "keep", "output", "discard"]],
    later: &[],
    instead: &[&[
        (
            "dir",
            "one directory for all groups is `logging: {dir: …}`; here write `file: /path/{process_name}.log`",
        ),
        ("stdout-file", "write `file`"),
        ("format", "it is the same for all groups: `logging: {format: …}`"),
    ]],
};

/// Between which numbers of processes, as a section.
pub const NUMPROCS: Table = Table {
    section: "queues.NAME.numprocs",
    known: &[&["min", "max"]],
    later: &[],
    instead: &[&[("minProcesses", "write `min`"), ("maxProcesses", "write `max`")]],
};

/// What the number of processes follows.
pub const SCALE: Table = Table {
    section: "queues.NAME.scale",
    known: &[&["time", "size", "cooldown", "step", "every"]],
    later: &[],
    instead: &[&[
        ("by", "write what to aim at: `time: 30s`, or `size: 100` jobs a process"),
        ("strategy", "write what to aim at: `time: 30s`, or `size: 100` jobs a process"),
        ("balance", "queues that share a maximum are a budget: `budgets: {NAME: {max: 20, queues: [a, b]}}`"),
        ("budget", "write it at the top of the file: `budgets: {NAME: {max: 20, queues: [a, b]}}`"),
        ("min", "write `numprocs: {min: 1, max: 10}`"),
        ("max", "write `numprocs: {min: 1, max: 10}`"),
        ("balanceCooldown", "write `cooldown`"),
        ("balanceMaxShift", "write `step`"),
    ]],
};

/// A number of processes that several queues share.
pub const BUDGET: Table = Table {
    section: "budgets.NAME",
    known: &[&["max", "queues"]],
    later: &[],
    instead: &[&[
        ("min", "each queue has its own: `numprocs: {min: 1, max: 10}`"),
        ("pools", "write them under `queues` too"),
    ]],
};

/// Resource limits.
pub const LIMITS: Table = Table {
    section: "limits",
    known: &[&["nofile", "core", "nproc", "as", "memlock", "cpu", "fsize", "stack", "memory"]],
    later: &[],
    instead: &[&[
        ("files", "write `nofile`"),
        ("processes", "write `nproc`"),
        ("open-files", "write `nofile`"),
    ]],
};

/// A handler for some job names.
pub const ROUTE: Table = Table {
    section: "queues.NAME.routes[]",
    known: &[&["name", "handler"]],
    later: &["timeout", "tries"],
    instead: &[],
};

/// Kinds of handlers.
pub const HANDLER: Table = Table {
    section: "handler",
    known: &[&["http", "shell"]],
    later: &["process", "fastcgi"],
    instead: &[&[
        ("url", "write `http: {url: …}`"),
        ("argv", "write `shell: {argv: […]}`"),
        ("command", "write `shell: {argv: […]}`"),
        ("https", "write `http: {url: \"https://…\"}`"),
    ]],
};

/// Posted to a URL.
pub const HTTP: Table = Table {
    section: "handler.http",
    known: &[&[
        "url",
        "method",
        "body",
        "timeout",
        "connect-timeout",
        "secret",
        "secret-file",
        "signing-keys",
        "signing",
        "also",
        "headers",
        "redirect",
        "idempotent",
        "h2c",
        "on-404",
        "on-4xx",
        "control",
        "allow-scope",
        "compat",
        "ratelimit-headers",
        "max-request",
        "max-response",
        "max-result",
        "max-hold",
        "gate",
        "allow-networks",
        "allow-plain-http",
        "ca-file",
        "client-cert",
        "client-key",
        "proxy",
        "proxy-file",
        "trace",
    ]],
    later: &[
        "async",
        "heartbeat",
        "max-timeout",
        "callbacks",
        "batch",
        "streaming",
        "server-name",
        "redact",
        "verify",
        "compress",
    ],
    instead: &[&[
        ("signing-key", "write `secret: …`, or `signing-keys: [{secret: …}]`"),
        ("key", "write `secret`"),
        ("auth", "write `headers: {Authorization: …}`"),
        ("token", "write `headers: {Authorization: \"Bearer ${TOKEN}\"}`"),
    ]],
};

/// A signing key with the time it is valid in.
pub const SIGNING_KEY: Table = Table {
    section: "handler.http.signing-keys[]",
    known: &[&["secret", "secret-file", "from", "until"]],
    later: &[],
    instead: &[],
};

/// A process for each job.
pub const SHELL: Table = Table {
    section: "handler.shell",
    known: &[&[
        "argv",
        "shell",
        "body",
        "timeout",
        "cwd",
        "umask",
        "nice",
        "limits",
        "environment",
        "env",
        "env-pass",
        "stop-signal",
        "kill-after",
        "max-output",
        "max-result",
        "exit-codes",
        "allow-scope",
        "max-hold",
        "gate",
    ]],
    later: &["heartbeat"],
    instead: &[&[
        ("command", "write `argv: […]` to execute directly, or `shell: \"…\"` to run a line in /bin/sh"),
        ("user", "it belongs to the queue: the worker process and its handlers have one user"),
        ("group", "it belongs to the queue: the worker process and its handlers have one user"),
        ("stop-wait", "write `kill-after`: from `stop-signal` to SIGKILL"),
        ("directory", "write `cwd`"),
    ]],
};

/// The control socket.
pub const CONTROL: Table = Table {
    section: "control",
    known: &[&["socket", "mode", "group", "listen", "auth"]],
    later: &[],
    instead: &[&[
        ("file", "write `socket`"),
        ("chmod", "write `mode`"),
        ("chown", "write `group`"),
        ("port", "write `listen: 127.0.0.1:9001`"),
        ("username", "write `auth: {username: …, password-file: …}`"),
        ("password", "write `auth: {username: …, password-file: …}`"),
    ]],
};

/// Who may come in over TCP.
pub const AUTH: Table = Table {
    section: "control.auth[]",
    known: &[&["username", "password", "password-file"]],
    later: &[],
    instead: &[&[("user", "write `username`")]],
};

/// Log lines.
pub const LOGGING: Table = Table {
    section: "logging",
    known: &[&["format", "level", "dir", "max-size", "keep"]],
    later: &["timestamps", "syslog", "redact"],
    instead: &[&[
        ("file", "write `dir`: one file a process is written there"),
        ("loglevel", "write `level`"),
        ("logfile_maxbytes", "write `max-size`"),
        ("logfile_backups", "write `keep`"),
    ]],
};
