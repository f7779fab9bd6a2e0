//! The daemon's end of a child's link: messages out without waiting, messages in as events.
//!
//! Everything happens on the loop's thread. A [`Link`] is read in two places: by its own task while the child lives, and by
//! the loop at the child's end, so that its last words come before its exit.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream as Plain;
use std::rc::Rc;

use qfleet_model::frame::{Frames, line};
use qfleet_model::link::{FromChild, ToChild};
use qfleet_model::process::Pid;
use qfleet_os::replace::{Inherited, Surviving};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};

use super::bytes::Bytes;

/// What came over a link.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) pid: Pid,
    /// `None`: the link has closed.
    pub(super) message: Option<FromChild>,
}

/// A link on its way to another program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CarriedLink {
    descriptor: RawFd,
    /// What the child has said, short of a whole message.
    #[serde(default)]
    unread: Bytes,
    /// What it has not taken yet.
    #[serde(default)]
    unsent: Bytes,
}

/// Our end.
#[derive(Debug)]
pub(super) struct Link {
    pid: Pid,
    stream: UnixStream,
    frames: RefCell<Frames>,
    outgoing: RefCell<Vec<u8>>,
    more_to_write: Notify,
    closed: Cell<bool>,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Link {
    pub(super) fn new(pid: Pid, stream: Plain, heard: mpsc::UnboundedSender<Heard>) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            pid,
            stream: UnixStream::from_std(stream)?,
            frames: RefCell::default(),
            outgoing: RefCell::default(),
            more_to_write: Notify::new(),
            closed: Cell::new(false),
            heard,
        }))
    }

    /// What another program needs to go on with it.
    pub(super) fn carried<'a>(&'a self, surviving: &mut Surviving<'a>) -> CarriedLink {
        CarriedLink {
            descriptor: surviving.keep(&self.stream),
            unread: Bytes(self.frames.borrow().rest().to_vec()),
            unsent: Bytes(self.outgoing.borrow().clone()),
        }
    }

    /// Goes on where another program was.
    pub(super) fn resume(
        pid: Pid,
        carried: CarriedLink,
        inherited: &Inherited,
        heard: mpsc::UnboundedSender<Heard>,
    ) -> io::Result<Rc<Self>> {
        let link = Self::new(pid, Plain::from(inherited.get(carried.descriptor)?), heard)?;
        link.frames.borrow_mut().feed(&carried.unread.0);
        *link.outgoing.borrow_mut() = carried.unsent.0;
        Ok(link)
    }

    /// Sends a message as soon as the child takes it. `false` when the link has closed.
    ///
    /// # Errors
    /// The message cannot be written as JSON.
    pub(super) fn send(&self, message: &ToChild) -> serde_json::Result<bool> {
        if self.closed.get() {
            return Ok(false);
        }
        self.outgoing.borrow_mut().extend(line(message)?);
        self.more_to_write.notify_one();
        Ok(true)
    }

    /// Gives the child as much as it takes now.
    fn write_some(&self) {
        let mut outgoing = self.outgoing.borrow_mut();
        while !outgoing.is_empty() {
            match self.stream.try_write(&outgoing) {
                Ok(written) => drop(outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It does not listen any more; its last words may still be there to be read.
                Err(_gone) => outgoing.clear(),
            }
        }
        // A worker's settings can be long, and are sent once.
        *outgoing = Vec::new();
    }

    /// Takes in everything that `read` gives. Whether more may come.
    fn take_in(&self, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> bool {
        let mut bytes = [0; 4096];
        while !self.closed.get() {
            match read(&mut bytes) {
                Ok(0) => self.close(),
                Ok(length) => self.frames.borrow_mut().feed(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_gone) => self.close(),
            }
            self.pass_on();
        }
        false
    }

    fn pass_on(&self) {
        loop {
            let next = self.frames.borrow_mut().next_message::<FromChild>();
            match next {
                Ok(Some(message)) => self.say(Some(message)),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(
                        pid = self.pid,
                        "{error}; its link is closed, so that it drains and ends"
                    );
                    return self.close();
                }
            }
        }
    }

    /// Once: no word comes or goes after it.
    fn close(&self) {
        if !self.closed.replace(true) {
            self.say(None);
        }
    }

    fn say(&self, message: Option<FromChild>) {
        // The receiver lives as long as the loop.
        let _ = self.heard.send(Heard { pid: self.pid, message });
    }

    /// The child is gone: takes in its last words and closes, whoever else may still have its end.
    pub(super) fn shut(&self) {
        // Asked directly: the event loop may not have heard of these bytes yet.
        if let Ok(stream) = self.stream.as_fd().try_clone_to_owned() {
            let mut stream = Plain::from(stream);
            self.take_in(|bytes| stream.read(bytes));
        }
        self.close();
        self.more_to_write.notify_one();
    }

    /// Reads and writes until the link closes.
    pub(super) async fn serve(self: Rc<Self>) {
        while !self.closed.get() {
            let idle = self.outgoing.borrow().is_empty();
            let interest = if idle { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE };
            tokio::select! {
                ready = self.stream.ready(interest) => {
                    let Ok(ready) = ready else { return self.close() };
                    if ready.is_writable() {
                        self.write_some();
                    }
                    self.take_in(|bytes| self.stream.try_read(bytes));
                }
                () = self.more_to_write.notified() => {}
            }
        }
    }
}
