//! Which parts of a manifest are secrets, so that no line that is shown has one.
//!
//! Decided by key and form before anything is validated, and generously: a misspelt key, an unknown one that sounds like a
//! secret, a password inside a URL and whatever looks like a signing key are hidden too. A bare `${NAME}` is shown.

use std::ops::Range;

use crate::expand::is_pure_reference;
use crate::keys;
use crate::source::HIDDEN;
use crate::suggest::nearest;
use crate::tree::{Kind, Node};

/// Everything to hide in a parsed file.
pub(crate) fn ranges(root: &Node, text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    walk(root, text, false, &mut out);
    out
}

/// A line of a file that cannot be parsed, without what may be a secret. `before` are the lines above it.
pub(crate) fn without_secrets(before: &[&str], line: &str) -> String {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut level = indent(line);
    for above in before.iter().rev().filter(|above| !above.trim().is_empty()).take(1_000) {
        if indent(above) < level {
            level = indent(above);
            if named_secret(above).is_some() {
                return HIDDEN.to_owned();
            }
        }
    }
    if let Some(end) = named_secret(line) {
        return format!("{} {HIDDEN}", &line[..end]);
    }
    let mut out = line.to_owned();
    if let Some(part) = url_password(&out) {
        out.replace_range(part, HIDDEN);
    }
    for mark in ["whsec_", "whsk_"] {
        if let Some(at) = out.find(mark) {
            out.truncate(at);
            out.push_str(HIDDEN);
        }
    }
    out
}

fn walk(node: &Node, text: &str, secret: bool, out: &mut Vec<Range<usize>>) {
    match &node.kind {
        Kind::Null => {}
        Kind::Scalar { text: value, .. } => hide_scalar(node, value, text, secret, out),
        Kind::List(items) => items.iter().for_each(|item| walk(item, text, secret, out)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                let name = if let Kind::Scalar { text, .. } = &key.kind { text.as_str() } else { "" };
                let below = match &value.kind {
                    Kind::Map(_) => is_secret_map(name),
                    _ => is_secret_key(name),
                };
                walk(value, text, secret || below, out);
            }
        }
    }
}

fn hide_scalar(node: &Node, value: &str, text: &str, secret: bool, out: &mut Vec<Range<usize>>) {
    if is_pure_reference(value) {
        return;
    }
    if secret || value.contains("whsec_") || value.contains("whsk_") {
        // A block ends where the next key begins; its last line break and indent are no secret.
        let written = text.get(node.bytes.clone()).unwrap_or_default();
        out.push(node.bytes.start..node.bytes.start + written.trim_end().len());
    } else if let Some(part) = text.get(node.bytes.clone()).and_then(url_password) {
        out.push(node.bytes.start + part.start..node.bytes.start + part.end);
    }
}

/// The password inside `scheme://user:password@…`, or all before the `@`.
fn url_password(text: &str) -> Option<Range<usize>> {
    let start = text.find("://")? + 3;
    let end = start + text[start..].rfind('@')?;
    let password = text[start..end].find(':').map_or(start, |colon| start + colon + 1);
    (password < end && !is_pure_reference(&text[password..end])).then_some(password..end)
}

/// Mappings whose values are secrets or may be.
fn is_secret_map(name: &str) -> bool {
    ["headers", "environment", "env"].contains(&name)
}

fn is_secret_key(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    if ["secret", "password", "proxy"].contains(&name) {
        return true;
    }
    if lower.ends_with("file") || keys::TABLES.iter().any(|table| table.knows(name)) {
        return false;
    }
    ["secret", "password", "passwd", "token", "proxy", "authorization"]
        .iter()
        .any(|word| lower.contains(word))
        || nearest(name, ["secret", "password"]).is_some()
}

/// Where the value begins in a line that gives a secret.
fn named_secret(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(colon) = line[from..].find(':').map(|at| from + at) {
        let before = line[..colon].trim_end_matches(['"', '\'', ' ']);
        let word = before.rfind(|c: char| !(c.is_alphanumeric() || "-_".contains(c))).map_or(before, |at| {
            let behind = at + before[at..].chars().next().map_or(1, char::len_utf8);
            &before[behind..]
        });
        if is_secret_key(word) || is_secret_map(word) {
            return Some(colon + 1);
        }
        from = colon + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tree::parse;

    fn hidden(text: &str) -> Vec<&str> {
        let tree = parse(text).unwrap();
        ranges(&tree.root, text).into_iter().map(|bytes| &text[bytes]).collect()
    }

    #[test]
    fn secrets_are_found_by_key_and_by_form() {
        for (text, expected) in [
            ("password: hunter2", vec!["hunter2"]),
            ("handler: {http: {secert: \"abc\"}}", vec!["\"abc\""]),
            ("secrets: [a, b]", vec!["a", "b"]),
            ("x: whsec_AAAA", vec!["whsec_AAAA"]),
            ("url: redis://app:pw@host/0", vec!["pw"]),
            ("url: redis://app:p/w@x@host/0", vec!["p/w@x"]),
            ("url: redis://pw@host/0", vec!["pw"]),
            ("url: mysql://app:${DB}@db/crm", vec![]),
            ("secret: ${HOOK}", vec![]),
            ("secret: ${HOOK:-fallback}", vec!["${HOOK:-fallback}"]),
            ("headers: {X-Key: abc, Y: 1}", vec!["abc", "1"]),
            ("environment: {A: b}", vec!["b"]),
            ("password-file: /run/secrets/redis", vec![]),
            ("control: {socket: /run/x.sock}", vec![]),
            ("queues: {token-refresh: {tries: 3}}", vec![]),
            ("a: &p hunter2\npassword: *p", vec!["hunter2"]),
        ] {
            assert_eq!(hidden(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_of_broken_files_show_no_secret_either() {
        for (before, line, expected) in [
            (vec![], "  secret: \"whsec_abc", "  secret: •••"),
            (vec![], "{url: x, password: a: b", "{url: x, password: •••"),
            (vec![], "\"password\" : x: y", "\"password\" : •••"),
            (vec!["  password: |", "    one"], "    two: \"", "•••"),
            (vec!["http:", "  headers:", "    A: b"], "    X: y: z", "•••"),
            (vec![], "url: redis://a:b@c: d", "url: redis://a:•••@c: d"),
            (vec![], "x: [whsec_abc", "x: [•••"),
            (vec!["a: 1"], "b: c: d", "b: c: d"),
        ] {
            assert_eq!(without_secrets(&before, line), expected, "{line}");
        }
    }
}
