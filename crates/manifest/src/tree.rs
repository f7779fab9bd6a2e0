//! YAML text as a tree in which every key and value knows its place in the file.
//!
//! Scalars keep the text as it was written: YAML's guesses (`no` is false, `012` is twelve, `1.50` is 1.5) are only noted
//! as [`Guess`], so each setting can decide what it takes. Hostile input ends in an error soon: depth, nodes, aliases and
//! bytes are limited.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Options, Spanned};

/// Largest manifest, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

const TOO_MUCH: &str = "too many values, aliases or levels for a manifest";

/// One key or value with its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// Bytes of a scalar in the text, quotes included; only the beginning of lists and mappings.
    pub(crate) bytes: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Null,
    Scalar { text: String, guess: Guess },
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// What YAML takes an unquoted scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    Text,
    Bool,
    Number,
}

/// Something wrong with the YAML itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// From 1; 0 when it has no place.
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) what: String,
}

/// The tree, and keys that are there twice.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Node,
    pub(crate) twice: Vec<Broken>,
}

/// Reads YAML text.
///
/// # Errors
/// The first thing that makes the text unreadable.
pub(crate) fn parse(text: &str) -> Result<Tree, Broken> {
    if text.len() > LARGEST {
        let what = format!("the file has {} bytes; a manifest has at most {LARGEST}", text.len());
        return Err(Broken { line: 0, column: 0, what });
    }
    let mut twice = Vec::new();
    let raw = match serde_saphyr::from_str_with_options::<Raw>(text, options(DuplicateKeyPolicy::Error)) {
        // Read on, so that the other problems of the file come out too.
        Err(Error::DuplicateMappingKey { key, location }) => {
            twice.push(broken(location, same_key(key.as_deref().unwrap_or_default())));
            serde_saphyr::from_str_with_options::<Raw>(text, options(DuplicateKeyPolicy::LastWins))
        }
        other => other,
    };
    let raw = raw.map_err(|error| broken(error.location().unwrap_or(Location::UNKNOWN), explain(&error)))?;
    let root = raw.place(text, &mut twice);
    twice.dedup_by(|one, other| (one.line, one.column) == (other.line, other.column));
    Ok(Tree { root, twice })
}

fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: 24,
            flow_nesting_limit: 24,
            max_documents: 2,
            max_nodes: 200_000,
            max_events: 500_000,
            max_aliases: 2_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 100_000,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
    }
}

fn same_key(key: &str) -> String {
    format!("the key `{key}` is here twice")
}

fn broken(location: Location, what: String) -> Broken {
    let number = |n: u64| usize::try_from(n).unwrap_or(0);
    Broken { line: number(location.line()), column: number(location.column()), what }
}

/// The parser's words without its place, which is shown our way.
fn explain(error: &Error) -> String {
    match error {
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => String::from(TOO_MUCH),
        Error::MultipleDocuments { .. } => String::from("a manifest is one YAML document; remove the `---`"),
        Error::UnsupportedTag { .. } => String::from("YAML tags have no meaning here; remove the `!…`"),
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            let words = first.split(" at line ").next().unwrap_or_default();
            // Limits that break inside an alias come wrapped.
            if words.contains("budget breached") || words.contains("limit exceeded") {
                return String::from(TOO_MUCH);
            }
            format!("not readable as YAML: {words}")
        }
    }
}

/// What the deserializer sees, before the source text tells how it was written.
struct Raw(Spanned<RawKind>);

