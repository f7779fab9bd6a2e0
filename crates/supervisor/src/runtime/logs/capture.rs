//! Reads one stream of one child, for as long as somebody has the other end and a little longer than the child lives.
//!
//! What is read goes to the process' [`Log`] as it is, and line by line to the [`Output`]. A grandchild that inherited
//! the stream can keep it open for ever, so after the child's end it is read only for a short grace.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::output::{Output, Source};
use super::tail::Log;

/// How long a stream is read that outlives its child.
const GRACE: Duration = Duration::from_secs(2);

/// A line that has no end is cut after this many bytes.
pub(super) const LONGEST_LINE: usize = 8 * 1024;

/// One buffer for all streams: it is only used between two awaits.
pub(crate) type Scratch = Rc<RefCell<Box<[u8]>>>;

/// A buffer to read with.
pub(crate) fn scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; 64 * 1024].into_boxed_slice()))
}

/// Where the bytes of a stream go.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) log: Arc<Log>,
    pub(crate) output: Output,
    pub(crate) source: Source,
    pub(crate) partial: Vec<u8>,
}

impl Sink {
    fn take(&mut self, bytes: &[u8]) {
        self.log.write(bytes);
        let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            self.partial.extend_from_slice(bytes);
            while self.partial.len() > LONGEST_LINE {
                let rest = self.partial.split_off(LONGEST_LINE);
                self.partial.push(b'\n');
                self.output.write(&self.source, &self.partial);
                self.partial = rest;
            }
            return;
        };
        let (lines, rest) = bytes.split_at(newline + 1);
        if self.partial.is_empty() {
            self.output.write(&self.source, lines);
        } else {
            self.partial.extend_from_slice(lines);
            self.output.write(&self.source, &self.partial);
            // Not `clear`: most processes rarely print, and there may be hundreds.
            self.partial = Vec::new();
        }
        self.partial.extend_from_slice(rest);
    }

    fn finish(&mut self) {
        if !self.partial.is_empty() {
            self.partial.push(b'\n');
            self.output.write(&self.source, &self.partial);
        }
    }
}

/// Reads the stream to its end. `alive` closes when the child has been reaped.
pub(crate) async fn capture(stream: OwnedFd, mut sink: Sink, scratch: Scratch, alive: watch::Receiver<()>) {
    if let Err(error) = read_all(stream, &mut sink, &scratch, alive).await {
        tracing::warn!(process = %sink.source.name, "reading its output failed: {error}");
    }
    sink.finish();
}

async fn read_all(
    stream: OwnedFd,
    sink: &mut Sink,
    scratch: &Scratch,
    mut alive: watch::Receiver<()>,
) -> io::Result<()> {
    let stream = Receiver::from_owned_fd(stream)?;
    let mut until = None;
    loop {
        tokio::select! {
            biased;
            ready = stream.readable() => {
                ready?;
                let mut buffer = scratch.borrow_mut();
                match stream.try_read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(length) => sink.take(&buffer[..length]),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) => return Err(error),
                }
            }
            // Nobody sends on it: this returns when the sender is dropped.
            _ = alive.changed(), if until.is_none() => until = Some(Instant::now() + GRACE),
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return Ok(()),
        }
    }
}
