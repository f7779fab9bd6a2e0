//! supervisord's file syntax: sections, `key = value` or `key: value`, indented lines that continue a value, comments.
//!
//! A `;` or `#` behind white space begins a comment even inside quotes, as supervisord has it.

use super::Source;
use super::notes::{Place, Problem};

/// One setting. Its value may have several lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// In lower case.
    pub(super) key: String,
    pub(super) value: String,
    pub(super) place: Place,
    /// Directory of the file it is in.
    pub(super) here: String,
    /// Comments above it.
    pub(super) comments: Vec<String>,
    /// The comment behind it.
    pub(super) trailing: Option<String>,
}

/// A section, all its parts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) comments: Vec<String>,
    pub(super) settings: Vec<Setting>,
    /// Comments below the last setting.
    pub(super) after: Vec<String>,
}

impl Section {
    pub(super) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// `program` and `x` of `program:x`.
    pub(super) fn kind(&self) -> (&str, &str) {
        self.name.split_once(':').map_or((self.name.as_str(), ""), |(kind, name)| (kind, name.trim()))
    }
}

/// Everything that is in one or several files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ini {
    /// Comments at the top, apart from the rest.
    pub(super) head: Vec<String>,
    pub(super) sections: Vec<Section>,
    /// Comments at the end.
    pub(super) tail: Vec<String>,
}

impl Ini {
    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Adds what another file says: the same section goes on, the same key is said anew.
    pub(super) fn add(&mut self, other: Self) {
        self.head.extend(other.head);
        for section in other.sections {
            let Some(same) = self.sections.iter_mut().find(|known| known.name == section.name) else {
                self.sections.push(section);
                continue;
            };
            same.comments.extend(section.comments);
            section.settings.into_iter().for_each(|setting| put(&mut same.settings, setting));
            same.after.extend(section.after);
        }
        self.tail.extend(other.tail);
    }
}

fn put(settings: &mut Vec<Setting>, mut setting: Setting) {
    match settings.iter_mut().find(|known| known.key == setting.key) {
        Some(known) => {
            setting.comments.splice(0..0, known.comments.drain(..));
            *known = setting;
        }
        None => settings.push(setting),
    }
}

/// Reads one file.
///
/// # Errors
/// The first line that is neither a section, a setting nor a comment.
pub(super) fn parse(source: &Source) -> Result<Ini, Problem> {
    let mut reader =
        Reader { source, ini: Ini::default(), pending: Vec::new(), indent: 0, open: false, below: false };
    for (index, line) in source.text.trim_start_matches('\u{feff}').lines().enumerate() {
        reader.line(index + 1, line)?;
    }
    Ok(reader.end())
}

struct Reader<'s> {
    source: &'s Source,
    ini: Ini,
    /// Comments that belong to whatever comes next.
    pending: Vec<String>,
    /// Of the last setting; a line further in continues its value.
    indent: usize,
    /// A value may be continued.
    open: bool,
    /// The last line was a setting, or a comment directly below one.
    below: bool,
}

impl Reader<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Problem> {
        let (text, comment) = split_comment(line);
        let (text, indent) = (text.trim(), line.len() - line.trim_start().len());
        if text.is_empty() {
            match comment {
                Some(comment) => self.pending.push(comment),
                None => self.blank(),
            }
            return Ok(());
        }
        if self.open && indent > self.indent {
            self.continued(text, comment);
            return Ok(());
        }
        self.indent = indent;
        let place = Place { file: self.source.name.clone(), line: number };
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name)
        {
            self.open_section(name, place, comment);
            return Ok(());
        }
        let split = text.find(['=', ':']).map(|at| (text[..at].trim(), text[at + 1..].trim()));
        let Some((key, value)) = split.filter(|(key, _)| !key.is_empty()) else {
            return Err(Problem::at(
                &place,
                format_args!("`{text}` is neither a `[section]` nor `key = value`"),
            ));
        };
        let setting = Setting {
            key: key.to_lowercase(),
            value: value.to_owned(),
            here: self.source.here.clone(),
            comments: std::mem::take(&mut self.pending),
            trailing: comment,
            place,
        };
        let Some(section) = self.ini.sections.last_mut() else {
            return Err(Problem::at(&setting.place, format_args!("`{key}` is in no section")));
        };
        // The setting that is continued must be the last.
        let mut known: Vec<Setting> = Vec::new();
        if let Some(at) = section.settings.iter().position(|other| other.key == setting.key) {
            known.push(section.settings.remove(at));
        }
        put(&mut known, setting);
        section.settings.extend(known);
        (self.open, self.below) = (true, true);
        Ok(())
    }

    fn continued(&mut self, text: &str, comment: Option<String>) {
        let last = self.ini.sections.last_mut().and_then(|section| section.settings.last_mut());
        if let Some(last) = last {
            last.value.push('\n');
            last.value.push_str(text);
            last.comments.extend(self.pending.drain(..).chain(comment));
        }
    }

    /// Comments directly below a setting belong to its section, those at the very top to the file.
    fn blank(&mut self) {
        if std::mem::take(&mut self.below) && !self.pending.is_empty() {
            if let Some(section) = self.ini.sections.last_mut() {
                section.after.append(&mut self.pending);
            }
        } else if self.ini.sections.is_empty() {
            self.ini.head.append(&mut self.pending);
        }
    }

    fn open_section(&mut self, name: &str, place: Place, comment: Option<String>) {
        let mut comments = std::mem::take(&mut self.pending);
        comments.extend(comment);
        let section = Section {
            name: name.trim().to_owned(),
            place,
            comments,
            settings: Vec::new(),
            after: Vec::new(),
        };
        self.ini.sections.push(section);
        (self.open, self.below) = (false, false);
    }

    fn end(mut self) -> Ini {
        if self.below {
            self.blank();
        }
        // Sections that are there twice become one.
        let mut whole = Ini { head: self.ini.head, ..Ini::default() };
        whole.add(Ini { head: Vec::new(), sections: self.ini.sections, tail: self.pending });
        whole
    }
}