enum RawKind {
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl Raw {
    fn place(self, text: &str, twice: &mut Vec<Broken>) -> Node {
        let at = self.0.defined;
        let Broken { line, column, .. } = broken(at, String::new());
        let from = at.span().byte_offset().and_then(|n| usize::try_from(n).ok()).unwrap_or(0).min(text.len());
        let length = at.span().byte_len().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let bytes = from..from.saturating_add(length).min(text.len());
        let written = || text.get(bytes.clone()).unwrap_or_default().to_owned();
        let kind = match self.0.value {
            RawKind::Null => Kind::Null,
            // Old YAML has them for booleans too; nobody means that.
            RawKind::Bool if length == 1 => Kind::Scalar { text: written(), guess: Guess::Text },
            RawKind::Bool => Kind::Scalar { text: written(), guess: Guess::Bool },
            RawKind::Number => Kind::Scalar { text: written(), guess: Guess::Number },
            RawKind::Text(value) => Kind::Scalar { text: value, guess: Guess::Text },
            RawKind::List(items) => {
                Kind::List(items.into_iter().map(|item| item.place(text, twice)).collect())
            }
            RawKind::Map(entries) => Kind::Map(place_entries(entries, text, twice)),
        };
        Node { kind, line, column, bytes }
    }
}

fn place_entries(entries: Vec<(Raw, Raw)>, text: &str, twice: &mut Vec<Broken>) -> Vec<(Node, Node)> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut placed = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let (key, value) = (key.place(text, twice), value.place(text, twice));
        if let Kind::Scalar { text: name, .. } = &key.kind
            && let Some(first) = seen.insert(name.clone(), key.line)
        {
            let what = format!("{}, first in line {first}", same_key(name));
            // The parser's own word on this place says less.
            twice.retain(|other| (other.line, other.column) != (key.line, key.column));
            twice.push(Broken { line: key.line, column: key.column, what });
        }
        placed.push((key, value));
    }
    placed
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = RawKind;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<RawKind, E> {
        Ok(RawKind::Bool)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<RawKind, E> {
        Ok(RawKind::Number)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<RawKind, E> {
        Ok(RawKind::Number)
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<RawKind, E> {
        Ok(RawKind::Number)
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<RawKind, E> {
        Ok(RawKind::Number)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<RawKind, E> {
        Ok(RawKind::Number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RawKind, E> {
        Ok(RawKind::Text(text.to_owned()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<RawKind, E> {
        Ok(RawKind::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawKind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(RawKind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawKind, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(RawKind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn value<'t>(tree: &'t Tree, key: &str) -> &'t Node {
        let Kind::Map(entries) = &tree.root.kind else { panic!("not a mapping") };
        &entries
            .iter()
            .find(|(name, _)| matches!(&name.kind, Kind::Scalar { text, .. } if text == key))
            .unwrap()
            .1
    }

    fn scalar(node: &Node) -> (&str, Guess) {
        let Kind::Scalar { text, guess } = &node.kind else { panic!("not a scalar: {node:?}") };
        (text, *guess)
    }

    #[test]
    fn scalars_keep_the_text_as_written() {
        let tree =
            parse("a: no\nb: 012\nc: 1:30\nd: 1.50\ne: \"no\"\nf: 'it''s'\ng: |\n  x\n  y\nh: 1e999\ni: y\n")
                .unwrap();
        for (key, text, guess) in [
            ("a", "no", Guess::Bool),
            ("b", "012", Guess::Number),
            ("c", "1:30", Guess::Text),
            ("d", "1.50", Guess::Number),
            ("e", "no", Guess::Text),
            ("f", "it's", Guess::Text),
            ("g", "x\ny\n", Guess::Text),
            ("h", ".inf", Guess::Text),
            ("i", "y", Guess::Text),
        ] {
            assert_eq!(scalar(value(&tree, key)), (text, guess), "{key}");
        }
    }

    #[test]
    fn places_are_lines_and_characters_of_the_definition() {
        let tree = parse("é: &x 1\nlist: [a, b]\nother: *x\nmerged:\n  <<: {k: 2}\n").unwrap();
        let place = |node: &Node| (node.line, node.column);
        assert_eq!(place(value(&tree, "é")), (1, 7));
        assert_eq!(place(value(&tree, "other")), (1, 7));
        let Kind::List(items) = &value(&tree, "list").kind else { panic!("not a list") };
        assert_eq!(place(&items[1]), (2, 11));
    }

    #[test]
    fn every_key_that_is_there_twice_is_told() {
        let tree = parse("a: 1\nb: {c: 1, c: 2}\na: 3\n7: x\n").unwrap();
        let places: Vec<_> = tree.twice.iter().map(|twice| (twice.line, twice.column)).collect();
        assert_eq!(places, [(2, 11), (3, 1)]);
        assert_eq!(tree.twice[1].what, "the key `a` is here twice, first in line 1");
        assert_eq!(parse("7: a\n7: b\n").unwrap().twice.len(), 1, "whole numbers too");
    }
}
