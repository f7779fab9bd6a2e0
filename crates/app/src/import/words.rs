//! A command line in words, as supervisord splits it: quotes and backslashes as in a shell, and no shell.

/// Splits a line; `None` when a quote or a backslash is left open.
pub(super) fn split(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(chars.next()?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// Between double quotes a backslash is one, unless a quote or another one follows.
fn quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

/// Whether every reader of such lines splits this one in the same way: then it can stay a line.
pub(super) fn is_simple(line: &str) -> bool {
    !line.contains(['\\', '#', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_into_words() {
        for (line, words) in [
            ("a  b\tc\nd", Some(vec!["a", "b", "c", "d"])),
            ("a 'b c' \"d e\"f", Some(vec!["a", "b c", "d ef"])),
            (r#"a\ b "c\"d\$e\\f" 'g\h'"#, Some(vec!["a b", r#"c"d\$e\f"#, r"g\h"])),
            ("'' \"\"", Some(vec!["", ""])),
            ("", Some(vec![])),
            ("a 'b", None),
            ("a \"b", None),
            ("a\\", None),
        ] {
            assert_eq!(
                split(line),
                words.map(|all| all.iter().map(|one| (*one).to_owned()).collect()),
                "{line}"
            );
        }
    }
}
