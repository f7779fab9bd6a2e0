//! Every line of every child on our own output, with the process' name in front, and in its log file.
//!
//! Each of the two has a thread of its own behind a bounded queue, so a blocked terminal does not keep lines from the
//! files, and neither keeps a child waiting.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qfleet_manifest::logs::LogFile;
use qfleet_manifest::settings::{LogFormat, Logging};
use qfleet_model::words::counted;
use qfleet_os::clock;
use qfleet_os::descriptors::write_all;
use serde::Serialize;

use super::Destination;
use super::capture::LONGEST_LINE;
use super::queue::{Batch, Block, Queue};
use super::rotate::Files;
use super::tail::Stream;

/// How long the end of the daemon waits for its last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// How long somebody who wants to read a file waits for its newest lines.
const SOON: Duration = Duration::from_millis(500);

/// Whose lines they are.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) name: Arc<str>,
    pub(crate) stream: Stream,
    pub(crate) to: Destination,
}

/// Where lines go. Clones are the same place.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    ours: Queue,
    files: Queue,
}

impl Output {
    /// Starts the writers.
    ///
    /// # Errors
    /// No thread could be started, or our own output is closed.
    pub(crate) fn start(logging: &Logging) -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let (ours, format) = (Queue::default(), logging.format);
        let queue = ours.clone();
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            write_ours(&queue, stdout, format);
            queue.done();
        })?;
        let files = Queue::default();
        let (queue, mut writer) = (files.clone(), Files::default());
        thread::Builder::new().name("log files".to_owned()).spawn(move || {
            while let Some(batch) = queue.take() {
                writer.write(&batch);
            }
            queue.done();
        })?;
        Ok(Self { ours, files })
    }

    /// Adds whole lines. Never waits.
    pub(crate) fn write(&self, source: &Source, lines: &[u8]) {
        let block = Block {
            name: source.name.clone(),
            stream: source.stream,
            at: clock::wall(),
            file: source.to.file.clone(),
            lines: Arc::from(lines),
        };
        match (block.file.is_some(), source.to.ours) {
            (true, true) => {
                self.files.push(block.clone());
                self.ours.push(block);
            }
            (true, false) => self.files.push(block),
            (false, true) => self.ours.push(block),
            (false, false) => {}
        }
    }

    /// Opens the log files anew, after somebody else has moved them.
    pub(crate) fn reopen(&self) {
        self.files.reopen();
    }

    /// Has a log file begin anew, behind the lines that wait.
    pub(crate) fn clear(&self, file: Arc<LogFile>) {
        self.files.clear(file);
    }

    /// Waits until the lines that wait for their files have been written, but not for long. Blocks.
    pub(crate) fn wait_until_written(&self) {
        let _late = self.files.flush(SOON);
    }

    /// Waits until everything is written, but not for ever. Whether it is.
    pub(crate) fn flush(&self, limit: Duration) -> bool {
        let files = self.files.flush(limit);
        self.ours.flush(limit) && files
    }

    /// Ends the writers, as soon as they have written what waits.
    pub(crate) fn finish(&self) {
        self.files.finish(LAST_LINES);
        self.ours.finish(LAST_LINES);
    }
}

fn write_ours(queue: &Queue, mut stdout: File, format: LogFormat) {
    while let Some(batch) = queue.take() {
        let text = rendered(&batch, format);
        if let Err(error) = write_all(&mut stdout, &text) {
            tracing::warn!(
                "our own output is closed ({error}); lines of children are not written there any more"
            );
            return;
        }
    }
}

fn rendered(batch: &Batch, format: LogFormat) -> Vec<u8> {
    let mut text = Vec::new();
    if batch.lost > 0 {
        let lost = counted(batch.lost, "line was", "lines were");
        let lost = format!("{lost} dropped because our own output was blocked");
        let source = Block {
            name: Arc::from("qfleet"),
            stream: Stream::Stderr,
            at: clock::wall(),
            file: None,
            lines: Arc::from(lost.as_bytes()),
        };
        render_line(&mut text, &source, lost.as_bytes(), format);
    }
    for block in &batch.blocks {
        let lines = block.lines.strip_suffix(b"\n").unwrap_or(&block.lines);
        for line in lines.split(|byte| *byte == b'\n') {
            for piece in pieces(line) {
                render_line(&mut text, block, piece, format);
            }
        }
    }
    text
}

/// The line, or what it is cut into when it is too long; an empty line is one piece.
fn pieces(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = line.is_empty().then_some(line);
    empty.into_iter().chain(line.chunks(LONGEST_LINE))
}

fn render_line(text: &mut Vec<u8>, block: &Block, line: &[u8], format: LogFormat) {
    match format {
        LogFormat::Text => {
            text.extend_from_slice(block.name.as_bytes());
            text.extend_from_slice(b" | ");
            text.extend_from_slice(line);
        }
        LogFormat::Json => {
            let line = JsonLine {
                timestamp: block.at.to_rfc3339(),
                process: &block.name,
                stream: match block.stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                },
                message: &String::from_utf8_lossy(line),
            };
            // A map with text keys and text values cannot fail.
            let _ = serde_json::to_writer(&mut *text, &line);
        }
    }
    text.push(b'\n');
}

#[derive(Serialize)]
struct JsonLine<'a> {
    timestamp: String,
    process: &'a str,
    stream: &'a str,
    message: &'a str,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qfleet_model::time::WallTime;

    use super::*;

    fn batch(lines: &[u8], lost: u64) -> Batch {
        let block = Block {
            name: Arc::from("messages:messages_01"),
            stream: Stream::Stdout,
            at: WallTime::from_seconds(1_767_225_665),
            file: None,
            lines: Arc::from(lines),
        };
        Batch { blocks: [block].into(), lost, ..Batch::default() }
    }

    #[test]
    fn each_line_has_the_name_in_front() {
        let text = rendered(&batch(b"one\n\ntwo\n", 3), LogFormat::Text);
        let text = String::from_utf8(text).unwrap();
        let expected = "qfleet | 3 lines were dropped because our own output was blocked\n\
            messages:messages_01 | one\nmessages:messages_01 | \nmessages:messages_01 | two\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_lines_are_valid_whatever_the_child_wrote() {
        let text = rendered(&batch(b"say \"hi\" \xff\x1b[0m\n", 0), LogFormat::Json);
        let line: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(line["process"], "messages:messages_01");
        assert_eq!(line["timestamp"], "2026-01-01T00:01:05Z");
        assert_eq!(line["message"], "say \"hi\" \u{fffd}\u{1b}[0m");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut long = vec![b'x'; LONGEST_LINE * 2 + 1];
        long.push(b'\n');
        let text = rendered(&batch(&long, 0), LogFormat::Text);
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 3);
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts_and_never_waits() {
        let queue = Queue::default();
        let lines = vec![b'\n'; 1000];
        for _ in 0..2000 {
            queue.push(batch(&lines, 0).blocks.remove(0).unwrap());
        }
        let taken = queue.take().unwrap();
        let kept = taken.blocks.len() as u64;
        assert!(kept > 1000);
        assert_eq!(taken.lost, (2000 - kept) * 1000);
    }
}
