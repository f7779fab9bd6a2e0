//! What a handler's process prints: kept in bounds, whatever it prints.
//!
//! Of standard output the first part is kept, as the result; of standard error the first and the last lines with their
//! times, as the log of the delivery. Everything beyond is counted.

use std::collections::VecDeque;

use qfleet_model::outcome::Output;
use qfleet_model::time::WallTime;

const RESULT: usize = 64 * 1024;
const FIRST: usize = 8 * 1024;
const LAST: usize = 56 * 1024;
/// A longer line is kept in pieces.
const LONGEST_LINE: usize = 8 * 1024;

/// The beginning of standard output.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    kept: Vec<u8>,
    total: u64,
}

impl Printed {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = RESULT - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Everything it printed, as JSON if it is that, else as text. What is longer than is kept, or than `longest`, is no
    /// result at all, since half a result is none.
    pub(crate) fn result(self, longest: u64) -> Result<Option<Output>, u64> {
        if self.total > longest.min(self.kept.len() as u64) {
            return Err(self.total);
        }
        Ok(as_output(self.kept))
    }
}

/// JSON if all of it is, else text; nothing of nothing. Bytes that are not UTF-8 are replaced.
pub(crate) fn as_output(bytes: Vec<u8>) -> Option<Output> {
    if bytes.trim_ascii().is_empty() {
        return None;
    }
    if serde_json::from_slice::<&serde_json::value::RawValue>(&bytes).is_ok() {
        return Some(Output::Json(bytes.trim_ascii().to_vec()));
    }
    Some(Output::Text(into_text(bytes)))
}

/// Text with everything replaced that is not UTF-8.
pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The first and the last lines of standard error.
#[derive(Debug)]
pub(crate) struct Complaints {
    first: Vec<(WallTime, String)>,
    last: VecDeque<(WallTime, String)>,
    first_bytes: usize,
    last_bytes: usize,
    left_out: u64,
    line: Vec<u8>,
    /// Bytes that may still be looked at.
    room: u64,
    thrown_away: u64,
}

impl Complaints {
    /// Looks at no more than `most` bytes.
    pub(crate) fn new(most: u64) -> Self {
        Self {
            first: Vec::new(),
            last: VecDeque::new(),
            first_bytes: 0,
            last_bytes: 0,
            left_out: 0,
            line: Vec::new(),
            room: most,
            thrown_away: 0,
        }
    }

    pub(crate) fn add(&mut self, bytes: &[u8], at: WallTime) {
        let looked_at = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        self.room -= looked_at as u64;
        self.thrown_away += (bytes.len() - looked_at) as u64;
        for piece in bytes[..looked_at].split_inclusive(|byte| *byte == b'\n') {
            let mut rest = piece;
            while self.line.len() + rest.len() > LONGEST_LINE {
                let (fits, more) = rest.split_at(LONGEST_LINE - self.line.len());
                self.line.extend_from_slice(fits);
                self.end_line(at);
                rest = more;
            }
            self.line.extend_from_slice(rest);
            if self.line.ends_with(b"\n") {
                self.end_line(at);
            }
        }
    }

    fn end_line(&mut self, at: WallTime) {
        let text = into_text(std::mem::take(&mut self.line)).trim_end().to_owned();
        if text.is_empty() {
            return;
        }
        let length = text.len();
        if self.last.is_empty() && self.first_bytes + length <= FIRST {
            self.first_bytes += length;
            self.first.push((at, text));
            return;
        }
        self.last_bytes += length;
        self.last.push_back((at, text));
        while self.last_bytes > LAST {
            let Some((_, oldest)) = self.last.pop_front() else { break };
            self.last_bytes -= oldest.len();
            self.left_out += oldest.len() as u64;
        }
    }

