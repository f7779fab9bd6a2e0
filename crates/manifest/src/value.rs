//! One value of the file, and how to ask it for a number, a duration, a word, a list.
//!
//! Every question answers `None` after it has noted the problem, so readers can go on and find the next one.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::context::{Context, Place};
use crate::expand::{Unexpandable, expand};
use crate::keys::Table;
use crate::section::Section;
use crate::suggest::nearest;
use crate::tree::{Guess, Kind, Node};
use crate::units;

#[derive(Clone)]
pub(crate) struct Value<'c> {
    pub(crate) context: &'c Context<'c>,
    node: &'c Node,
    key: Option<&'c Node>,
    /// Path of the key, e.g. `queues.messages.numprocs`.
    pub(crate) at: String,
}

/// A scalar with its variables filled in.
struct Scalar {
    text: String,
    guess: Guess,
    /// As it is in the file.
    written: String,
    variables: Vec<String>,
}

impl Scalar {
    fn expanded(&self) -> bool {
        !self.variables.is_empty()
    }

    /// For messages: never what a variable holds, it might be a secret.
    fn shown(&self) -> String {
        let text: String =
            self.written.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if self.expanded() { format!("what `{text}` gives") } else { format!("`{text}`") }
    }
}

impl<'c> Value<'c> {
    pub(crate) fn root(context: &'c Context<'c>, node: &'c Node) -> Self {
        Self { context, node, key: None, at: String::new() }
    }

    fn child(&self, name: &str, key: Option<&'c Node>, node: &'c Node) -> Self {
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        Self { context: self.context, node, key, at }
    }

    // ── what to say about it ──

    /// Where to point: at the value, or at the key of what spans lines.
    pub(crate) fn place(&self) -> Place {
        let node = match (&self.node.kind, self.key) {
            (Kind::Scalar { .. }, _) | (_, None) => self.node,
            (_, Some(key)) => key,
        };
        (node.line, node.column)
    }

    /// Where its key is.
    pub(crate) fn key_place(&self) -> Place {
        self.key.map_or_else(|| self.place(), |key| (key.line, key.column))
    }

    pub(crate) fn problem(&self, what: impl Display) {
        self.context.problem(self.place(), &self.at, &what.to_string(), None);
    }

    pub(crate) fn problem_with_hint(&self, what: impl Display, hint: impl Display) {
        self.context.problem(self.place(), &self.at, &what.to_string(), Some(&hint.to_string()));
    }

    /// Says that a key is the problem, not its value.
    pub(crate) fn problem_at_key(&self, what: impl Display, hint: Option<&str>) {
        self.context.problem(self.key_place(), &self.at, &what.to_string(), hint);
    }

    pub(crate) fn warn(&self, what: impl Display, hint: impl Display) {
        self.context.warn(self.place(), &self.at, &what.to_string(), Some(&hint.to_string()));
    }

    fn must_be(&self, expected: impl Display, scalar: &Scalar) {
        self.problem(format!("must be {expected}, not {}", scalar.shown()));
    }

    // ── scalars ──

    fn scalar(&self, expected: &str) -> Option<Scalar> {
        let (written, guess) = match &self.node.kind {
            Kind::Scalar { text, guess } => (text, *guess),
            Kind::Null => {
                self.problem_with_hint("has no value", format!("give {expected}, or remove the key"));
                return None;
            }
            Kind::List(_) => return self.wrong_shape(expected, "a list"),
            Kind::Map(_) => return self.wrong_shape(expected, "a section"),
        };
        let expanded = expand(written, &|name| self.context.world.env(name));
        let expanded = expanded.map_err(|why| self.unexpandable(&why)).ok()?;
        if expanded.text.contains('\0') {
            self.problem("must not contain a zero byte");
            return None;
        }
        let (text, variables) = (expanded.text, expanded.variables);
        Some(Scalar { text, guess, written: written.clone(), variables })
    }

    fn wrong_shape<T>(&self, expected: &str, got: &str) -> Option<T> {
        self.problem(format!("must be {expected}, not {got}"));
        None
    }

    fn unexpandable(&self, why: &Unexpandable) {
        match why {
            Unexpandable::Unset(name)
                if ["process_num", "program_name", "group_name"].contains(&name.as_str()) =>
            {
                self.problem(format!("`${{{name}}}` is not yet in this version"));
            }
            Unexpandable::Unset(name) => self.problem_with_hint(
                format!("the variable `{name}` is not set"),
                format!("set it, or give a default: `${{{name}:-…}}`; a plain `$` is written `$$`"),
            ),
            Unexpandable::Demanded { name, message } => {
                self.problem(format!("the variable `{name}` is not set: {message}"));
            }
            Unexpandable::Open => {
                self.problem_with_hint("`${` has no closing `}`", "a plain `$` is written `$$`");
            }
            Unexpandable::BadName(_) => self.problem_with_hint(
                "this is no name of a variable inside `${…}`",
                "letters, digits and `_`; a plain `$` is written `$$`",
            ),
            Unexpandable::BadForm(_) => self.problem_with_hint(
                "behind the name inside `${…}` only `:-default` or `:?message` may follow",
                "a plain `$` is written `$$`",
            ),
            Unexpandable::TooDeep => self.problem("defaults inside defaults, too deep"),
        }
    }

