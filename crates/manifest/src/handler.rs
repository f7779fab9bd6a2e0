//! Settings of handlers: who gets the jobs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use qfleet_model::time::WallTime;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Largest result that is kept, in bytes, when the manifest does not say.
pub(crate) const MAX_RESULT: u64 = 64 * 1024;
/// Longest time an endpoint can ask to be left alone, when the manifest does not say.
pub(crate) const MAX_HOLD: Duration = Duration::from_secs(15 * 60);

/// Who gets the jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handler {
    /// Posted to a URL.
    Http(Box<HttpHandler>),
    /// A process for each job.
    Shell(Box<ShellHandler>),
}

impl Handler {
    /// A shell handler with every other setting at its default; `line` runs under `/bin/sh -c`.
    #[must_use]
    pub fn shell_line(line: &str) -> Self {
        Self::Shell(Box::new(ShellHandler {
            command: ShellCommand::Line(line.to_owned()),
            ..ShellHandler::default()
        }))
    }

    /// Name of the endpoint whose health is shared by everything that uses it: the `gate` setting, else the HTTP
    /// origin, the unix socket, or the command's program.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        match self {
            Self::Http(http) => &http.endpoint,
            Self::Shell(shell) => &shell.endpoint,
        }
    }

    /// Longest run this handler sets for its jobs, before the queue's.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Http(http) => http.timeout,
            Self::Shell(shell) => shell.timeout,
        }
    }
}

/// What is sent of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// The payload byte for byte.
    #[default]
    Raw,
    /// An object around it, `application/vnd.job.v1+json`.
    Envelope,
    /// CloudEvents in binary mode.
    Cloudevents,
    /// CloudEvents in structured mode.
    CloudeventsJson,
}

/// A signing key with the time it is valid in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningKey {
    /// `whsec_…` (HMAC-SHA-256) or `whsk_…` (Ed25519); checked at load.
    pub secret: Secret,
    /// Valid from then on.
    pub from: Option<WallTime>,
    /// Valid until then.
    pub until: Option<WallTime>,
}

/// Where an HTTP handler connects to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HttpTarget {
    /// `http://` or `https://`, with `{queue}` and `{name}` allowed in path and query.
    Url(String),
    /// A unix socket, and the path and query to ask for.
    Unix {
        /// Path of the socket.
        socket: PathBuf,
        /// Path and query, from `/`.
        path: String,
    },
}

/// Posted to a URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpHandler {
    /// See [`Handler::endpoint`].
    pub endpoint: String,
    /// Where to.
    pub target: HttpTarget,
    /// `PUT` instead of `POST`.
    pub put: bool,
    /// What is sent.
    pub body: Body,
    /// Longest delivery.
    pub timeout: Option<Duration>,
    /// Limit for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Keys that sign, newest first, at most 3 valid at once.
    pub signing_keys: Vec<SigningKey>,
    /// Adds `X-Hub-Signature-256` with the first key.
    pub also_github: bool,
    /// Further headers, checked against the token grammar and the reserved names.
    pub headers: BTreeMap<String, Secret>,
    /// Follow 307 and 308 to the same origin, at most 2.
    pub redirect_same_origin: bool,
    /// A reset on a reused connection with no answer byte may be sent again.
    pub idempotent: bool,
    /// HTTP/2 without TLS.
    pub h2c: bool,
    /// 404 means that the job's entity is gone.
    pub fail_on_404: bool,
    /// Other 4xx are repeated.
    pub retry_on_4xx: bool,
    /// Read `Job-Outcome`.
    pub control: bool,
    /// `Job-Outcome` may speak for the endpoint.
    pub allow_scope: bool,
    /// Honour `X-Inngest-No-Retry`.
    pub compat_inngest: bool,
    /// Honour 489 with `Upstash-NonRetryable-Error: true`.
    pub compat_qstash: bool,
    /// Honour a 2xx body `{"status":"RETRY"|"DROP"|"SUCCESS"}`, and 404 as discard.
    pub compat_dapr: bool,
    /// Read `RateLimit` and `X-RateLimit-Reset`.
    pub ratelimit_headers: bool,
    /// Largest body sent, in bytes.
    pub max_request: u64,
    /// Largest body read, in bytes.
    pub max_response: u64,
    /// Largest result kept, in bytes.
    pub max_result: u64,
    /// Longest time an endpoint can ask to be left alone.
    pub max_hold: Duration,
    /// Only these networks may be connected to; empty: all but the always refused ones.
    pub allow_networks: Vec<(IpAddr, u8)>,
    /// Plain http to public addresses too.
    pub allow_plain_http: bool,
    /// Certificate authorities as a PEM file, else the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key (PEM) for mutual TLS.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Proxy to use; variables are ignored.
    pub proxy: Option<Secret>,
    /// Child spans instead of linked ones.
    pub trace_child: bool,
}

