//! `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `$$` in values, after YAML has been parsed.
//!
//! Because only finished values are expanded, a variable can never change the structure of the file, whatever it holds.

/// Defaults may hold variables again, this deep.
const DEEPEST: usize = 8;

/// A value with its variables filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// Every variable that was asked for.
    pub(crate) variables: Vec<String>,
}

/// Why a value cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unexpandable {
    /// Not set, and no default.
    Unset(String),
    /// Not set or empty, and the file says what to tell.
    Demanded { name: String, message: String },
    /// No closing brace.
    Open,
    /// The name has characters that no variable has.
    BadName(String),
    /// Something else than `:-` or `:?` behind the name.
    BadForm(String),
    /// Defaults inside defaults, too deep.
    TooDeep,
}

/// Fills in the variables of a value.
///
/// # Errors
/// The first reference that cannot be filled in.
pub(crate) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Unexpandable> {
    let mut out = Expanded::default();
    expand_into(text, env, 0, &mut out)?;
    Ok(out)
}

/// Whether the text is one reference without a default, so that showing it shows nothing of its value.
pub(crate) fn is_pure_reference(text: &str) -> bool {
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.is_some_and(|inner| is_name(inner) || inner.split_once(":?").is_some_and(|(name, _)| is_name(name)))
}

fn expand_into(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    out: &mut Expanded,
) -> Result<(), Unexpandable> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('$') {
            out.text.push('$');
            rest = after;
        } else if let Some(after) = behind.strip_prefix('{') {
            let end = closing_brace(after).ok_or(Unexpandable::Open)?;
            reference(&after[..end], env, depth, out)?;
            rest = &after[end + 1..];
        } else {
            out.text.push('$');
            rest = behind;
        }
    }
    out.text.push_str(rest);
    Ok(())
}

fn reference(
    inner: &str,
    env: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    out: &mut Expanded,
) -> Result<(), Unexpandable> {
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, form) = inner.split_at(end);
    if !is_name(name) {
        return Err(Unexpandable::BadName(inner.to_owned()));
    }
    out.variables.push(name.to_owned());
    let value = env(name);
    if form.is_empty() {
        out.text.push_str(&value.ok_or_else(|| Unexpandable::Unset(name.to_owned()))?);
    } else if let Some(default) = form.strip_prefix(":-") {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => out.text.push_str(&value),
            None if depth < DEEPEST => expand_into(default, env, depth + 1, out)?,
            None => return Err(Unexpandable::TooDeep),
        }
    } else if let Some(message) = form.strip_prefix(":?") {
        let demanded =
            || Unexpandable::Demanded { name: name.to_owned(), message: message.trim().to_owned() };
        out.text.push_str(&value.filter(|value| !value.is_empty()).ok_or_else(demanded)?);
    } else {
        return Err(Unexpandable::BadForm(inner.to_owned()));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Where the reference ends; braces of references inside its default are skipped.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == '$' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
        before = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some(String::from("one")),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some(String::from("${A} \"}: [")),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("${A}", "one"),
            ("x${A}y${A}", "xoneyone"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$A costs 5$", "$A costs 5$"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-${A}}!", "one!"),
            ("${NONE:-${NONE:-${A}-x}}", "one-x"),
            ("${A:-${NONE}}", "one"),
            ("${A:?must be there}", "one"),
            ("${TRICK}", "${A} \"}: ["),
        ] {
            assert_eq!(expand(text, &env).map(|out| out.text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(
            expand("${NONE:-${A}}", &env).map(|out| out.variables),
            Ok(vec!["NONE".into(), "A".into()])
        );
    }

    #[test]
    fn what_cannot_be_filled_in_says_why() {
        let demanded = |name: &str| Unexpandable::Demanded { name: name.into(), message: "set it".into() };
        for (text, expected) in [
            ("${NONE}", Unexpandable::Unset("NONE".into())),
            ("${NONE:?set it}", demanded("NONE")),
            ("${EMPTY:? set it}", demanded("EMPTY")),
            ("${A", Unexpandable::Open),
            ("${NONE:-${A}", Unexpandable::Open),
            ("${}", Unexpandable::BadName(String::new())),
            ("${1A}", Unexpandable::BadName("1A".into())),
            ("${A-x}", Unexpandable::BadForm("A-x".into())),
        ] {
            assert_eq!(expand(text, &env), Err(expected), "{text}");
        }
        let deep = format!("{}x{}", "${NONE:-".repeat(50), "}".repeat(50));
        assert_eq!(expand(&deep, &env), Err(Unexpandable::TooDeep));
    }

    #[test]
    fn only_a_bare_reference_hides_everything() {
        for (text, pure) in [
            ("${A}", true),
            ("${A:?x}", true),
            ("${A:-x}", false),
            ("x${A}", false),
            ("${A}${A}", false),
            ("", false),
        ] {
            assert_eq!(is_pure_reference(text), pure, "{text}");
        }
    }
}
