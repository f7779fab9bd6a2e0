//! A connection that hears what others publish, and at once when it is lost.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{ANSWERS_WITHIN, Address, Reply};
use crate::error::QueueError;

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where it was published.
    pub(crate) channel: String,
    /// What was.
    pub(crate) text: String,
}

/// The connection; dropping it closes it.
pub(crate) struct Ear {
    connection: MultiplexedConnection,
    pushes: UnboundedReceiver<PushInfo>,
}

impl Ear {
    /// A new connection that hears nothing yet. `name` is what `CLIENT LIST` calls it.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the server cannot push (before Redis 6), else [`QueueError::Unreachable`].
    pub(crate) async fn open(address: &Address, name: Option<&str>) -> Result<Self, QueueError> {
        let (heard, pushes) = unbounded_channel();
        let (mut connection, _) = address.hearing(heard).connect(ANSWERS_WITHIN).await?;
        if let Some(name) = name {
            call_it(&mut connection, name).await;
        }
        Ok(Self { connection, pushes })
    }

    /// Hears every channel that one of the patterns fits, from now on.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when the user has no right to.
    pub(crate) async fn subscribe(
        &mut self,
        address: &Address,
        patterns: &[String],
    ) -> Result<(), QueueError> {
        self.connection.psubscribe(patterns).await.map_err(|error| address.sort(&error))
    }

    /// The next message; `None` when the connection is lost.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let PushInfo { kind, data } = self.pushes.recv().await?;
            match kind {
                PushKind::Disconnection => return None,
                PushKind::PMessage => {
                    let [_, channel, text] = Reply(Value::Array(data)).fields();
                    return Some(Message { channel: channel.text(), text: text.text() });
                }
                _ => {}
            }
        }
    }
}

/// Gives a connection its name in `CLIENT LIST`. Without one we are not seen, and work all the same.
pub(super) async fn call_it(connection: &mut MultiplexedConnection, name: &str) {
    let mut command = redis::cmd("CLIENT");
    command.arg("SETNAME").arg(name);
    let _ = tokio::time::timeout(ANSWERS_WITHIN, command.exec_async(connection)).await;
}

/// Whether the server is too old to push.
pub(super) fn cannot_push(error: &RedisError) -> bool {
    let unknown = || error.detail().is_some_and(|text| text.starts_with("unknown command"));
    error.kind() == ErrorKind::RESP3NotSupported || error.code() == Some("NOPROTO") || unknown()
}

/// A pattern that fits this text alone, in `SCAN` and `PSUBSCRIBE`.
pub(crate) fn pattern(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