/// What is before a comment, and the comment without its sign.
fn split_comment(line: &str) -> (&str, Option<String>) {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if matches!(c, ';' | '#') && before.is_whitespace() {
            let comment = line[at..].trim_start_matches([';', '#']);
            return (&line[..at], Some(comment.trim().to_owned()));
        }
        before = c;
    }
    (line, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Ini, Problem> {
        parse(&Source { name: "s.conf".into(), here: "/etc".into(), text: text.into() })
    }

    fn values(text: &str) -> Vec<(String, String, String)> {
        let sections = read(text).unwrap().sections;
        let of = |section: Section| {
            section.settings.into_iter().map(move |one| (section.name.clone(), one.key, one.value))
        };
        sections.into_iter().flat_map(of).collect()
    }

    #[test]
    fn settings_are_read_as_supervisord_reads_them() {
        for (text, expected) in [
            ("[a]\nx=1", vec![("a", "x", "1")]),
            ("\u{feff}[a]\r\nX : 1 \r\n", vec![("a", "x", "1")]),
            ("[a]\nx=a=b:c", vec![("a", "x", "a=b:c")]),
            ("[a]\nx=1 ; no\ny=a;b\nz=\"a #b\"", vec![("a", "x", "1"), ("a", "y", "a;b"), ("a", "z", "\"a")]),
            ("[a]\nx=\n  A=1,\n  ; no\n\n  B=2\ny=2", vec![("a", "x", "\nA=1,\nB=2"), ("a", "y", "2")]),
            ("[a]\n  x=1\n  y=2\n    3", vec![("a", "x", "1"), ("a", "y", "2\n3")]),
            ("[a]\nx=1\nx=2\n[b]\ny=1\n[a]\nz=3", vec![("a", "x", "2"), ("a", "z", "3"), ("b", "y", "1")]),
        ] {
            let expected: Vec<_> =
                expected.iter().map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())).collect();
            assert_eq!(values(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_setting_is_told_with_its_place() {
        for (text, said) in [
            ("x=1", "s.conf:1: `x` is in no section"),
            ("[a]\n\nnonsense", "s.conf:3: `nonsense` is neither a `[section]` nor `key = value`"),
            ("[a]\n=1", "s.conf:2: `=1` is neither a `[section]` nor `key = value`"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn comments_stay_where_they_belong() {
        let ini = read("; file\n\n; above\n[a]\n# of x\nx=1 ; behind\n; below\n\n; next\n[b]\ny=1\n\n; end")
            .unwrap();
        assert_eq!((ini.head, ini.tail), (vec!["file".to_owned()], vec!["end".to_owned()]));
        let a = &ini.sections[0];
        assert_eq!((&a.comments[..], &a.after[..]), (&["above".to_owned()][..], &["below".to_owned()][..]));
        assert_eq!(a.settings[0].comments, ["of x"]);
        assert_eq!(a.settings[0].trailing.as_deref(), Some("behind"));
        assert_eq!(ini.sections[1].comments, ["next"]);
    }
}
