//! A part of the file with a fixed set of keys.

use crate::keys::Table;
use crate::suggest::nearest;
use crate::value::Value;

/// Longer lists of known keys help nobody.
const MOST_LISTED: usize = 12;

pub(crate) struct Section<'c> {
    /// The section itself.
    pub(crate) value: Value<'c>,
    table: &'static Table,
    entries: Vec<(String, Value<'c>)>,
}

impl<'c> Section<'c> {
    /// Judges every key by the table, and keeps those that have a meaning.
    pub(crate) fn open(value: Value<'c>, table: &'static Table, entries: Vec<(String, Value<'c>)>) -> Self {
        let (entries, unknown): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|(name, _)| table.knows(name));
        for (name, value) in unknown {
            judge(&name, &value, table);
        }
        Self { value, table, entries }
    }

    /// Whether the section can have this key.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.table.knows(name)
    }

    /// The value of a key; `None` when it is not in the file.
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'c>> {
        debug_assert!(self.table.knows(name), "`{name}` is missing in the table of `{}`", self.table.section);
        self.entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The value of a key, read; `None` when it is not in the file or wrong.
    pub(crate) fn read<T>(&self, name: &str, read: impl FnOnce(&Value<'c>) -> Option<T>) -> Option<T> {
        self.get(name).and_then(read)
    }

    /// Of keys that exclude each other, the one that is given.
    pub(crate) fn one_of<const N: usize>(
        &self,
        names: [&'static str; N],
    ) -> Option<(&'static str, &Value<'c>)> {
        let mut given = names.into_iter().filter_map(|name| Some((name, self.get(name)?)));
        let (first, value) = given.next()?;
        if let Some((other, second)) = given.next() {
            second.problem_at_key(format!("`{first}` and `{other}` exclude each other; give one"), None);
            return None;
        }
        Some((first, value))
    }

    pub(crate) fn missing(&self, name: &str, hint: &str) {
        self.value.problem_at_key(format!("`{name}` is missing"), Some(hint));
    }
}

fn judge(name: &str, value: &Value<'_>, table: &'static Table) {
    if let Some(hint) = table.hint(name) {
        value.problem_at_key("unknown setting", Some(hint));
    } else if table.later.contains(&name) {
        value.problem_at_key(format!("`{name}` is not yet in this version"), None);
    } else if let Some(near) = nearest(name, table.names()) {
        value.problem_at_key("unknown setting", Some(&format!("did you mean `{near}`?")));
    } else {
        let all: Vec<&str> = table.names().collect();
        let list = format!("known here: {}", all.join(", "));
        let long = "`config.example.yaml` shows every setting";
        value.problem_at_key("unknown setting", Some(if all.len() > MOST_LISTED { long } else { &list }));
    }
}
