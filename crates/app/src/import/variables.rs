//! `environment=KEY="value",OTHER=value`.

/// Reads the list; later ones win.
///
/// # Errors
/// Where it is not such a list.
pub(super) fn read(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let Some((name, behind)) = rest.split_once('=') else {
            return Err(format!("`{rest}` is no `KEY=\"value\"`"));
        };
        let name = name.trim();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\'')) {
            return Err(format!("`{name}` is no name of a variable"));
        }
        let (value, after) = value(behind.trim_start())?;
        out.retain(|(known, _)| known != name);
        out.push((name.to_owned(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if after.is_empty() => after,
            None => return Err(format!("a comma is missing before `{after}`")),
        };
    }
    Ok(out)
}

/// A value in quotes up to the same quote, else up to a comma or white space; and what follows.
fn value(text: &str) -> Result<(String, &str), String> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((out, &text[at + 1..]));
        }
        match (c, quote) {
            ('\\', '"') => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            _ => out.push(c),
        }
    }
    Err(format!("`{text}` has a quote that is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_variables_are_read() {
        for (text, expected) in [
            ("", Ok(vec![])),
            ("A=1", Ok(vec![("A", "1")])),
            ("\nA=\"a,b=c\",\nB='x y' , C=/p:q,", Ok(vec![("A", "a,b=c"), ("B", "x y"), ("C", "/p:q")])),
            ("A=1,A=2", Ok(vec![("A", "2")])),
            (r#"A="{\"a\":1}""#, Ok(vec![("A", r#"{"a":1}"#)])),
            ("A=", Ok(vec![("A", "")])),
            ("A", Err("`A` is no `KEY=\"value\"`")),
            ("A=1 B=2", Err("a comma is missing before `B=2`")),
            ("A=\"x", Err("`\"x` has a quote that is not closed")),
        ] {
            let expected = expected
                .map(|all| all.into_iter().map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
                .map_err(str::to_owned);
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
