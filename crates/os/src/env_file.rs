//! Files of variables (`.env`): read by a child itself, as the user it has become, so that no value passes through the
//! daemon. Nothing said about such a file shows what is in it.
//!
//! One `NAME=value` a line, after an optional `export`; blank lines and those that begin with `#` mean nothing. A value
//! without quotes ends with its line or before ` #`; in `'…'` everything stands for itself; in `"…"` `\n`, `\r`, `\t`,
//! `\"`, `\$` and `\\` have their meaning. Quotes may span lines. Outside of `'…'`, `${NAME}` is a variable of an earlier
//! line or of the environment, and empty when there is none.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;

/// No file of variables is longer.
const LONGEST: u64 = 1024 * 1024;

/// Reads a file. `known` answers for variables that earlier lines do not set.
///
/// # Errors
/// The file cannot be read, or a line (counted from 1) is not understood.
pub(crate) fn read(path: &Path, known: &dyn Fn(&str) -> Option<String>) -> io::Result<Vec<(String, String)>> {
    let mut text = String::new();
    // A pipe without a writer would be waited for without end.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    parse(&text, known).map_err(|(line, what)| io::Error::other(format!("line {line} {what}")))
}

type Wrong = (usize, &'static str);

fn parse(text: &str, known: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, Wrong> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        let end = rest.find('\n').unwrap_or(rest.len());
        let first = rest[..end].trim();
        if first.is_empty() || first.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let (name, behind) = rest
            .split_once('=')
            .filter(|(name, _)| !name.contains('\n'))
            .ok_or((line, "is not `NAME=value`"))?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if !is_name(name) {
            return Err((line, "does not begin with the name of a variable"));
        }
        let lookup = |wanted: &str| {
            let earlier = found.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
            earlier.or_else(|| known(wanted)).unwrap_or_default()
        };
        let (value, after) =
            value(behind.trim_start_matches([' ', '\t']), &lookup).map_err(|what| (line, what))?;
        found.push((name.to_owned(), value));
        rest = after;
    }
    Ok(found)
}

/// The value that the text begins with, and what follows its line.
fn value<'t>(text: &'t str, lookup: &dyn Fn(&str) -> String) -> Result<(String, &'t str), &'static str> {
    let Some(quote) = text.chars().next().filter(|first| ['\'', '"'].contains(first)) else {
        let end = text.find('\n').unwrap_or(text.len());
        let line = &text[..end];
        let comment =
            line.find(" #").or_else(|| line.find("\t#")).or_else(|| line.starts_with('#').then_some(0));
        let plain = line[..comment.unwrap_or(line.len())].trim_end();
        return Ok((filled(plain, lookup)?, text.get(end + 1..).unwrap_or_default()));
    };
    let inner = &text[1..];
    let end = closing(inner, quote).ok_or("has a quote that is not closed")?;
    let value = if quote == '"' { unescaped(&inner[..end], lookup)? } else { inner[..end].to_owned() };
    let behind = &inner[end + 1..];
    let line = behind.find('\n').unwrap_or(behind.len());
    let trailing = behind[..line].trim();
    if !trailing.is_empty() && !trailing.starts_with('#') {
        return Err("goes on behind its closing quote");
    }
    Ok((value, behind.get(line + 1..).unwrap_or_default()))
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == quote && !escaped {
            return Some(at);
        }
        escaped = quote == '"' && c == '\\' && !escaped;
    }
    None
}

fn unescaped(text: &str, lookup: &dyn Fn(&str) -> String) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&filled(&rest[..at], lookup)?);
        let c = rest[at + 1..].chars().next().unwrap_or('\\');
        match c {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            '"' | '$' | '\\' => out.push(c),
            other => out.extend(['\\', other]),
        }
        rest = rest.get(at + 1 + c.len_utf8()..).unwrap_or_default();
    }
    out.push_str(&filled(rest, lookup)?);
    Ok(out)
}

/// With its `${NAME}` filled in.
fn filled(text: &str, lookup: &dyn Fn(&str) -> String) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let (name, after) = inner
            .split_once('}')
            .filter(|(name, _)| is_name(name))
            .ok_or("has a `${` that is no `${NAME}`")?;
        out.push_str(&lookup(name));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<String> {
        (name == "HOME").then(|| String::from("/home/app"))
    }

    #[test]
    fn lines_are_read_as_people_write_them() {
        let text = "\u{feff}# a comment\n\nAPP_ENV=production\nexport NAME = two words  # said\nEMPTY=\nHASH=a#b\n\
            SINGLE='${HOME} \"as\\n it is' # yes\nDOUBLE=\"a\\n\\\"b\\\" \\${x} ${HOME}/$5\"\nLONG=\"one\ntwo\"\n\
            LATER=${NAME}-${NONE}-${HOME}\nNAME=again\r\nNONE_AT_END=x";
        let expected = [
            ("APP_ENV", "production"),
            ("NAME", "two words"),
            ("EMPTY", ""),
            ("HASH", "a#b"),
            ("SINGLE", "${HOME} \"as\\n it is"),
            ("DOUBLE", "a\n\"b\" ${x} /home/app/$5"),
            ("LONG", "one\ntwo"),
            ("LATER", "two words--/home/app"),
            ("NAME", "again"),
            ("NONE_AT_END", "x"),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(parse(text, &known), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_told_by_its_line_and_never_shown() {
        for (text, expected) in [
            ("A=1\nnonsense", (2, "is not `NAME=value`")),
            ("1A=x", (1, "does not begin with the name of a variable")),
            ("A=1\n\nB=\"open\n\n", (3, "has a quote that is not closed")),
            ("A='x' y", (1, "goes on behind its closing quote")),
            ("A=${", (1, "has a `${` that is no `${NAME}`")),
            ("A=\"${1}\"", (1, "has a `${` that is no `${NAME}`")),
            ("A=\"\\", (1, "has a quote that is not closed")),
        ] {
            assert_eq!(parse(text, &known), Err(expected), "{text}");
        }
    }

    #[test]
    fn only_files_of_a_reasonable_size_are_read() {
        let told = |path: &str| read(Path::new(path), &known).map_err(|error| error.to_string());
        assert_eq!(told("/tmp"), Err(String::from("it is not a file")));
        assert_eq!(told("/dev/null"), Err(String::from("it is not a file")));
        let scratch = tempfile::tempdir().unwrap();
        let pipe = scratch.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(told(pipe.to_str().unwrap()), Err(String::from("it is not a file")));
        assert!(told("/no/such/.env").is_err());
    }
}
