//! Probes of programs: how it is found out that one is ready, and that it is healthy.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Something accepts connections at `host:port`.
    Tcp(String),
    /// A GET of this `http://` URL is answered with a code from 200 to 399.
    Http(String),
    /// This program and its arguments, executed as the watched program's user in its directory and with its variables,
    /// ends with 0.
    Command(Vec<String>),
}

/// What is tried, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What.
    pub target: Target,
    /// From the end of one try to the next.
    pub interval: Duration,
    /// How long one try may take.
    pub timeout: Duration,
}

/// What shows that a program is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    /// This succeeds.
    Probe(Probe),
    /// It says so itself, by `READY=1` to the socket in its `NOTIFY_SOCKET`.
    Notify,
}

/// When a program counts as started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// How it is found out.
    pub sign: Sign,
    /// How long it has; then the start has failed.
    pub within: Duration,
}

/// When a program that is up has to be replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How it is found out.
    pub probe: Probe,
    /// Tries in a row that fail.
    pub failures: u32,
    /// How long after its start nothing is tried.
    pub start_period: Duration,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "connecting to {address}"),
            Self::Http(url) => write!(out, "GET {url}"),
            // Arguments may have a secret.
            Self::Command(argv) => write!(out, "`{}`", argv.first().map_or("", String::as_str)),
        }
    }
}
