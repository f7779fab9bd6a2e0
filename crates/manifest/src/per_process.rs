//! `{process_num}`, `{process_num:02}`, `{process_name}` and `{group_name}` in what each process of a group gets: filled in
//! at its start, unlike `${NAME}`, which is the same for all of them and filled in when the file is read. Other braces
//! stand for themselves.

/// Which process.
#[derive(Debug, Clone, Copy)]
pub struct OneProcess<'a> {
    /// Its group.
    pub group: &'a str,
    /// Its full name, `web:web_01`.
    pub name: &'a str,
    /// Its number.
    pub number: u32,
}

impl OneProcess<'_> {
    /// The text as it is for this process.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, inner, after)) = next(rest) {
            out.push_str(before);
            match self.value(inner) {
                Some(value) => out.push_str(&value),
                None => out.extend(["{", inner, "}"]),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn value(&self, inner: &str) -> Option<String> {
        match inner {
            // As supervisord has it: the name without the group.
            "process_name" => Some(self.name.rsplit(':').next().unwrap_or(self.name).to_owned()),
            "group_name" => Some(self.group.to_owned()),
            "process_num" => Some(self.number.to_string()),
            _ => {
                let width = width(inner.strip_prefix("process_num:")?)?;
                Some(format!("{:0width$}", self.number))
            }
        }
    }
}

/// The first text in braces that may be meant for us: what is before it, in it and behind it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        let inner = &text[open + 1..];
        let end = inner.find(['{', '}'])?;
        if inner[end..].starts_with('}') && is_ours(&inner[..end]) {
            return Some((&text[..open], &inner[..end], &inner[end + 1..]));
        }
        from = open + 1;
    }
    None
}

fn is_ours(inner: &str) -> bool {
    ["process_name", "group_name", "process_num"].contains(&inner) || inner.starts_with("process_num:")
}

/// `02`: so many digits, with zeros in front.
fn width(form: &str) -> Option<usize> {
    let digits = form.strip_prefix('0').filter(|digits| digits.len() == 1)?;
    digits.parse().ok().filter(|width| *width > 0)
}

/// A `{process_num:…}` whose form is none.
pub(crate) fn bad_form(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some((_, inner, after)) = next(rest) {
        if inner.strip_prefix("process_num:").is_some_and(|form| width(form).is_none()) {
            return Some(inner);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_gets_its_own_text() {
        let one = OneProcess { group: "web", name: "web:web_07", number: 7 };
        for (text, expected) in [
            ("--port=80{process_num:02}", "--port=8007"),
            ("{process_num}{process_num:03}", "7007"),
            ("{group_name}/{process_name}.log", "web/web_07.log"),
            ("{\"a\": {process_num}, \"b\": {}}", "{\"a\": 7, \"b\": {}}"),
            ("{process_num", "{process_num"),
            ("{other} {{process_num}}", "{other} {7}"),
            ("{process_num:x}", "{process_num:x}"),
        ] {
            assert_eq!(one.fill(text), expected);
        }
    }

    #[test]
    fn forms_are_zeros_and_a_width() {
        for (text, bad) in [
            ("{process_num:02} {process_num}", None),
            ("{process_num:2}", Some("process_num:2")),
            ("{process_num} {process_num:00}", Some("process_num:00")),
            ("{process_num:012}", Some("process_num:012")),
        ] {
            assert_eq!(bad_form(text), bad);
        }
    }
}