    /// Text, where YAML has not taken it for something else.
    pub(crate) fn text(&self) -> Option<String> {
        let scalar = self.scalar("text")?;
        let taken_for = match scalar.guess {
            Guess::Text => return Some(scalar.text),
            Guess::Bool => "a boolean",
            Guess::Number => "a number",
        };
        self.problem_with_hint(
            format!("must be text, and YAML takes `{}` for {taken_for}", scalar.written),
            format!("put it in quotes: \"{}\"", scalar.written),
        );
        None
    }

    /// Text where a number means the text it is written as: arguments, values of variables, user numbers.
    pub(crate) fn text_or_number(&self) -> Option<String> {
        match &self.node.kind {
            Kind::Scalar { guess: Guess::Number, text } => Some(text.clone()),
            _ => self.text(),
        }
    }

    /// Text that is not empty and has no control characters.
    pub(crate) fn line(&self) -> Option<String> {
        let text = self.text_or_number()?;
        if text.is_empty() {
            self.problem("must not be empty");
            return None;
        }
        if text.chars().any(char::is_control) {
            self.problem("must be one line without control characters");
            return None;
        }
        Some(text)
    }

    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.line().map(PathBuf::from)
    }

    /// A path from the root.
    pub(crate) fn absolute_path(&self) -> Option<PathBuf> {
        let path = self.path()?;
        if path.is_absolute() {
            return Some(path);
        }
        self.problem_with_hint("must be an absolute path", "begin it with `/`");
        None
    }

    /// A secret's text, and whether it is written in the file itself. Nothing said about it shows it.
    pub(crate) fn secret(&self) -> Option<(String, bool)> {
        let scalar = match &self.node.kind {
            Kind::Scalar { guess: Guess::Number | Guess::Text, .. } | Kind::Null => {
                self.scalar("a secret")?
            }
            Kind::Scalar { guess: Guess::Bool, .. } => {
                self.problem_with_hint("must be text, and YAML takes it for a boolean", "put it in quotes");
                return None;
            }
            Kind::List(_) | Kind::Map(_) => return self.wrong_shape("text", "a list or section"),
        };
        let literal = !scalar.expanded();
        self.context.secret_variables(scalar.variables);
        if scalar.text.is_empty() {
            self.problem("must not be empty");
            return None;
        }
        Some((scalar.text, literal))
    }

    /// The text as it is in the file, before variables are filled in.
    pub(crate) fn written(&self) -> &'c str {
        if let Kind::Scalar { text, .. } = &self.node.kind { text } else { "" }
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        let scalar = self.scalar("`true` or `false`")?;
        match scalar.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => {
                self.must_be("`true` or `false`", &scalar);
                None
            }
        }
    }

    /// One of a few words; YAML's booleans are taken as they are written.
    pub(crate) fn word<T: Clone>(&self, choices: &[(&str, T)], later: &[&str]) -> Option<T> {
        let names = choices.iter().map(|(name, _)| *name);
        let list: Vec<String> = names.clone().map(|name| format!("`{name}`")).collect();
        let expected = match list.as_slice() {
            [only] => only.clone(),
            several => format!("one of {}", several.join(", ")),
        };
        let scalar = self.scalar(&expected)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == scalar.text) {
            return Some(choice.clone());
        }
        if later.contains(&scalar.text.as_str()) {
            self.problem(format!("`{}` is not yet in this version", scalar.text));
            return None;
        }
        match nearest(&scalar.text, names).filter(|_| !scalar.expanded()) {
            Some(near) => self.problem_with_hint(
                format!("must be {expected}, not {}", scalar.shown()),
                format!("did you mean `{near}`?"),
            ),
            None => self.must_be(expected, &scalar),
        }
        None
    }

    /// A whole number within bounds.
    pub(crate) fn number<T: TryFrom<i64>>(&self, bounds: RangeInclusive<i64>) -> Option<T> {
        let scalar = self.scalar("a whole number")?;
        match units::whole(scalar.text.trim()) {
            Ok(number) if bounds.contains(&number) => T::try_from(number).ok(),
            Ok(_) => {
                self.must_be(format!("from {} to {}", bounds.start(), bounds.end()), &scalar);
                None
            }
            Err(expected) => {
                self.must_be(expected, &scalar);
                None
            }
        }
    }

    /// A duration within bounds.
    pub(crate) fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let scalar = self.scalar("a duration")?;
        match units::duration(scalar.text.trim()) {
            Ok(duration) if bounds.contains(&duration) => Some(duration),
            Ok(_) => {
                let (from, to) = (units::shown(*bounds.start()), units::shown(*bounds.end()));
                self.must_be(format!("a duration from {from} to {to}"), &scalar);
                None
            }
            Err(expected) => {
                self.must_be(expected, &scalar);
                None
            }
        }
    }

    /// A size in bytes within bounds.
    pub(crate) fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let scalar = self.scalar("a size")?;
        match units::size(scalar.text.trim()) {
            Ok(size) if bounds.contains(&size) => Some(size),
            Ok(_) => {
                let (from, to) = (units::shown_size(*bounds.start()), units::shown_size(*bounds.end()));
                self.must_be(format!("a size from {from} to {to}"), &scalar);
                None
            }
            Err(expected) => {
                self.must_be(expected, &scalar);
                None
            }
        }
    }

    /// Permissions in octal, as text, since YAML would read another number.
    pub(crate) fn mode(&self) -> Option<u32> {
        let scalar = self.scalar("octal digits in quotes")?;
        if scalar.guess == Guess::Number {
            self.problem_with_hint(
                format!("`{}` without quotes is not read as octal by every YAML", scalar.written),
                format!("put it in quotes: \"{}\"", scalar.written),
            );
            return None;
        }
        match units::mode(&scalar.text) {
            Ok(mode) => Some(mode),
            Err(expected) => {
                self.must_be(expected, &scalar);
                None
            }
        }
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        let scalar = self.scalar("the name of a signal")?;
        let number = crate::signals::number(&scalar.text);
        if number.is_none() {
            self.must_be("the name of a signal, like `TERM`", &scalar);
        }
        number
    }

    // ── lists and mappings ──

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.node.kind, Kind::Null)
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.node.kind, Kind::List(_))
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.kind, Kind::Map(_))
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Option<Vec<Value<'c>>> {
        match &self.node.kind {
            Kind::List(items) => {
                let item = |(index, node): (usize, &'c Node)| Value {
                    context: self.context,
                    node,
                    key: matches!(node.kind, Kind::Null).then_some(node),
                    at: format!("{}[{index}]", self.at),
                };
                Some(items.iter().enumerate().map(item).collect())
            }
            Kind::Null => Some(Vec::new()),
            Kind::Map(_) => self.wrong_shape("a list", "a section"),
            Kind::Scalar { .. } => self.wrong_shape("a list", "a single value"),
        }
    }

    /// The elements of a list, or the one value itself.
    pub(crate) fn list_or_one(&self) -> Option<Vec<Value<'c>>> {
        match self.node.kind {
            Kind::Scalar { .. } => Some(vec![self.clone()]),
            Kind::Map(_) => self.wrong_shape("a value or a list", "a section"),
            _ => self.list(),
        }
    }

    /// Keys and values of a mapping whose keys are free; a key without a value is kept.
    pub(crate) fn entries(&self) -> Option<Vec<(String, Value<'c>)>> {
        let entries = match &self.node.kind {
            Kind::Map(entries) => entries,
            Kind::Null => return Some(Vec::new()),
            Kind::List(_) => return self.wrong_shape("a section of `key: value`", "a list"),
            Kind::Scalar { .. } => return self.wrong_shape("a section of `key: value`", "a single value"),
        };
        let mut out = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            match &key.kind {
                Kind::Scalar { text, .. } => out.push((text.clone(), self.child(text, Some(key), node))),
                _ => {
                    self.context.problem(
                        (key.line, key.column),
                        &self.at,
                        "a key must be a plain word",
                        None,
                    );
                }
            }
        }
        Some(out)
    }

    /// The keys of a section with a fixed set of them; unknown ones are told at once.
    pub(crate) fn section(&self, table: &'static Table) -> Option<Section<'c>> {
        let entries = self.entries()?;
        Some(Section::open(self.clone(), table, entries))
    }

    /// Environment variables by name.
    pub(crate) fn variables(&self) -> Option<BTreeMap<String, String>> {
        if matches!(self.node.kind, Kind::Scalar { .. } | Kind::List(_)) {
            self.problem_with_hint(
                "must be a section of variables",
                "write `environment: {NAME: value, OTHER: value}`",
            );
            return None;
        }
        let mut out = BTreeMap::new();
        for (name, value) in self.entries()? {
            let named =
                !name.is_empty() && !name.contains(['=', '\0']) && !name.chars().any(char::is_whitespace);
            if !named {
                value.problem_at_key("the name of a variable has no blanks and no `=`", None);
            } else if value.is_empty() {
                value.problem_with_hint("has no value", "an empty one is written \"\"");
            } else if let Some(text) = value.text_or_number() {
                out.insert(name, text);
            }
        }
        Some(out)
    }
}