impl HttpHandler {
    /// A handler with every other setting at its built-in default.
    #[must_use]
    pub fn new(endpoint: impl Into<String>, target: HttpTarget) -> Self {
        Self {
            endpoint: endpoint.into(),
            target,
            put: false,
            body: Body::Raw,
            timeout: None,
            connect_timeout: Duration::from_secs(2),
            signing_keys: Vec::new(),
            also_github: false,
            headers: BTreeMap::new(),
            redirect_same_origin: false,
            idempotent: false,
            h2c: false,
            fail_on_404: false,
            retry_on_4xx: false,
            control: true,
            allow_scope: false,
            compat_inngest: false,
            compat_qstash: false,
            compat_dapr: false,
            ratelimit_headers: false,
            max_request: 8 << 20,
            max_response: 1 << 20,
            max_result: MAX_RESULT,
            max_hold: MAX_HOLD,
            allow_networks: Vec::new(),
            allow_plain_http: false,
            ca_file: None,
            client_certificate: None,
            proxy: None,
            trace_child: false,
        }
    }
}

/// What a shell handler executes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShellCommand {
    /// Directly, placeholders inside single elements.
    Argv(Vec<String>),
    /// Under `/bin/sh -c`, the text exactly as configured.
    Line(String),
}

/// A process for each job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShellHandler {
    /// See [`Handler::endpoint`].
    pub endpoint: String,
    /// What to execute; the program of an argv is an absolute path, resolved at load.
    pub command: ShellCommand,
    /// What is on standard input: `Raw` or `Envelope`.
    pub body: Body,
    /// Longest run.
    pub timeout: Option<Duration>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Added to the nice value.
    pub nice: Option<i32>,
    /// Soft and hard resource limits by name.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Variables on top.
    pub env: BTreeMap<String, String>,
    /// Inherit the worker's variables; `false`: PATH, HOME, LANG, TZ and `env_pass` only.
    pub inherit_env: bool,
    /// Variables to keep with a clean environment.
    pub env_pass: Vec<String>,
    /// Signal number at the deadline.
    pub stop_signal: i32,
    /// From then to SIGKILL.
    pub kill_after: Option<Duration>,
    /// Output beyond this many bytes is thrown away and counted.
    pub max_output: u64,
    /// Largest result kept, in bytes.
    pub max_result: u64,
    /// Outcomes of exit codes that differ from the standard table: first, last, outcome.
    pub exit_codes: Vec<(u8, u8, ExitMeaning)>,
    /// `outcome` on descriptor 3 may speak for the endpoint.
    pub allow_scope: bool,
    /// Longest time an endpoint can ask to be left alone.
    pub max_hold: Duration,
}

impl Default for ShellHandler {
    fn default() -> Self {
        Self {
            endpoint: String::from("shell"),
            command: ShellCommand::Line(String::from("true")),
            body: Body::Raw,
            timeout: None,
            cwd: None,
            umask: None,
            nice: None,
            limits: BTreeMap::new(),
            env: BTreeMap::new(),
            inherit_env: true,
            env_pass: Vec::new(),
            stop_signal: 15,
            kill_after: None,
            max_output: 16 * 1024 * 1024,
            max_result: MAX_RESULT,
            exit_codes: Vec::new(),
            allow_scope: false,
            max_hold: MAX_HOLD,
        }
    }
}

/// What an exit code can be made to mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitMeaning {
    /// Done.
    Complete,
    /// Again, counts.
    Retry,
    /// Later, does not count.
    Snooze,
    /// Never.
    Fail,
    /// Not wanted.
    Discard,
}
