//! The control descriptor of a job's process: one JSON object a line, in bounds whatever is written there.

use std::collections::VecDeque;

use qfleet_model::outcome::Output;
use qfleet_model::words::counted;
use qfleet_queue::driver::Remark;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::handler::Remarks;
use crate::handler::control::{Control, shortened};

const LONGEST_LINE: usize = 64 * 1024;
const MOST_LOGS: usize = 50;
const LONGEST_NOTE: usize = 2 * 1024;

/// A progress as it was written: its numbers are nobody's business.
#[derive(Deserialize)]
struct Progress<'l> {
    #[serde(borrow)]
    progress: &'l RawValue,
}

/// What a process said on its control descriptor so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// The line is too long already; the rest of it is skipped.
    too_long: bool,
    outcome: Option<Control>,
    progress: Option<String>,
    logs: VecDeque<String>,
    bad: u64,
}

impl Lines {
    /// More of what is written there; what it says of the job's progress goes to `remarks` line by line.
    pub(super) fn add(&mut self, bytes: &[u8], remarks: &dyn Remarks) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.too_long |= piece.len() > room;
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line(remarks);
            }
        }
    }

    fn end_line(&mut self, remarks: &dyn Remarks) {
        let line = std::mem::take(&mut self.line);
        let too_long = std::mem::take(&mut self.too_long);
        if line.trim_ascii().is_empty() {
            return;
        }
        let object = serde_json::from_slice::<Value>(&line).ok().filter(|_| !too_long);
        if !object.is_some_and(|object| self.heard(&line, &object, remarks)) {
            self.bad += 1;
        }
    }

    /// Whether the object says anything that is understood.
    fn heard(&mut self, line: &[u8], object: &Value, remarks: &dyn Remarks) -> bool {
        if object.get("outcome").is_some() {
            let outcome = Control::from_json(object);
            let good = outcome.is_some();
            self.outcome = outcome.or(self.outcome.take());
            return good;
        }
        if let Some(progress) = object.get("progress") {
            if let Ok(Progress { progress }) = serde_json::from_slice(line) {
                remarks.add(Remark::Progress(Output::Json(progress.get().as_bytes().to_vec())));
            }
            self.progress = Some(shortened(&progress.to_string(), LONGEST_NOTE));
            return true;
        }
        if let Some(log) = object.get("log") {
            let level = log.get("level").and_then(Value::as_str);
            let Some(text) = log.get("text").or(Some(log)).and_then(Value::as_str) else { return false };
            let row = level.map_or_else(|| text.to_owned(), |level| format!("{level}: {text}"));
            remarks.add(Remark::Log(row));
            let level = level.unwrap_or("info");
            self.logs.push_back(shortened(&format!("{level}: {text}"), LONGEST_NOTE));
            if self.logs.len() > MOST_LOGS {
                self.logs.pop_front();
            }
            return true;
        }
        object.get("heartbeat").is_some()
    }

    /// The last outcome that was written, and notes: log lines, the newest progress, how many lines made no sense.
    pub(super) fn finish(mut self, remarks: &dyn Remarks) -> (Option<Control>, Vec<String>) {
        self.end_line(remarks);
        let mut notes: Vec<String> = self.logs.into_iter().collect();
        notes.extend(self.progress.map(|progress| format!("progress: {progress}")));
        if self.bad > 0 {
            let lines = counted(self.bad, "line", "lines");
            notes.push(format!("bad_control: {lines} on descriptor 3 could not be understood"));
        }
        (self.outcome, notes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;
    use crate::handler::control::Word;

    /// Keeps what it is told.
    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Remark>>);

    impl Remarks for Kept {
        fn add(&self, remark: Remark) {
            self.0.lock().unwrap().push(remark);
        }
    }

    fn heard(text: &str) -> (Option<Control>, Vec<String>) {
        heard_by(text, &Kept::default())
    }

    fn heard_by(text: &str, remarks: &Kept) -> (Option<Control>, Vec<String>) {
        let mut lines = Lines::default();
        text.as_bytes().chunks(7).for_each(|chunk| lines.add(chunk, remarks));
        lines.finish(remarks)
    }

    #[test]
    fn progress_and_log_lines_are_passed_on_as_they_were_written() {
        let remarks = Kept::default();
        heard_by(
            concat!(
                "{\"progress\":{\"id\": 12345678901234567890123, \"of\":1.0}}\n",
                "{\"log\":{\"level\":\"warn\",\"text\":\"segment 3\"}}\n",
                "{\"log\":{\"text\":\"segment 4\"}}\n",
                "{\"log\":7}\n{\"progress\":40}\n{\"log\":\"last\"}",
            ),
            &remarks,
        );
        let progress = |text: &str| Remark::Progress(Output::Json(text.into()));
        let log = |text: &str| Remark::Log(text.to_owned());
        assert_eq!(
            *remarks.0.lock().unwrap(),
            [
                progress("{\"id\": 12345678901234567890123, \"of\":1.0}"),
                log("warn: segment 3"),
                log("segment 4"),
                progress("40"),
                log("last"),
            ]
        );
    }

    #[test]
    fn every_kind_of_line() {
        let (outcome, notes) = heard(concat!(
            "{\"progress\":{\"done\":1,\"total\":4}}\n",
            "{\"log\":{\"level\":\"warn\",\"text\":\"segment 3\"}}\n\n",
            "{\"heartbeat\":true}\n",
            "{\"progress\":{\"done\":2,\"total\":4}}\n",
            "{\"log\":\"plain\"}\n",
            "{\"outcome\":\"discard\",\"reason\":\"gone\"}",
        ));
        assert_eq!(outcome.unwrap().word, Word::Discard);
        assert_eq!(notes, ["warn: segment 3", "info: plain", "progress: {\"done\":2,\"total\":4}"]);
    }

    #[test]
    fn the_last_outcome_that_makes_sense_counts() {
        let (outcome, notes) =
            heard("{\"outcome\":\"retry\"}\n{\"outcome\":\"fail\"}\n{\"outcome\":\"later\"}\nnonsense\n[]\n");
        assert_eq!(outcome.unwrap().word, Word::Fail);
        assert_eq!(notes, ["bad_control: 3 lines on descriptor 3 could not be understood"]);
    }

    #[test]
    fn endless_lines_and_endless_logs_stay_in_bounds() {
        let (mut lines, remarks) = (Lines::default(), Kept::default());
        for _ in 0..100 {
            lines.add(&[b'x'; 10_000], &remarks);
        }
        assert_eq!(lines.line.len(), LONGEST_LINE);
        lines.add(b"\n", &remarks);
        for number in 0..1000 {
            lines.add(format!("{{\"log\":{{\"text\":\"{number}\"}}}}\n").as_bytes(), &remarks);
        }
        let (_, notes) = lines.finish(&remarks);
        assert_eq!(notes.len(), MOST_LOGS + 1);
        assert_eq!(notes[MOST_LOGS - 1], "info: 999");
        assert!(notes[MOST_LOGS].starts_with("bad_control: 1 "));
    }
}
