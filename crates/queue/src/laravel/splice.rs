//! The attempt counter inside a payload's text: found by walking from bracket to bracket, changed digit by digit.
//!
//! The same rules as `lua/scan.lua`, which does it inside Redis when jobs are taken; a test holds the two together. Only
//! canonical counters are used (`3`, `2.0`, `"3"`, at most nine digits), so that raising and lowering undo each other.

/// Where the digits of the counter stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counter {
    /// First digit.
    pub(crate) at: usize,
    /// How many.
    pub(crate) len: usize,
    /// Their value.
    pub(crate) value: u32,
}

/// The counter of a payload; none when it has no usable one.
pub(crate) fn counter(payload: &[u8]) -> Option<Counter> {
    let mut at = at_a_glance(payload).or_else(|| walk(payload))?;
    let quoted = payload.get(at) == Some(&b'"');
    at += usize::from(quoted);
    let len = digits(&payload[at..]);
    if len == 0 || len > 9 || (len > 1 && payload[at] == b'0') {
        return None;
    }
    let mut rest = at + len;
    if payload.get(rest) == Some(&b'.') {
        match digits(&payload[rest + 1..]) {
            0 => {}
            fraction => rest += 1 + fraction,
        }
    }
    let ended = match payload.get(rest) {
        Some(b'"') => quoted,
        Some(byte) => !quoted && (is_space(*byte) || matches!(byte, b',' | b'}')),
        None => !quoted,
    };
    let value = std::str::from_utf8(&payload[at..at + len]).ok()?.parse().ok()?;
    ended.then_some(Counter { at, len, value })
}

/// `payload` with other digits in the place of its counter's.
pub(crate) fn splice(payload: &[u8], at: usize, len: usize, digits: &str) -> Vec<u8> {
    let mut changed = Vec::with_capacity(payload.len() + digits.len());
    changed.extend_from_slice(payload.get(..at).unwrap_or(payload));
    changed.extend_from_slice(digits.as_bytes());
    changed.extend_from_slice(payload.get(at + len..).unwrap_or_default());
    changed
}

