//! The file's text: where its lines are, and which parts of them must never be shown.

use std::cmp::{max, min};
use std::ops::Range;

use crate::problem::Problem;
use crate::secrets;

/// Longer lines are cut around the place that is meant.
const WIDEST: usize = 120;

/// Longer words are cut.
const LONGEST_WORDS: usize = 300;

/// What stands in the place of a secret.
pub(crate) const HIDDEN: &str = "•••";

/// A file by name and text.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    file: &'t str,
    text: &'t str,
    lines: Vec<Range<usize>>,
    hidden: Vec<Range<usize>>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(file: &'t str, text: &'t str) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        // YAML takes a lone CR for the end of a line, too.
        let ends = text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
        for (end, byte) in ends {
            if byte == b'\n' && end > 0 && end == start && text.as_bytes()[end - 1] == b'\r' {
                start = end + 1;
                continue;
            }
            lines.push(start..end);
            start = end + 1;
        }
        lines.push(start..text.len());
        Self { file, text, lines, hidden: Vec::new() }
    }

    /// Never show these bytes.
    pub(crate) fn hide(&mut self, bytes: Range<usize>) {
        self.hidden.push(bytes);
    }

    /// A problem with its line, as far as that can be shown.
    pub(crate) fn problem(
        &self,
        (line, column): (usize, usize),
        at: &str,
        what: &str,
        hint: Option<&str>,
    ) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line,
            column,
            text: self.shown(line, column),
            at: plain(at),
            what: plain(what),
            hint: hint.map(plain),
        }
    }

    /// A problem of a file that could not be parsed, so that only its words tell where a secret may be.
    pub(crate) fn problem_unparsed(&self, (line, column): (usize, usize), what: &str) -> Problem {
        let mut problem = self.problem((line, column), "", what, None);
        if line > 0 {
            let before = self.lines.iter().take(line - 1).map(|bytes| &self.text[bytes.clone()]);
            let before: Vec<&str> = before.collect();
            let here = self.lines.get(line - 1).map_or("", |bytes| &self.text[bytes.clone()]);
            problem.text = crop(&secrets::without_secrets(&before, here), column);
            problem.hint = what_to_do(&before, here, what).map(String::from);
        }
        problem
    }

    fn shown(&self, line: usize, column: usize) -> String {
        let Some(bytes) = line.checked_sub(1).and_then(|index| self.lines.get(index)) else {
            return String::new();
        };
        let mut out = String::new();
        let mut at = bytes.start;
        let mut hidden: Vec<_> =
            self.hidden.iter().filter(|part| part.start < bytes.end && part.end > at).collect();
        hidden.sort_by_key(|part| part.start);
        for part in hidden {
            let start = max(part.start, at);
            out.push_str(self.text.get(at..start).unwrap_or_default());
            if part.end > at {
                out.push_str(HIDDEN);
            }
            at = max(at, min(part.end, bytes.end));
        }
        out.push_str(self.text.get(at..bytes.end).unwrap_or_default());
        crop(&out, column)
    }
}

/// What most often is behind text that is no YAML.
fn what_to_do(before: &[&str], here: &str, what: &str) -> Option<&'static str> {
    let is_of_supervisord = |line: &&str| line.starts_with("[program:") || line.starts_with("[supervisor");
    if before.iter().any(is_of_supervisord) || is_of_supervisord(&here) {
        Some("this is a `supervisord.conf`; here it is `programs: {NAME: {command: …}}`")
    } else if here.split_once("cron:").is_some_and(|(_, pattern)| pattern.trim_start().starts_with('*')) {
        Some("a pattern that begins with a star needs quotes: `cron: \"* * * * *\"`")
    } else if here.contains("${") {
        Some("inside `{…}` and `[…]` a value with `${NAME}` needs quotes: {url: \"${NAME}\"}")
    } else if here.trim_start_matches(' ').starts_with('\t') {
        Some("indent with spaces: YAML takes no tabs")
    } else if what.contains("did not find expected key") {
        Some("keys of one section begin in the same column")
    } else {
        None
    }
}

/// Words of a problem may repeat keys and values of the file: in one line, and not without end.
fn plain(text: &str) -> String {
    let mut out: String = text.chars().take(LONGEST_WORDS).map(printable).collect();
    if text.chars().nth(LONGEST_WORDS).is_some() {
        out.push('…');
    }
    out
}

/// Characters that could steer a terminal, or turn the text around, are replaced.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A readable part of a line around a column.
fn crop(line: &str, column: usize) -> String {
    let length = line.chars().count();
    if length <= WIDEST {
        return line.trim_end().chars().map(printable).collect();
    }
    let from = column.saturating_sub(WIDEST / 2).min(length - WIDEST);
    let part: String = line.chars().skip(from).take(WIDEST).map(printable).collect();
    let (before, after) = (if from > 0 { "…" } else { "" }, if from + WIDEST < length { "…" } else { "" });
    format!("{before}{part}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_bytes_do_not_show_even_over_several_lines() {
        let text = "a: 1 # x\nsecret: |\n  one\n  two\nb: 2\n";
        let mut source = Source::new("f", text);
        source.hide(text.find("one").unwrap_or(0)..text.find("b:").unwrap_or(0));
        let line = |n| source.problem((n, 1), "", "", None).text;
        assert_eq!([line(1), line(3), line(4), line(5)], ["a: 1 # x", "  •••", "•••", "b: 2"]);
        assert_eq!([line(0), line(99)], ["", ""]);
    }

    #[test]
    fn a_long_line_is_cut_around_its_column() {
        let text = format!("{}HERE{}", "é".repeat(1000), "x".repeat(1000));
        let shown = Source::new("f", &text).problem((1, 1001), "", "", None).text;
        assert!(shown.chars().count() < 130 && shown.contains("HERE") && shown.starts_with('…'), "{shown}");
    }
}
