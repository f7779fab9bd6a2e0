//! Listens to a child that is started for its answer: what it prints, and how it ends.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What is printed after the end of a child is waited for this long: somebody it has left behind may hold its output.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// More than this of what a child prints is read, so that it can go on, and thrown away.
const MOST_WORDS: usize = 16 * 1024;

/// What a child has printed.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Listens until the child has ended, which `end` tells; `None` when nobody will ever tell it.
pub(super) async fn listen<E>(
    [stdout, stderr]: [OwnedFd; 2],
    end: &mut oneshot::Receiver<E>,
) -> Option<(E, Words)> {
    let (out, err) = (RefCell::default(), RefCell::default());
    let end = {
        let mut reading = std::pin::pin!(async { tokio::join!(read(stdout, &out), read(stderr, &err)) });
        tokio::select! {
            _ = reading.as_mut() => end.await.ok(),
            end = &mut *end => {
                let _all = timeout(LAST_WORDS, reading.as_mut()).await;
                end.ok()
            }
        }
    };
    Some((end?, Words { stdout: out.take(), stderr: err.take() }))
}

async fn read(stream: OwnedFd, into: &RefCell<Vec<u8>>) -> io::Result<()> {
    let stream = Receiver::from_owned_fd(stream)?;
    let mut buffer = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                let mut into = into.borrow_mut();
                let room = MOST_WORDS - into.len();
                into.extend_from_slice(&buffer[..length.min(room)]);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn pipe() -> (io::PipeWriter, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        let reader = OwnedFd::from(reader);
        qfleet_os::descriptors::set_nonblocking(&reader).unwrap();
        (writer, reader)
    }

    #[tokio::test]
    async fn a_flood_is_read_to_its_end_and_its_beginning_kept() {
        let ((mut out, stdout), (err, stderr)) = (pipe(), pipe());
        drop(err);
        let (ended, mut end) = oneshot::channel();
        let writer = std::thread::spawn(move || {
            out.write_all(&[b'x'; 300_000]).unwrap();
            ended.send(3).unwrap();
        });
        let (end, words) = listen([stdout, stderr], &mut end).await.unwrap();
        writer.join().unwrap();
        assert_eq!((end, words.stdout.len(), words.stderr.len()), (3, MOST_WORDS, 0));
    }

    #[tokio::test]
    async fn who_holds_the_output_after_the_end_is_not_waited_for() {
        let ((mut out, stdout), (err, stderr)) = (pipe(), pipe());
        drop(err);
        let (ended, mut end) = oneshot::channel();
        out.write_all(b"last words").unwrap();
        ended.send(()).unwrap();
        let ((), words) = listen([stdout, stderr], &mut end).await.unwrap();
        assert_eq!(words.stdout, b"last words");
        drop(out);
    }
}
