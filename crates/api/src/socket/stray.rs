//! A connection that swallows what a certain old client sends too much: a line end behind the end of its request.
//!
//! supervisorctl sends it when it follows a log, and then nothing any more. Left in the connection, it would look like the
//! beginning of another request; the server would then not look whether the client is still there, and keep the
//! connection of one that has left for as long as the process prints nothing.
//!
//! Only the first request of a connection is looked at, and only one without a body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How the request begins that is looked at.
const BEGIN: &[u8] = b"GET ";

/// How its head ends.
const END: &[u8] = b"\r\n\r\n";

/// Where in the first request we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes are as they should be.
    Begin(usize),
    /// In its head; the last so many bytes could be the beginning of its end.
    Head(usize),
    /// Behind it: line ends are swallowed.
    Behind,
    /// Everything goes through.
    Through,
}

impl Place {
    /// The place behind this byte, and whether the byte goes through.
    fn step(self, byte: u8) -> (Self, bool) {
        match self {
            Self::Begin(at) if BEGIN[at] == byte && at + 1 == BEGIN.len() => (Self::Head(0), true),
            Self::Begin(at) if BEGIN[at] == byte => (Self::Begin(at + 1), true),
            Self::Head(at) if END[at] == byte && at + 1 == END.len() => (Self::Behind, true),
            Self::Head(at) if END[at] == byte => (Self::Head(at + 1), true),
            Self::Head(_) => (Self::Head(usize::from(byte == END[0])), true),
            Self::Behind if matches!(byte, b'\r' | b'\n') => (Self::Behind, false),
            Self::Begin(_) | Self::Behind | Self::Through => (Self::Through, true),
        }
    }
}

/// A stream without those line ends.
#[derive(Debug)]
pub(crate) struct Stray<S> {
    stream: S,
    place: Place,
}

impl<S> Stray<S> {
    /// Wraps a stream from which nothing was read.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, place: Place::Begin(0) }
    }

    /// Takes out of the bytes what is too much; how many are left.
    fn sift(&mut self, bytes: &mut [u8]) -> usize {
        if self.place == Place::Through {
            return bytes.len();
        }
        let mut kept = 0;
        for at in 0..bytes.len() {
            let byte = bytes[at];
            let (place, goes_through) = self.place.step(byte);
            self.place = place;
            if goes_through {
                bytes[kept] = byte;
                kept += 1;
            }
        }
        kept
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stray<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let before = into.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
            let came = into.filled().len() - before;
            let kept = self.sift(&mut into.filled_mut()[before..]);
            into.set_filled(before + kept);
            // Nothing at all is the end of the stream, which must not be mistaken for nothing left.
            if kept > 0 || came == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stray<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_ends_behind_the_first_request_are_swallowed() {
        for (sent, expected) in [
            ("GET / HTTP/1.1\r\n\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n\r\n\r\nGET", "GET / HTTP/1.1\r\nA: b\r\n\r\nGET"),
            (
                "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n",
                "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\n",
            ),
            ("POST / HTTP/1.1\r\n\r\n\r\n\r\n", "POST / HTTP/1.1\r\n\r\n\r\n\r\n"),
            ("GET\r\n\r\n\r\n", "GET\r\n\r\n\r\n"),
            ("GET \r\r\n\r\n\r\n", "GET \r\r\n\r\n"),
        ] {
            for step in 1..=sent.len() {
                let mut stray = Stray::new(());
                let mut through = Vec::new();
                for piece in sent.as_bytes().chunks(step) {
                    let mut piece = piece.to_vec();
                    let kept = stray.sift(&mut piece);
                    through.extend_from_slice(&piece[..kept]);
                }
                assert_eq!(String::from_utf8_lossy(&through), expected, "in steps of {step}");
            }
        }
    }
}