    /// The lines with their times; a line says how much is missing in the middle and at the end.
    pub(crate) fn finish(mut self, at: WallTime) -> Log {
        self.end_line(at);
        let shown = |(at, text): &(WallTime, String)| format!("{} stderr: {text}", at.to_rfc3339());
        let last_line = self.last.back().or(self.first.last()).map(|(_, text)| text.clone());
        let mut lines: Vec<String> = self.first.iter().map(shown).collect();
        if self.left_out > 0 {
            lines.push(format!("{} bytes of stderr are left out here", self.left_out));
        }
        lines.extend(self.last.iter().map(shown));
        if self.thrown_away > 0 {
            lines.push(format!("{} bytes of stderr beyond `max-output` were thrown away", self.thrown_away));
        }
        Log { lines, last_line }
    }
}

/// The log of a delivery.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<String>,
    /// The last line as it was printed, for the reason of a failure.
    pub(crate) last_line: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT: WallTime = WallTime::from_seconds(1_767_225_605);

    fn printed(bytes: &[u8]) -> Printed {
        let mut printed = Printed::default();
        bytes.chunks(1000).for_each(|chunk| printed.add(chunk));
        printed
    }

    fn complaints(bytes: &[u8], most: u64) -> Log {
        let mut complaints = Complaints::new(most);
        bytes.chunks(777).for_each(|chunk| complaints.add(chunk, AT));
        complaints.finish(AT)
    }

    #[test]
    fn all_of_it_is_json_or_it_is_text() {
        let longest = u64::MAX;
        let json = br#"{"id":9223372036854775807,"a":[]}"#;
        assert_eq!(printed(json).result(longest).unwrap(), Some(Output::Json(json.to_vec())));
        assert_eq!(printed(b"42\n").result(longest).unwrap(), Some(Output::Json(b"42".to_vec())));
        assert_eq!(
            printed(b"done: 3\n").result(longest).unwrap(),
            Some(Output::Text("done: 3\n".to_owned()))
        );
        assert_eq!(printed(b"a\xFFb").result(longest).unwrap(), Some(Output::Text("a\u{FFFD}b".to_owned())));
        assert_eq!(printed(b" \n").result(longest).unwrap(), None);
    }

    #[test]
    fn a_result_is_whole_or_none() {
        assert!(printed(&[b'1'; RESULT]).result(u64::MAX).unwrap().is_some());
        assert_eq!(printed(&[b'1'; RESULT + 1]).result(u64::MAX), Err(RESULT as u64 + 1));
        assert_eq!(printed(b"12345").result(4), Err(5));
        assert_eq!(printed(&[b'x'; 1_000_000]).kept.len(), RESULT);
    }

    #[test]
    fn the_first_and_the_last_lines_are_kept() {
        let text: String = (0..20_000).map(|line| format!("line {line:06}\n")).collect();
        let log = complaints(text.as_bytes(), u64::MAX);
        assert_eq!(log.last_line.as_deref(), Some("line 019999"));
        assert_eq!(log.lines[0], "2026-01-01T00:00:05Z stderr: line 000000");
        assert!(log.lines.last().unwrap().ends_with("line 019999"));
        let first = log.lines.iter().position(|line| line.contains("left out")).unwrap();
        assert_eq!(first, FIRST / 11);
        assert_eq!(log.lines.len() - first - 1, LAST / 11);
        let left_out = (20_000 - first - (log.lines.len() - first - 1)) * 11;
        assert_eq!(log.lines[first], format!("{left_out} bytes of stderr are left out here"));
    }

    #[test]
    fn endless_lines_stay_in_bounds() {
        let log = complaints(&[b'x'; 1_000_000], u64::MAX);
        let kept: usize = log.lines.iter().map(String::len).sum();
        assert!(kept < FIRST + LAST + 2000, "{kept}");
    }

    #[test]
    fn beyond_the_limit_it_is_counted_only() {
        let log = complaints(b"one\ntwo\nthree\n", 8);
        assert_eq!(log.last_line.as_deref(), Some("two"));
        assert_eq!(log.lines.last().unwrap(), "6 bytes of stderr beyond `max-output` were thrown away");
    }

    #[test]
    fn a_last_line_needs_no_end() {
        assert_eq!(complaints(b"one\n\n  \nlast \xFF", u64::MAX).last_line.as_deref(), Some("last \u{FFFD}"));
        assert_eq!(complaints(b"", u64::MAX).last_line, None);
    }
}
