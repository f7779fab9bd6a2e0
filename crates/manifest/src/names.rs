//! Names in the manifest: what they may look like. They become parts of paths, commands and log lines.

use crate::value::Value;

const LONGEST: usize = 64;

/// Words that have a meaning in commands.
const TAKEN: &[&str] = &["all", "supervisor", "qfleet"];

/// Whether a key can be the name of a queue, pool, program or connection; if not, says why.
pub(crate) fn check(name: &str, value: &Value<'_>) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let (what, hint) = if name.is_empty() || name.len() > LONGEST {
        (format!("a name has 1 to {LONGEST} characters"), None)
    } else if !name.chars().all(fits) {
        let hint = "for another name in Redis write `queue: …` beside it";
        (
            String::from("a name has only letters, digits, `-`, `_` and `.`"),
            value.at.starts_with("queues.").then_some(hint),
        )
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        (String::from("a name begins with a letter or digit"), None)
    } else if TAKEN.contains(&name) {
        (format!("the name `{name}` has a meaning of its own in commands"), None)
    } else {
        return true;
    };
    value.problem_at_key(what, hint);
    false
}
