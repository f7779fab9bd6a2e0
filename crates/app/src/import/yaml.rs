//! Writes YAML: sections with comments, and scalars with just the quotes they need.

use super::expand::MARKS;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, a duration or a word of the manifest's own: written as it is.
    Plain(String),
    /// Any text; stays text.
    Text(String),
    /// Texts on one line.
    List(Vec<Value>),
    /// A section in lines of its own.
    Map(Vec<Entry>),
    /// A section on one line.
    Inline(Vec<(&'static str, Value)>),
}

/// A key with its value and comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) comments: Vec<String>,
    /// Without a key there are only comments.
    pub(super) item: Option<(String, Value)>,
    pub(super) trailing: Option<String>,
}

impl Entry {
    pub(super) fn new(key: impl Into<String>, value: Value) -> Self {
        Self { comments: Vec::new(), item: Some((key.into(), value)), trailing: None }
    }

    pub(super) fn comments(comments: Vec<String>) -> Self {
        Self { comments, item: None, trailing: None }
    }

    #[must_use]
    pub(super) fn with(mut self, comment: impl Into<String>) -> Self {
        self.comments.push(comment.into());
        self
    }

    #[must_use]
    pub(super) fn behind(mut self, comment: impl Into<String>) -> Self {
        self.trailing = Some(comment.into());
        self
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.item.as_ref().map(|(key, _)| key.as_str())
    }
}

/// Entries as lines, `depth` levels in.
pub(super) fn write(entries: &[Entry], depth: usize) -> String {
    let mut out = String::new();
    let indent = "  ".repeat(depth);
    for entry in entries {
        for comment in &entry.comments {
            out.push_str(&format!("{indent}{}\n", comment_line(comment)));
        }
        let Some((key, value)) = &entry.item else { continue };
        let behind = entry.trailing.as_ref().map(|comment| format!("   {}", comment_line(comment)));
        let behind = behind.unwrap_or_default();
        let key = scalar(key, Where::Block);
        match value {
            Value::Map(inner) if inner.iter().all(|entry| entry.item.is_none()) => {
                out.push_str(&format!("{indent}{key}: {{}}{behind}\n{}", write(inner, depth + 1)));
            }
            Value::Map(inner) => {
                out.push_str(&format!("{indent}{key}:{behind}\n{}", write(inner, depth + 1)));
            }
            value => out.push_str(&format!("{indent}{key}: {}{behind}\n", one_line(value, Where::Block))),
        }
    }
    out
}

/// One line of comment; nothing in it can end the comment.
pub(super) fn comment_line(comment: &str) -> String {
    let kept: String = comment.chars().map(|c| if is_odd(c) { ' ' } else { c }).collect();
    format!("# {kept}").trim_end().to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Block,
    /// Inside brackets or braces.
    Flow,
}

fn one_line(value: &Value, place: Where) -> String {
    match value {
        Value::Plain(text) if text.contains(MARKS.0) => scalar(text, place),
        Value::Plain(text) => text.clone(),
        Value::Text(text) => scalar(text, place),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| one_line(item, Where::Flow)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Inline(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(key, value)| format!("{key}: {}", one_line(value, Where::Flow)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries.iter().filter_map(|entry| entry.item.as_ref());
            let entries: Vec<String> = entries
                .map(|(key, value)| format!("{}: {}", scalar(key, Where::Flow), one_line(value, Where::Flow)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

fn scalar(text: &str, place: Where) -> String {
    let text = with_dollars(text);
    if is_plain(&text, place) {
        text
    } else if text.chars().any(is_odd) {
        double_quoted(&text)
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// `$` doubled, and references to variables in the manifest's way.
fn with_dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '$' => out.push_str("$$"),
            c if c == MARKS.0 => out.push_str("${"),
            c if c == MARKS.1 => out.push('}'),
            c => out.push(c),
        }
    }
    out
}

/// Line ends, control characters and what YAML does not print.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' | '\u{fdd0}'..='\u{fdef}'
        )
}

fn is_plain(text: &str, place: Where) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '$' | '.');
    let fits = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(
                c,
                ' ' | '/'
                    | '_'
                    | '-'
                    | '.'
                    | '='
                    | ':'
                    | '+'
                    | '@'
                    | '$'
                    | '('
                    | ')'
                    | ';'
                    | '"'
                    | '\''
                    | '|'
                    | '&'
                    | '\\'
            )
            || (place == Where::Block && matches!(c, ',' | '{' | '}' | '*' | '?' | '!' | '%' | '<' | '>'))
    };
    text.starts_with(begins)
        && text.chars().all(fits)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && (place == Where::Block || !text.contains(':'))
        && !is_taken(text)
}

/// Words that some YAML takes for something else than text.
fn is_taken(text: &str) -> bool {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    let lower = text.to_ascii_lowercase();
    let bare = lower.trim_start_matches('.');
    WORDS.contains(&bare) || bare.starts_with(|c: char| c.is_ascii_digit())
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_odd(c) => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
