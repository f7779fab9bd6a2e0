//! Reads one stream of one child, for as long as somebody has the other end and a little longer than the child lives.
//!
//! What is read goes to the process' [`Log`] as it is, and line by line to the [`Output`]. A grandchild that inherited
//! the stream can keep it open for ever, so after the child's end it is read only for a short grace.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qfleet_model::process::Pid;
use qfleet_model::time::Moment;
use qfleet_os::clock;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::time::sleep;

use super::output::{Output, Source};
use super::tail::Log;
use crate::fleet::SlotId;

/// How long a stream is read that outlives its child.
const GRACE: Duration = Duration::from_secs(2);

/// A line that goes on no further is written without its end after this time: it may be a question.
const UNFINISHED: Duration = Duration::from_secs(2);

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
    /// Whose log it is; nobody's is kept nowhere else.
    pub(crate) slot: Option<SlotId>,
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
            self.partial = Vec::new();
        }
    }
}

/// One stream of one child that is being read. What has been read and not passed on is here, so that another program can
/// go on in the middle of a line.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) pid: Pid,
    pub(crate) stream: Receiver,
    pub(crate) sink: RefCell<Sink>,
    /// The child has been reaped; read until then.
    pub(crate) until: Cell<Option<Moment>>,
}

impl Capture {
    /// Begins to read. Needs a runtime.
    ///
    /// # Errors
    /// Not the reading end of a pipe.
    pub(crate) fn new(pid: Pid, stream: OwnedFd, sink: Sink) -> io::Result<Rc<Self>> {
        let stream = Receiver::from_owned_fd(stream)?;
        Ok(Rc::new(Self { pid, stream, sink: RefCell::new(sink), until: Cell::default() }))
    }

    /// Reads the stream to its end. `alive` closes when the child has been reaped.
    pub(crate) async fn serve(self: Rc<Self>, scratch: Scratch, alive: watch::Receiver<()>) {
        if let Err(error) = self.read_all(&scratch, alive).await {
            tracing::warn!(process = %self.sink.borrow().source.name, "reading its output failed: {error}");
        }
        self.sink.borrow_mut().finish();
    }

    async fn read_all(&self, scratch: &Scratch, mut alive: watch::Receiver<()>) -> io::Result<()> {
        let mut unfinished_at = Some(clock::now() + UNFINISHED);
        loop {
            let left = self.until.get().map(|until| until.since(clock::now()));
            if self.sink.borrow().partial.is_empty() {
                unfinished_at = None;
            }
            let unfinished = unfinished_at.map(|at| at.since(clock::now()));
            tokio::select! {
                biased;
                ready = self.stream.readable() => {
                    ready?;
                    let mut buffer = scratch.borrow_mut();
                    match self.stream.try_read(&mut buffer) {
                        Ok(0) => return Ok(()),
                        Ok(length) => {
                            self.sink.borrow_mut().take(&buffer[..length]);
                            unfinished_at = Some(clock::now() + UNFINISHED);
                        }
                        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                        Err(error) => return Err(error),
                    }
                }
                // Nobody sends on it: this returns when the sender is dropped.
                _ = alive.changed(), if left.is_none() => self.until.set(Some(clock::now() + GRACE)),
                () = sleep(left.unwrap_or_default()), if left.is_some() => return Ok(()),
                () = sleep(unfinished.unwrap_or_default()), if unfinished.is_some() => {
                    self.sink.borrow_mut().finish();
                }
            }
        }
    }
}
