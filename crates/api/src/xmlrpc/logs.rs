//! Methods about logs. The output of a process is in its file under `logging.dir`, from the beginning; without such a
//! directory, and for errors, the last 16 KiB are kept in memory, and positions before them read as if they began there.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use qfleet_manifest::settings::Work;
use qfleet_supervisor::{LogReader, Stream};

use super::Caller;
use super::faults::{Fault, Kind};
use super::methods::Method;
use super::process::{find_one, own_name, result};
use super::value::Value;

/// Longest window of one answer, in bytes; there is no other limit to what a file may hold.
const LONGEST: u64 = 8 * 1024 * 1024;

/// Which stream a method is about.
pub(super) const fn stream(method: Method) -> Stream {
    match method {
        Method::ReadProcessStderrLog | Method::TailProcessStderrLog => Stream::Stderr,
        _ => Stream::Stdout,
    }
}

/// A window as `read` means it: from an offset, or the last so many bytes.
fn read_window(size: u64, offset: i64, length: i64) -> Result<(u64, u64), Fault> {
    match (u64::try_from(offset), u64::try_from(length)) {
        (Ok(from), Ok(0)) => Ok((from.min(size), size)),
        (Ok(from), Ok(length)) => Ok((from.min(size), from.saturating_add(length).min(size))),
        (Err(_), Ok(0)) => Ok((size.saturating_sub(offset.unsigned_abs()), size)),
        _ => Err(Kind::BadArguments.bare()),
    }
}

/// A window as `tail` means it: the last `length` bytes, if there is anything behind the offset; and whether what lies
/// behind the offset is more than that.
fn tail_window(size: u64, offset: i64, length: i64) -> (u64, u64, bool) {
    let (offset, length) = (u64::try_from(offset).unwrap_or(0), u64::try_from(length).unwrap_or(0));
    if offset >= size {
        return (size, size, false);
    }
    (size.saturating_sub(length), size, size > offset.saturating_add(length))
}

/// Where the bytes of a log are.
enum Source {
    File(File, u64),
    Memory(LogReader),
}

impl Source {
    /// The file, when there is one and it can be read; else what is kept in memory. May block.
    fn open(reader: LogReader, file: Option<PathBuf>) -> Self {
        let opened = file.and_then(|path| {
            let file = File::open(path).ok()?;
            let size = file.metadata().ok()?.len();
            Some((file, size))
        });
        match opened {
            Some((file, size)) => Self::File(file, size),
            None => Self::Memory(reader),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Memory(reader) => reader.end() - reader.begin(),
        }
    }

