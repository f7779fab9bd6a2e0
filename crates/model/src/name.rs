//! Names people type: of processes, and of sets of them.
//!
//! Queue and pool processes are always `NAME:NAME_00`, `NAME:NAME_01`, …; a program with one process is plain `NAME`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The full name of one process slot, e.g. group `messages`, process `messages_01`, number 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessName {
    /// The queue, pool or program it belongs to.
    pub group: String,
    /// The process' own part: `messages_01`, or the group's name for a program with one process.
    pub process: String,
    /// Its number within the group.
    pub number: u32,
}

impl ProcessName {
    /// The numbered name `group:group_NN`.
    #[must_use]
    pub fn numbered(group: &str, number: u32) -> Self {
        Self { group: group.to_owned(), process: format!("{group}_{number:02}"), number }
    }

    /// The plain name of a program that has one process.
    #[must_use]
    pub fn single(group: &str) -> Self {
        Self { group: group.to_owned(), process: group.to_owned(), number: 0 }
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group == self.process {
            out.write_str(&self.group)
        } else {
            write!(out, "{}:{}", self.group, self.process)
        }
    }
}

/// A set of processes as a person names it: `all`, `messages`, `messages:*`, `messages:messages_01`, `messages:1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// Every process of the fleet.
    All,
    /// Every process of one group.
    Group(String),
    /// One process of a group, by its own name or its number.
    Process(String, String),
}

impl Selector {
    /// Reads what a person typed.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the name.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "all" => Ok(Self::All),
            None if text.is_empty() => Err("a name must not be empty".to_owned()),
            None => Ok(Self::Group(text.to_owned())),
            Some(("", _)) => Err(format!("`{text}` names no group before the colon")),
            Some((group, "*" | "")) => Ok(Self::Group(group.to_owned())),
            Some((group, process)) => Ok(Self::Process(group.to_owned(), process.to_owned())),
        }
    }

    /// Whether `name` is in the set.
    #[must_use]
    pub fn matches(&self, name: &ProcessName) -> bool {
        match self {
            Self::All => true,
            Self::Group(group) => *group == name.group,
            Self::Process(group, process) => {
                *group == name.group && (*process == name.process || process.parse() == Ok(name.number))
            }
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => out.write_str("all"),
            Self::Group(group) => out.write_str(group),
            Self::Process(group, process) => write!(out, "{group}:{process}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_as_supervisord_prints_them() {
        assert_eq!(ProcessName::numbered("messages", 1).to_string(), "messages:messages_01");
        assert_eq!(ProcessName::single("reverb").to_string(), "reverb");
    }

    #[test]
    fn every_way_to_write_a_name_selects_the_same_process() {
        let name = ProcessName::numbered("messages", 1);
        for text in ["all", "messages", "messages:*", "messages:messages_01", "messages:1", "messages:01"] {
            assert!(Selector::parse(text).is_ok_and(|selector| selector.matches(&name)), "{text}");
        }
        for text in ["mess", "messages:2", "messages:messages_1", "other:1"] {
            assert!(Selector::parse(text).is_ok_and(|selector| !selector.matches(&name)), "{text}");
        }
        assert!(Selector::parse("").is_err() && Selector::parse(":x").is_err());
    }
}
