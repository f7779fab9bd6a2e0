//! What people write to a program: into its standard input, without ever waiting for it to be read.
//!
//! Every program has a pipe from the daemon there, as under supervisord, so it may wait for input that never comes. What
//! the pipe does not take at once waits here, up to a limit, and goes when the program reads.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

use qfleet_model::command::{Refusal, Reply};
use qfleet_model::process::Pid;
use qfleet_os::replace::{Inherited, Surviving};
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe::Sender;

use super::bytes::Bytes;
use super::effects::World;

/// Bytes that may wait for a program, beside those in the pipe itself.
const LIMIT: usize = 64 * 1024;

/// Our end of a program's standard input.
#[derive(Debug)]
pub(super) struct Input {
    pipe: File,
    waiting: RefCell<Vec<u8>>,
}

/// An input on its way to another program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CarriedInput {
    descriptor: RawFd,
    /// What the program has not read yet, beside what is in the pipe.
    #[serde(default)]
    waiting: Bytes,
}

/// What became of the bytes.
enum Taken {
    /// All are in the pipe.
    All,
    /// Some wait here, and nobody looks after them yet.
    Some,
    /// They wait behind others.
    Behind,
}

impl Input {
    pub(super) fn new(pipe: OwnedFd) -> Rc<Self> {
        Rc::new(Self { pipe: File::from(pipe), waiting: RefCell::default() })
    }

    /// What another program needs to go on with it.
    pub(super) fn carried<'a>(&'a self, surviving: &mut Surviving<'a>) -> CarriedInput {
        CarriedInput { descriptor: surviving.keep(&self.pipe), waiting: Bytes(self.waiting.borrow().clone()) }
    }

    /// Goes on where another program was.
    pub(super) fn resume(carried: CarriedInput, inherited: &Inherited) -> io::Result<Rc<Self>> {
        let pipe = File::from(inherited.get(carried.descriptor)?);
        Ok(Rc::new(Self { pipe, waiting: RefCell::new(carried.waiting.0) }))
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    fn take(&self, bytes: &[u8]) -> Result<Taken, String> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() + bytes.len() > LIMIT {
            return Err(format!("it does not read, and no more than {LIMIT} bytes may wait for it"));
        }
        if !waiting.is_empty() {
            waiting.extend_from_slice(bytes);
            return Ok(Taken::Behind);
        }
        let written = write_some(&self.pipe, bytes).map_err(|_closed| "it has closed it".to_owned())?;
        if written == bytes.len() {
            return Ok(Taken::All);
        }
        waiting.extend_from_slice(&bytes[written..]);
        Ok(Taken::Some)
    }

    /// Writes what waits as the program reads, until nothing is left or it has gone.
    pub(super) async fn deliver(self: Rc<Self>) {
        if let Err(error) = self.deliver_all().await {
            tracing::debug!("a program did not read all of its input: {error}");
            self.waiting.borrow_mut().clear();
        }
    }

    async fn deliver_all(&self) -> io::Result<()> {
        let pipe = Sender::from_owned_fd(self.pipe.try_clone()?.into())?;
        loop {
            pipe.writable().await?;
            let mut waiting = self.waiting.borrow_mut();
            match pipe.try_write(&waiting) {
                Ok(written) => drop(waiting.drain(..written)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
            if waiting.is_empty() {
                return Ok(());
            }
        }
    }
}

/// As many bytes as the pipe takes now.
fn write_some(mut pipe: &File, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match pipe.write(&bytes[written..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

impl World {
    /// Gives a program something to read.
    pub(super) fn input(&mut self, name: &str, pid: Pid, bytes: &[u8]) -> Result<Reply, Refusal> {
        let no_input = |why: &str| Refusal::NoInput { name: name.to_owned(), why: why.to_owned() };
        let child = self.children.get(&pid).ok_or_else(|| Refusal::NotRunning { name: name.to_owned() })?;
        let input = child.input.clone().ok_or_else(|| no_input("it is no program"))?;
        match input.take(bytes) {
            Ok(Taken::All | Taken::Behind) => {}
            Ok(Taken::Some) => drop(self.tasks.spawn_local(input.deliver())),
            Err(why) => return Err(no_input(&why)),
        }
        Ok(Reply { results: Vec::new() })
    }
}
