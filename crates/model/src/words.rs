//! Numbers as people read them.

use std::fmt;

/// `1 job`, `3 jobs`. What follows the number is given for one and for all other numbers, with its verb if it has one.
#[must_use]
pub fn counted<N: fmt::Display + Copy + PartialEq + From<u8>>(count: N, one: &str, others: &str) -> String {
    let words = if count == N::from(1) { one } else { others };
    format!("{count} {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0_u32, "job", "jobs"), "0 jobs");
        assert_eq!(counted(1_u64, "process was", "processes were"), "1 process was");
        assert_eq!(counted(11_usize, "process was", "processes were"), "11 processes were");
    }
}
