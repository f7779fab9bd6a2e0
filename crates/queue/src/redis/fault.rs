//! Which errors of Redis mean "wait and try again", and which "tell a person".

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::QueueError;

/// Answers of a server that works again by itself, or on another host, or after its operator did something.
const PASSING: [&str; 15] = [
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
    "MOVED",
    "ASK",
    "OOM",
    "UNKILLABLE",
    "UNBLOCKED",
];
/// The same without a code of their own: a long call before login, no room for one more client, and a script on a node
/// whose keys are on their way to another.
const PASSING_TEXTS: [&str; 3] = ["unauthenticated", "max number of clients reached", ELSEWHERE];
const ELSEWHERE: &str = "non local key";

/// The script has to be sent in full.
pub(super) fn script_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// What a node of a cluster says that has done nothing, because the keys are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// Another node has them.
    Moved,
    /// They are on their way to another node.
    Moving,
}

/// Whether a call was refused by a node because of where the keys are.
pub(super) fn misplaced(error: &RedisError) -> Option<Misplaced> {
    match error.code()? {
        "MOVED" => Some(Misplaced::Moved),
        "ASK" | "TRYAGAIN" => Some(Misplaced::Moving),
        _ => error.detail().is_some_and(|text| text.contains(ELSEWHERE)).then_some(Misplaced::Moving),
    }
}

/// Host and port of the node that has the keys, by the word of one at `here`, which may leave out the host when it is
/// its own.
pub(super) fn moved_to(error: &RedisError, here: &str) -> Option<(String, u16)> {
    if error.code() != Some("MOVED") {
        return None;
    }
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() || host == "?" { here } else { host };
    Some((host.to_owned(), port.parse().ok()?))
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
        ErrorKind::Server(_) | ErrorKind::Extension => has_passing_code(text),
        _ => false,
    }
}

/// Whether one of the codes leads the text. Errors inside scripts have `ERR` before it, and with servers before 7 the
/// script's name and line as well.
fn has_passing_code(text: &str) -> bool {
    let leads = text.split([' ', ':']).take(3).any(|word| PASSING.contains(&word.trim_start_matches('-')));
    let inside =
        || text.split(' ').any(|word| word.strip_prefix('-').is_some_and(|code| PASSING.contains(&code)));
    leads || inside() || PASSING_TEXTS.iter().any(|part| text.contains(part))
}

/// What happened, as the server or the system put it.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        _ if error.kind() == ErrorKind::AuthenticationFailed => {
            "it does not accept the user and password".to_owned()
        }
        _ if error.is_timeout() => "no answer in time".to_owned(),
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_stays() {
        for (text, passes) in [
            ("READONLY You can't write against a read only replica.", true),
            (
                "ERR READONLY You can't write against a read only replica. script: e36, on @user_script:133.",
                true,
            ),
            (
                "ERR Error running script (call to f_e36): @user_script:9: @user_script: 9: -LOADING Redis is",
                true,
            ),
            ("NOAUTH Authentication required.", true),
            ("ERR Protocol error: unauthenticated multibulk length", true),
            ("ERR max number of clients reached", true),
            ("MOVED 3999 127.0.0.1:6381", true),
            ("ERR Script attempted to access a non local key in a cluster node script: e36", true),
            ("CROSSSLOT Keys in request don't hash to the same slot", false),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", false),
            ("ERR unknown command `EVALSHA`", false),
            ("NOPERM this user has no permissions to run the 'evalsha' command", false),
        ] {
            assert_eq!(has_passing_code(text), passes, "{text}");
        }
    }
}