    fn read(&mut self, from: u64, to: u64) -> io::Result<String> {
        let length = to.saturating_sub(from).min(LONGEST);
        let bytes = match self {
            Self::File(file, _) => {
                let mut bytes = Vec::new();
                file.seek(SeekFrom::Start(from))?;
                file.take(length).read_to_end(&mut bytes)?;
                bytes
            }
            Self::Memory(reader) => {
                let mut chunk = reader.window(reader.begin() + from, usize::MAX);
                let kept = (reader.begin() + to).saturating_sub(chunk.at).min(length);
                chunk.bytes.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
                chunk.bytes
            }
        };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Reads a log on a thread of its own, because a file may be on a slow disk.
async fn read_from(
    caller: &Caller<'_>,
    name: &str,
    stream: Stream,
    look: impl FnOnce(Source) -> Result<Value, Fault> + Send + 'static,
) -> Result<Value, Fault> {
    let process = find_one(&caller.dispatch.status(), name)?;
    let group = caller.dispatch.manifest().group(&process.group).cloned();
    let is_redirected = group.is_some_and(|group| match group.work {
        Work::Program { .. } | Work::Schedule(_) => group.process.redirect_stderr,
        Work::Queue(_) | Work::Pool(_) => false,
    });
    if stream == Stream::Stderr && is_redirected {
        return Err(Kind::NoFile.bare());
    }
    let exact = format!("{}:{}", process.group, own_name(&process));
    let reader = caller.dispatch.logs(&exact, stream).map_err(|_gone| Kind::BadName.of(name))?;
    let file = reader.file().cloned();
    let looked = tokio::task::spawn_blocking(move || look(Source::open(reader, file))).await;
    looked.unwrap_or_else(|_| Err(Kind::Failed.of("the log could not be read")))
}

pub(super) async fn read(
    caller: &Caller<'_>,
    name: &str,
    stream: Stream,
    offset: i64,
    length: i64,
) -> Result<Value, Fault> {
    read_from(caller, name, stream, move |source| window(source, offset, length)).await
}

fn window(mut source: Source, offset: i64, length: i64) -> Result<Value, Fault> {
    let (from, to) = read_window(source.size(), offset, length)?;
    source.read(from, to).map(Value::Text).map_err(|error| Kind::Failed.of(error.to_string()))
}

pub(super) async fn tail(
    caller: &Caller<'_>,
    name: &str,
    stream: Stream,
    offset: i64,
    length: i64,
) -> Result<Value, Fault> {
    let look = move |mut source: Source| {
        let size = source.size();
        let (from, to, overflow) = tail_window(size, offset, length);
        let text = source.read(from, to).map_err(|error| Kind::Failed.of(error.to_string()))?;
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        Ok(Value::List(vec![text.into(), size.into(), overflow.into()]))
    };
    read_from(caller, name, stream, look).await
}

pub(super) fn clear(caller: &Caller<'_>, name: &str) -> Result<Value, Fault> {
    let process = find_one(&caller.dispatch.status(), name)?;
    caller.dispatch.clear_logs(caller.peer, &process).map_err(|_gone| Kind::BadName.of(name))?;
    Ok(true.into())
}

pub(super) fn clear_all(caller: &Caller<'_>) -> Value {
    let clear = |process| {
        let cleared = caller.dispatch.clear_logs(caller.peer, process);
        result(process, cleared.err().map(|failure| Kind::Failed.of(failure.to_string())))
    };
    let fleet = caller.dispatch.status();
    Value::List(caller.chosen(&fleet, None, |_any| true).into_iter().map(clear).collect())
}

/// The daemon's own log, of which the last lines are kept in memory.
fn own_log(caller: &Caller<'_>) -> Result<LogReader, Fault> {
    caller.dispatch.own_log().ok_or_else(|| Kind::NoFile.bare())
}

pub(super) fn read_own(caller: &Caller<'_>, offset: i64, length: i64) -> Result<Value, Fault> {
    window(Source::Memory(own_log(caller)?), offset, length)
}

pub(super) fn clear_own(caller: &Caller<'_>) -> Result<Value, Fault> {
    let log = own_log(caller)?;
    caller.peer.note("clear the daemon's log");
    log.clear();
    Ok(true.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_cut_as_supervisord_cuts_them() {
        for (size, offset, length, expected) in [
            (100, 0, 0, Some((0, 100))),
            (100, 10, 0, Some((10, 100))),
            (100, 10, 20, Some((10, 30))),
            (100, 90, 20, Some((90, 100))),
            (100, 200, 20, Some((100, 100))),
            (100, -20, 0, Some((80, 100))),
            (10, -20, 0, Some((0, 10))),
            (100, -20, 5, None),
            (100, 0, -5, None),
            (100, i64::MAX, i64::MAX, Some((100, 100))),
            (100, i64::MIN, 0, Some((0, 100))),
        ] {
            assert_eq!(read_window(size, offset, length).ok(), expected, "{size} {offset} {length}");
        }
        for (size, offset, length, expected) in [
            (100, 95, 10, (90, 100, false)),
            (100, 0, 10, (90, 100, true)),
            (100, 90, 10, (90, 100, false)),
            (100, 100, 10, (100, 100, false)),
            (100, 500, 10, (100, 100, false)),
            (0, 0, 10, (0, 0, false)),
            (5, 0, 10, (0, 5, false)),
            (100, -5, -5, (100, 100, true)),
        ] {
            assert_eq!(tail_window(size, offset, length), expected, "{size} {offset} {length}");
        }
    }
}
