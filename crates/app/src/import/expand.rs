//! `%(name)s`, `%(name)02d` and `%%` in supervisord's values.
//!
//! A variable of the environment is not filled in: the manifest has `${NAME}` for it. Until the YAML is written such a
//! reference travels as its name between two marks, which no text has, so that a plain `${` stays what it is.

use std::collections::BTreeMap;

/// Begins and ends the name of a variable of the environment.
pub(super) const MARKS: (char, char) = ('\u{fdd0}', '\u{fdd1}');

/// Values by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// `here`, `program_name` and the like.
    pub(super) values: BTreeMap<&'static str, String>,
    /// Variables the file itself sets; others come from the environment.
    pub(super) variables: BTreeMap<String, String>,
}

/// Whether a value depends on a variable of the environment.
pub(super) fn is_open(text: &str) -> bool {
    text.contains(MARKS.0)
}

/// Fills in what is known.
///
/// # Errors
/// What cannot be filled in.
pub(super) fn expand(text: &str, names: &Names) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let reference = behind.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let Some((name, after)) = reference else {
            return Err(format!("`%` in `{text}` stands for itself only as `%%`"));
        };
        let form =
            after.find(|c: char| !matches!(c, '0'..='9' | '-' | ' ' | '+' | '#')).unwrap_or(after.len());
        let (flags, after) = after.split_at(form);
        let value = value(name, names)?;
        out.push_str(&match after.chars().next() {
            Some('s' | 'd') if value == OPEN_NUMBER => open_number(flags),
            Some('s') => padded(&value, flags.trim_start_matches('0'), ' '),
            Some('d' | 'i') if value.parse::<i64>().is_ok() => {
                padded(&value, flags, if flags.starts_with('0') { '0' } else { ' ' })
            }
            _ => {
                return Err(format!("`%({name}){flags}…` in `{text}` is not understood; write `%({name})s`"));
            }
        });
        rest = &after[1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Stands for the number of a process that is not known yet: the manifest's own way to say it.
pub(super) const OPEN_NUMBER: &str = "{process_num}";

/// Whether every number of a process in the text can be said in the manifest's own way.
pub(super) fn number_can_stay_open(text: &str) -> bool {
    text.split("%(process_num)")
        .skip(1)
        .all(|after| matches!(after.as_bytes(), [b's' | b'd', ..] | [b'0', b'1'..=b'9', b'd', ..]))
}

/// The open number with as many digits as `%(process_num)02d` asks for.
fn open_number(flags: &str) -> String {
    match flags {
        "" => OPEN_NUMBER.to_owned(),
        flags => OPEN_NUMBER.replace('}', &format!(":{flags}}}")),
    }
}

fn value(name: &str, names: &Names) -> Result<String, String> {
    if let Some(variable) = name.strip_prefix("ENV_") {
        let open = || format!("{}{variable}{}", MARKS.0, MARKS.1);
        return Ok(names.variables.get(variable).cloned().unwrap_or_else(open));
    }
    names.values.get(name).cloned().ok_or_else(|| {
        let known: Vec<String> = names.values.keys().map(|known| format!("`{known}`")).collect();
        format!("there is no `%({name})s` here, only {} and `ENV_…`", known.join(", "))
    })
}

fn padded(value: &str, width: &str, with: char) -> String {
    let left = width.starts_with('-');
    let width: usize = width.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    let fill: String =
        std::iter::repeat_n(with, width.min(64).saturating_sub(value.chars().count())).collect();
    if left { format!("{value}{fill}") } else { format!("{fill}{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_variables_marked() {
        let names = Names {
            values: [("program_name", "w".to_owned()), ("process_num", "3".to_owned())].into(),
            variables: [("A".to_owned(), "own".to_owned())].into(),
        };
        for (text, expected) in [
            ("%(program_name)s_%(process_num)02d", Ok("w_03")),
            ("%(process_num)d%(process_num)s", Ok("33")),
            ("%(process_num)3d|%(process_num)-3d|", Ok("  3|3  |")),
            ("100%%", Ok("100%")),
            ("%(ENV_A)s %(ENV_B)s ${C}", Ok("own \u{fdd0}B\u{fdd1} ${C}")),
            ("5%", Err("`%` in `5%` stands for itself only as `%%`")),
            ("%(nope)s", Err("there is no `%(nope)s` here, only `process_num`, `program_name` and `ENV_…`")),
            (
                "%(program_name)d",
                Err("`%(program_name)…` in `%(program_name)d` is not understood; write `%(program_name)s`"),
            ),
            (
                "%(process_num)02",
                Err("`%(process_num)02…` in `%(process_num)02` is not understood; write `%(process_num)s`"),
            ),
        ] {
            assert_eq!(expand(text, &names), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
