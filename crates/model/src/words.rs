//! Numbers as people read them, and words of others as they can be shown.

use std::fmt;

/// `1 job`, `3 jobs`. What follows the number is given for one and for all other numbers, with its verb if it has one.
#[must_use]
pub fn counted<N: fmt::Display + Copy + PartialEq + From<u8>>(count: N, one: &str, others: &str) -> String {
    let words = if count == N::from(1) { one } else { others };
    format!("{count} {words}")
}

/// Characters of a remark that are kept.
const LONGEST_REMARK: usize = 200;

/// What a program has said, in one line without control characters; `None` when nothing is left of it.
#[must_use]
pub fn remark(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|sign| !sign.is_control()).take(LONGEST_REMARK).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_one_short_line() {
        assert_eq!(remark(" a=b\u{1b}[2J \n").as_deref(), Some("a=b[2J"));
        assert_eq!(remark(" \t\u{1b}"), None);
        assert_eq!(remark(&"x".repeat(10_000)).map(|text| text.len()), Some(LONGEST_REMARK));
    }

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0_u32, "job", "jobs"), "0 jobs");
        assert_eq!(counted(1_u64, "process was", "processes were"), "1 process was");
        assert_eq!(counted(11_usize, "process was", "processes were"), "11 processes were");
    }
}
