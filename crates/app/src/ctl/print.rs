//! Everything the short commands print goes through here: text or JSON to standard output, problems to standard error.
//!
//! Nobody reading any more (`qfleet status | head -1`) is not an error worth a word. A disk that is full is.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use qfleet_model::snapshot::StateWord;
use serde::Serialize;

use crate::args::{Color, Options};

/// Something that was to be printed is missing where it was to go.
static CUT_OFF: AtomicBool = AtomicBool::new(false);

/// Whether a part of the answer could not be written, other than for want of a reader.
pub(crate) fn is_cut_off() -> bool {
    CUT_OFF.load(Ordering::Relaxed)
}

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    /// JSON for programs.
    pub(crate) json: bool,
    /// How colourful.
    pub(crate) paint: Paint,
    /// A person is watching standard error.
    pub(crate) watched: bool,
}

impl Printer {
    /// As the options, the environment and the terminal say.
    pub(crate) fn new(options: &Options) -> Self {
        let says = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let able = io::stdout().is_terminal() && says("NO_COLOR").is_none();
        let colourful = match options.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => able && says("TERM").is_none_or(|term| term != "dumb"),
        };
        Self {
            json: options.json,
            paint: Paint(colourful && !options.json),
            watched: io::stderr().is_terminal(),
        }
    }

    /// Text as it is.
    pub(crate) fn text(self, text: &str) {
        let _ = self.bytes(text.as_bytes());
    }

    /// One line.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        let _ = self.bytes(format!("{}\n", text.as_ref()).as_bytes());
    }

    /// Bytes as they are, at once.
    ///
    /// # Errors
    /// Nobody reads any more, or there is no room; the latter has been said.
    pub(crate) fn bytes(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        if let Err(error) = &written
            && error.kind() != ErrorKind::BrokenPipe
            && !CUT_OFF.swap(true, Ordering::Relaxed)
        {
            self.problem(&format_args!("cannot write to standard output: {error}"));
        }
        written
    }

    /// A value as JSON.
    pub(crate) fn value(self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(error) => self.problem(&error),
        }
    }

    /// What went wrong.
    pub(crate) fn problem(self, what: &dyn std::fmt::Display) {
        let _ = writeln!(io::stderr(), "qfleet: {what}");
    }

    /// More about what went wrong, in lines of its own.
    pub(crate) fn text_of_problem(self, what: &dyn std::fmt::Display) {
        let _ = write!(io::stderr(), "{what}");
    }

    /// What one should also know.
    pub(crate) fn note(self, what: &str) {
        let _ = writeln!(io::stderr(), "{what}");
    }

    /// Shows what is being waited for, in place of the last such line.
    pub(crate) fn progress(self, what: &str) {
        if self.watched {
            let _ = write!(io::stderr(), "\r\x1b[K{what}");
            let _ = io::stderr().flush();
        }
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// On the way.
    pub(crate) fn moving(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Not well.
    pub(crate) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Of no importance now.
    pub(crate) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    /// A state's word in its colour; `text` may be padded.
    pub(crate) fn state(self, state: StateWord, text: &str) -> String {
        match state {
            StateWord::Running => self.good(text),
            StateWord::Starting | StateWord::Stopping | StateWord::Backoff => self.moving(text),
            StateWord::Stopped => self.faint(text),
            StateWord::Exited | StateWord::Fatal | StateWord::Unknown => self.bad(text),
        }
    }
}
