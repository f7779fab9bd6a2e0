//! supervisord's XML-RPC, so that the original `supervisorctl` and other clients written for supervisord can steer the
//! fleet.
//!
//! | File | What is in it |
//! | --- | --- |
//! | `value.rs`, `xml.rs`, `codec.rs` | bytes to a call, a result to bytes; pure, bounded in size and depth |
//! | `faults.rs` | what can go wrong, by number |
//! | `methods.rs` | the closed table of methods |
//! | `answer.rs` | a call to its method, and the methods about methods |
//! | `daemon.rs`, `process.rs`, `group.rs`, `logs.rs` | the methods about each of these |
//! | `info.rs`, `config.rs` | how a process, and its settings, are described |

mod answer;
pub mod codec;
mod config;
mod daemon;
pub mod faults;
mod group;
mod info;
mod logs;
pub mod methods;
mod process;
pub mod value;
mod xml;

pub use answer::answer;

use qfleet_supervisor::{LogReader, Stream};

use crate::access::Peer;
use crate::dispatch::Dispatch;

/// Who calls, and what answers.
#[derive(Debug, Clone)]
pub(crate) struct Caller<'a> {
    pub(crate) dispatch: &'a Dispatch,
    pub(crate) peer: &'a Peer,
}

/// A reader of the output of the process that supervisord's clients call `name`.
pub(crate) fn locate(dispatch: &Dispatch, name: &str, stream: Stream) -> Option<LogReader> {
    let found = process::find_one(&dispatch.status(), name).ok()?;
    dispatch.logs(&format!("{}:{}", found.group, process::own_name(&found)), stream).ok()
}
