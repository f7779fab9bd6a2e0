//! One JSON message a line, as bytes in and bytes out: the framing of the link.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line either side accepts, in bytes.
pub const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// A message as one line, newline included.
///
/// # Errors
/// The message cannot be written as JSON.
pub fn line<M: Serialize>(message: &M) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Collects bytes as they come and gives whole messages back.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

/// Why the stream cannot be read any further.
#[derive(Debug)]
pub enum FrameError {
    /// A line that is no message of this kind.
    Unreadable(serde_json::Error),
    /// A line longer than [`LONGEST_LINE`].
    TooLong,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(error) => write!(out, "unreadable message on the link: {error}"),
            Self::TooLong => write!(out, "a message on the link is longer than {LONGEST_LINE} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

impl Frames {
    /// Adds bytes that arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What came and is no whole message yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// The next whole message, or `None` until more bytes arrive.
    ///
    /// # Errors
    /// The line is not a message of this kind, or too long.
    pub fn next_message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') else {
            return if self.bytes.len() > LONGEST_LINE { Err(FrameError::TooLong) } else { Ok(None) };
        };
        let message = serde_json::from_slice(&self.bytes[..end]).map_err(FrameError::Unreadable);
        self.bytes.drain(..=end);
        message.map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::link::FromChild;

    #[test]
    fn messages_survive_any_cut() {
        let bytes =
            [line(&FromChild::Ready).unwrap(), line(&FromChild::Waiting { pid: 7 }).unwrap()].concat();
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            let mut read: Vec<FromChild> = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                frames.feed(part);
                while let Some(message) = frames.next_message().unwrap() {
                    read.push(message);
                }
            }
            assert_eq!(read, [FromChild::Ready, FromChild::Waiting { pid: 7 }]);
        }
    }

    #[test]
    fn garbage_is_an_error_not_a_panic() {
        let mut frames = Frames::default();
        frames.feed(b"{\"t\":\"nonsense\"}\n");
        assert!(frames.next_message::<FromChild>().is_err());
    }
}
