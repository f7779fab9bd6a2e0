//! Which errors of Redis mean "wait and try again", and which "tell a person".

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::QueueError;

/// Answers of a server that works again by itself, or on another host, or after its operator did something.
const PASSING: [&str; 14] = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOAUTH",
    "WRONGPASS",
    "MISCONF",
    "NOREPLICAS",
    "BUSY",
    "TRYAGAIN",
    "OOM",
    "UNKILLABLE",
    "UNBLOCKED",
    "ERR max number of clients reached",
];

/// The script has to be sent in full.
pub(super) fn script_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Turns an error of the client into ours, naming the server at `shown`.
pub(super) fn sort(shown: &str, error: &RedisError) -> QueueError {
    let text = said(error);
    if passes(error, &text) {
        QueueError::Unreachable(format!("redis at `{shown}` cannot be used now: {text}"))
    } else {
        QueueError::Refused(format!("redis at `{shown}` refused: {text}"))
    }
}

fn passes(error: &RedisError, text: &str) -> bool {
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::MasterNameNotFoundBySentinel => true,
        // Servers before 7 put the code of an error inside a script somewhere in its text.
        ErrorKind::Server(_) | ErrorKind::Extension => {
            PASSING.iter().any(|code| starts_with_code(text, code) || text.contains(&format!("-{code} ")))
        }
        _ => false,
    }
}

fn starts_with_code(text: &str, code: &str) -> bool {
    text.strip_prefix(code).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', ':']))
}

/// What happened, as the server or the system put it.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, Some(detail)) if error.kind() == ErrorKind::AuthenticationFailed => {
            format!("it does not accept the user and password ({detail})")
        }
        _ if error.is_timeout() => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}