/// Position of the counter in a payload as Laravel's own producers and Horizon's write it, recognised from both ends. For
/// JSON the walk finds the same; for other texts it may not, and the script must not be contradicted.
fn at_a_glance(payload: &[u8]) -> Option<usize> {
    let uuid = payload.strip_prefix(br#"{"uuid":""#)?;
    let (id, rest) = uuid.split_at(run(uuid, |byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    if id.is_empty() || rest.first() != Some(&b'"') || find(payload, br#""retry_of""#).is_some() {
        return None;
    }
    let tail = &payload[payload.len().saturating_sub(512)..];
    let mut from = 0;
    let at = loop {
        let at = from + find(&tail[from..], KEY)? + KEY.len();
        if tail.get(at).is_some_and(u8::is_ascii_digit) {
            break at;
        }
        from = at;
    };
    let rest = &tail[at + digits(&tail[at..])..];
    let rest = after_word(rest, br#","delay":"#).unwrap_or(rest);
    let rest = after_horizon(rest).unwrap_or(rest);
    (rest == b"}").then(|| payload.len() - tail.len() + at)
}

const KEY: &[u8] = br#","attempts":"#;

/// What Horizon adds at the end.
fn after_horizon(rest: &[u8]) -> Option<&[u8]> {
    let rest = after_word(rest, br#","type":""#)?.strip_prefix(br#"","tags":["#)?;
    let rest = rest[run(rest, |byte| !b"[]{}".contains(&byte))..].strip_prefix(b"]")?;
    let rest = after_word(rest, br#","silenced":"#).unwrap_or(rest);
    let rest = rest.strip_prefix(br#","pushedAt":""#)?;
    let date = run(rest, |byte| byte.is_ascii_digit() || byte == b'.');
    if date == 0 { None } else { rest[date..].strip_prefix(b"\"") }
}

/// The rest after `start` and a word of letters and digits.
fn after_word<'a>(text: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let rest = text.strip_prefix(start)?;
    let word = run(rest, |byte| byte.is_ascii_alphanumeric());
    (word > 0).then(|| &rest[word..])
}

fn run(text: &[u8], of: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|byte| of(**byte)).count()
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Position of the last value of the outermost object's key `attempts`.
fn walk(payload: &[u8]) -> Option<usize> {
    let mut found = None;
    let mut pos = payload.iter().position(|byte| !is_space(*byte))?;
    if payload[pos] != b'{' {
        return None;
    }
    let mut depth = 0_i64;
    while let Some(byte) = payload.get(pos) {
        match byte {
            // Also outside of strings, where it is no JSON: the other walk sees pairs everywhere.
            b'\\' => pos += 1,
            b'"' => {
                let Some(close) = string_end(payload, pos) else { break };
                let value = if depth == 1 { after_colon(payload, close + 1) } else { None };
                if let Some(value) = value {
                    if &payload[pos + 1..close] == b"attempts" {
                        found = Some(value);
                    }
                    pos = value;
                    continue;
                }
                pos = close;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            _ => {}
        }
        pos += 1;
    }
    found
}

/// Position of the quote that ends the string beginning at `start`.
fn string_end(payload: &[u8], start: usize) -> Option<usize> {
    let mut pos = start + 1;
    loop {
        match payload.get(pos)? {
            b'"' => return Some(pos),
            b'\\' => pos += 2,
            _ => pos += 1,
        }
    }
}

/// Position of the first byte after a colon and the space around it.
fn after_colon(payload: &[u8], from: usize) -> Option<usize> {
    let colon = skip_space(payload, from);
    (payload.get(colon) == Some(&b':')).then(|| skip_space(payload, colon + 1))
}

fn skip_space(payload: &[u8], from: usize) -> usize {
    let rest = payload.get(from..).unwrap_or_default();
    from + run(rest, is_space)
}

fn digits(text: &[u8]) -> usize {
    run(text, |byte| byte.is_ascii_digit())
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod agreement;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_the_outermost_and_last_one() {
        for (payload, expected) in [
            (r#"{"attempts":0}"#, Some((12, 1, 0))),
            (r#"{"attempts":17,"x":1}"#, Some((12, 2, 17))),
            (r#" { "attempts" : 3 } "#, Some((16, 1, 3))),
            (r#"{"attempts":"3"}"#, Some((13, 1, 3))),
            (r#"{"attempts":2.0}"#, Some((12, 1, 2))),
            (r#"{"attempts":1,"attempts":5}"#, Some((25, 1, 5))),
            (r#"{"data":{"attempts":9},"attempts":1}"#, Some((34, 1, 1))),
            (r#"{"data":"\"attempts\":9","attempts":1}"#, Some((36, 1, 1))),
            (r#"{"data":["attempts",{"attempts":4}]}"#, None),
            (r#"{"attempts":null}"#, None),
            (r#"{"attempts":-1}"#, None),
            (r#"{"attempts":1e2}"#, None),
            (r#"{"attempts":"x"}"#, None),
            (r#"{"attempts":"3}"#, None),
            (r#"{"attempts":007}"#, None),
            (r#"{"attempts":1234567890}"#, None),
            (r#"["attempts",1]"#, None),
            ("hello", None),
            ("", None),
        ] {
            let found = counter(payload.as_bytes()).map(|found| (found.at, found.len, found.value));
            assert_eq!(found, expected, "{payload}");
        }
    }

    #[test]
    fn only_the_digits_change() {
        let payload = br#"{"a":[],"attempts":9,"b":1.0}"#;
        let found = counter(payload).unwrap();
        let raised = splice(payload, found.at, found.len, "10");
        assert_eq!(raised, br#"{"a":[],"attempts":10,"b":1.0}"#);
        let found = counter(&raised).unwrap();
        assert_eq!(splice(&raised, found.at, found.len, "9"), payload);
    }
}
