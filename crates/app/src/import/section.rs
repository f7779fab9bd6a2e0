//! Questions to a section: its settings expanded, and as the kind of value they are to be.

use super::expand::{self, Names};
use super::ini::{Section, Setting};
use super::notes::{Notes, Place};

/// Longest time and largest numbers that the manifest takes.
const DAY: i64 = 86_400;

/// A section that is being read.
pub(super) struct Reading<'s> {
    pub(super) section: &'s Section,
    pub(super) names: Names,
}

impl<'s> Reading<'s> {
    pub(super) fn new(section: &'s Section, names: Names) -> Self {
        Self { section, names }
    }

    /// `[program:x] command`.
    pub(super) fn title(&self, key: &str) -> String {
        format!("[{}] {key}", self.section.name)
    }

    /// A setting's text with everything filled in; `None` when it is not there, or wrong, which has been said.
    pub(super) fn text(&self, key: &str, notes: &mut Notes) -> Option<String> {
        let setting = self.section.get(key)?;
        self.expanded(setting, notes)
    }

    pub(super) fn expanded(&self, setting: &Setting, notes: &mut Notes) -> Option<String> {
        let mut names = self.names.clone();
        names.values.insert("here", setting.here.clone());
        match expand::expand(&setting.value, &names) {
            Ok(text) => Some(text),
            Err(why) => {
                notes.problem(&setting.place, format_args!("{}: {why}", self.title(&setting.key)));
                None
            }
        }
    }

    /// Where a setting is, or the section.
    pub(super) fn place(&self, key: &str) -> &'s Place {
        self.section.get(key).map_or(&self.section.place, |setting| &setting.place)
    }

    pub(super) fn remark(&self, key: &str, what: &str, notes: &mut Notes) {
        notes.remark(self.place(key), format_args!("{}: {what}", self.title(key)));
    }

    fn wrong(&self, key: &str, expected: &str, text: &str, notes: &mut Notes) {
        notes.problem(self.place(key), format_args!("{}: must be {expected}, not `{text}`", self.title(key)));
    }

    /// `true` or `false`; `None` also when the environment decides.
    pub(super) fn flag(&self, key: &str, notes: &mut Notes) -> Option<bool> {
        let text = self.text(key, notes)?;
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => {
                self.wrong(key, "`true` or `false`", &text, notes);
                None
            }
        }
    }

    /// A whole number, as text: it may depend on the environment.
    pub(super) fn number(&self, key: &str, most: i64, notes: &mut Notes) -> Option<String> {
        let text = self.text(key, notes)?;
        if expand::is_open(&text) {
            return Some(text);
        }
        match text.parse::<i64>() {
            Ok(number) if number.abs() <= most => Some(number.to_string()),
            Ok(number) => {
                self.remark(key, &format!("{number} is cut to {most}"), notes);
                Some((number.signum() * most).to_string())
            }
            Err(_) => {
                self.wrong(key, "a whole number", &text, notes);
                None
            }
        }
    }

    /// Seconds, as the manifest shows durations.
    pub(super) fn seconds(&self, key: &str, notes: &mut Notes) -> Option<String> {
        Some(duration(&self.number(key, DAY, notes)?))
    }

    /// Octal digits.
    pub(super) fn octal(&self, key: &str, notes: &mut Notes) -> Option<u32> {
        let text = self.text(key, notes)?;
        match u32::from_str_radix(text.trim_start_matches("0o"), 8) {
            Ok(mode) if mode <= 0o777 => Some(mode),
            _ => {
                self.wrong(key, "octal digits like `022`", &text, notes);
                None
            }
        }
    }

    /// Bytes, with `KB`, `MB` or `GB` behind.
    pub(super) fn size(&self, key: &str, notes: &mut Notes) -> Option<u64> {
        let text = self.text(key, notes)?;
        let lower = text.to_ascii_lowercase();
        let units = [("kb", 10), ("mb", 20), ("gb", 30)];
        let unit = units.iter().find_map(|(end, shift)| Some((lower.strip_suffix(end)?, *shift)));
        let (digits, shift) = unit.unwrap_or((lower.as_str(), 0));
        let size = digits.trim().parse::<u64>().ok().and_then(|count| count.checked_mul(1 << shift));
        if size.is_none() {
            self.wrong(key, "a size like `50MB`", &text, notes);
        }
        size
    }
}

/// Seconds as the manifest shows durations: `360` is `6m`.
pub(super) fn duration(seconds: &str) -> String {
    let Ok(number) = seconds.parse::<u64>() else { return seconds.to_owned() };
    if number == 0 {
        "0".to_owned()
    } else {
        qfleet_manifest::units::shown(std::time::Duration::from_secs(number))
    }
}
