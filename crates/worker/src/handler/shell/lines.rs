//! The control descriptor of a job's process: one JSON object a line, in bounds whatever is written there.

use std::collections::VecDeque;

use serde_json::Value;

use crate::handler::control::{Control, shortened};

const LONGEST_LINE: usize = 64 * 1024;
const MOST_LOGS: usize = 50;
const LONGEST_NOTE: usize = 2 * 1024;

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
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.too_long |= piece.len() > room;
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let too_long = std::mem::take(&mut self.too_long);
        if line.trim_ascii().is_empty() {
            return;
        }
        let object = serde_json::from_slice::<Value>(&line).ok().filter(|_| !too_long);
        if !object.is_some_and(|object| self.heard(&object)) {
            self.bad += 1;
        }
    }

    /// Whether the object says anything that is understood.
    fn heard(&mut self, object: &Value) -> bool {
        if object.get("outcome").is_some() {
            let outcome = Control::from_json(object);
            let good = outcome.is_some();
            self.outcome = outcome.or(self.outcome.take());
            return good;
        }
        if let Some(progress) = object.get("progress") {
            self.progress = Some(shortened(&progress.to_string(), LONGEST_NOTE));
            return true;
        }
        if let Some(log) = object.get("log") {
            let level = log.get("level").and_then(Value::as_str).unwrap_or("info");
            let Some(text) = log.get("text").or(Some(log)).and_then(Value::as_str) else { return false };
            self.logs.push_back(shortened(&format!("{level}: {text}"), LONGEST_NOTE));
            if self.logs.len() > MOST_LOGS {
                self.logs.pop_front();
            }
            return true;
        }
        object.get("heartbeat").is_some()
    }

    /// The last outcome that was written, and notes: log lines, the newest progress, how many lines made no sense.
    pub(super) fn finish(mut self) -> (Option<Control>, Vec<String>) {
        self.end_line();
        let mut notes: Vec<String> = self.logs.into_iter().collect();
        notes.extend(self.progress.map(|progress| format!("progress: {progress}")));
        if self.bad > 0 {
            notes.push(format!("bad_control: {} lines on descriptor 3 could not be understood", self.bad));
        }
        (self.outcome, notes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handler::control::Word;

    fn heard(text: &str) -> (Option<Control>, Vec<String>) {
        let mut lines = Lines::default();
        text.as_bytes().chunks(7).for_each(|chunk| lines.add(chunk));
        lines.finish()
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
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.add(&[b'x'; 10_000]);
        }
        assert_eq!(lines.line.len(), LONGEST_LINE);
        lines.add(b"\n");
        for number in 0..1000 {
            lines.add(format!("{{\"log\":{{\"text\":\"{number}\"}}}}\n").as_bytes());
        }
        let (_, notes) = lines.finish();
        assert_eq!(notes.len(), MOST_LOGS + 1);
        assert_eq!(notes[MOST_LOGS - 1], "info: 999");
        assert!(notes[MOST_LOGS].starts_with("bad_control: 1 "));
    }
}
