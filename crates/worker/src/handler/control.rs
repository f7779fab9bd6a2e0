//! What a handler says outright of a job, in a `Job-Outcome` header or on its control descriptor.
//!
//! Pure. Where it is valid it wins over status and exit code.

use std::time::Duration;

use qfleet_model::outcome::{Outcome, Output, Reason, Scope, When};
use qfleet_model::time::WallTime;
use serde_json::Value;

use super::Health;
use super::structured::{Bare, Item};

/// When a handler asks for later and does not say when.
pub(crate) const SNOOZE: Duration = Duration::from_secs(30);
const LONGEST_CLASS: usize = 64;
const LONGEST_REASON: usize = 512;

/// What becomes of the job, in the handler's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Complete,
    Retry,
    Snooze,
    Fail,
    Discard,
}

/// Whom a snooze is meant for, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breadth {
    Job,
    Queue,
    Endpoint,
}

/// An outcome in the handler's words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Control {
    pub(crate) word: Word,
    pub(crate) when: Option<When>,
    pub(crate) class: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) breadth: Breadth,
    pub(crate) result: Option<Value>,
}

/// What a [`Control`] is read with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// It may speak for the endpoint.
    pub(crate) allow_scope: bool,
    /// Used when it asks for a pause without a length.
    pub(crate) asked_elsewhere: Option<Duration>,
    pub(crate) now: WallTime,
}

/// What a [`Control`] comes to.
#[derive(Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) outcome: Outcome,
    /// Set when it spoke for the endpoint.
    pub(crate) hold: Option<Health>,
    pub(crate) note: Option<String>,
}

impl Control {
    /// Reads a `Job-Outcome` value; nothing when one part of it is wrong.
    pub(crate) fn from_header(value: &str) -> Option<Self> {
        let item = Item::parse(value)?;
        let Bare::Token(word) = &item.value else { return None };
        let text = |name: &str| match item.parameter(name) {
            None => Some(None),
            Some(value) => value.text().map(|text| Some(text.to_owned())),
        };
        let delay = match item.parameter("delay") {
            None => None,
            Some(value) => Some(When::After(value.seconds()?)),
        };
        let until = match item.parameter("until") {
            None => None,
            Some(Bare::Date(seconds)) => Some(When::At(WallTime::from_seconds(*seconds))),
            Some(value) => Some(When::At(WallTime::from_rfc3339(value.text()?)?)),
        };
        Some(Self {
            word: Word::read(word)?,
            when: delay.or(until),
            class: text("class")?,
            reason: text("reason")?,
            breadth: Breadth::read(text("scope")?.as_deref())?,
            result: None,
        })
    }

    /// Reads an object with an `outcome` member; nothing when one part of it is wrong.
    pub(crate) fn from_json(object: &Value) -> Option<Self> {
        let text = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(value) => value.as_str().map(|text| Some(text.to_owned())),
        };
        let delay = match object.get("delay") {
            None | Some(Value::Null) => None,
            Some(value) => Some(When::After(Duration::try_from_secs_f64(value.as_f64()?).ok()?)),
        };
        let until = match text("until")? {
            None => None,
            Some(date) => Some(When::At(WallTime::from_rfc3339(&date)?)),
        };
        Some(Self {
            word: Word::read(object.get("outcome")?.as_str()?)?,
            when: delay.or(until),
            class: text("class")?,
            reason: text("reason")?,
            breadth: Breadth::read(text("scope")?.as_deref())?,
            result: object.get("result").cloned(),
        })
    }

    /// The outcome it stands for. `result` is what the handler returned, `reason` what else is known of the end.
    pub(crate) fn said(self, terms: Terms, result: Option<Output>, reason: Reason) -> Said {
        let named = self.class.is_some() || self.reason.is_some();
        let reason = Reason {
            class: self.class.map(|class| shortened(&class, LONGEST_CLASS)).or(reason.class),
            text: match self.reason {
                Some(text) => shortened(&text, LONGEST_REASON),
                None if named => String::new(),
                None => reason.text,
            },
        };
        let plain = |outcome| Said { outcome, hold: None, note: None };
        let asked = self.when.or(terms.asked_elsewhere.map(When::After));
        match self.word {
            Word::Complete => plain(Outcome::Complete { result }),
            Word::Retry => plain(Outcome::Retry { when: asked, at_least: Duration::ZERO, reason }),
            Word::Fail => plain(Outcome::Fail { reason }),
            Word::Discard => plain(Outcome::Discard { reason }),
            Word::Snooze => {
                let when = asked.unwrap_or(When::After(SNOOZE));
                let wide = self.breadth != Breadth::Job;
                let scope = if wide && terms.allow_scope { Scope::Endpoint } else { Scope::Job };
                let hold = (scope == Scope::Endpoint).then(|| {
                    Health::Hold(Some(match when {
                        When::After(pause) => pause,
                        When::At(date) => date.since(terms.now),
                    }))
                });
                let note = (wide && hold.is_none()).then(|| {
                    String::from("bad_control: a `scope` wider than `job` needs `allow-scope: true`; it counts for the job")
                });
                Said { outcome: Outcome::Snooze { when, scope, reason }, hold, note }
            }
        }
    }
}

impl Word {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "complete" => Self::Complete,
            "retry" => Self::Retry,
            "snooze" => Self::Snooze,
            "fail" => Self::Fail,
            "discard" => Self::Discard,
            _ => return None,
        })
    }
}

impl Breadth {
    fn read(text: Option<&str>) -> Option<Self> {
        Some(match text {
            None | Some("job") => Self::Job,
            Some("queue") => Self::Queue,
            Some("endpoint") => Self::Endpoint,
            Some(_) => return None,
        })
    }
}

/// At most `longest` bytes, cut between characters.
pub(crate) fn shortened(text: &str, longest: usize) -> String {
    text[..text.floor_char_boundary(longest)].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: WallTime = WallTime::from_seconds(1_767_225_605);
    const TERMS: Terms = Terms { allow_scope: true, asked_elsewhere: None, now: NOW };

    fn said(value: &str, terms: Terms) -> Said {
        Control::from_header(value).unwrap().said(terms, None, Reason::plain("status 500"))
    }

    fn after(seconds: u64) -> When {
        When::After(Duration::from_secs(seconds))
    }

    #[test]
    fn every_word_of_the_header() {
        let reason = Reason::plain("status 500");
        for (value, outcome) in [
            ("complete", Outcome::Complete { result: None }),
            ("retry", Outcome::Retry { when: None, at_least: Duration::ZERO, reason: reason.clone() }),
            (
                "retry;delay=1.5;class=net",
                Outcome::Retry {
                    when: Some(When::After(Duration::from_millis(1500))),
                    at_least: Duration::ZERO,
                    reason: Reason::classed("net", ""),
                },
            ),
            ("snooze", Outcome::Snooze { when: after(30), scope: Scope::Job, reason: reason.clone() }),
            (
                "snooze;until=\"2026-01-01T00:01:05Z\"",
                Outcome::Snooze {
                    when: When::At(WallTime::from_seconds(1_767_225_665)),
                    scope: Scope::Job,
                    reason: reason.clone(),
                },
            ),
            (
                "fail;class=card_declined;reason=\"do_not_honor\"",
                Outcome::Fail { reason: Reason::classed("card_declined", "do_not_honor") },
            ),
            ("discard;reason=\"gone\"", Outcome::Discard { reason: Reason::plain("gone") }),
        ] {
            assert_eq!(said(value, TERMS), Said { outcome, hold: None, note: None }, "{value}");
        }
    }

    #[test]
    fn a_wider_scope_holds_the_endpoint_where_it_is_allowed() {
        for value in ["snooze;delay=120;scope=endpoint", "snooze;delay=120;scope=queue"] {
            let wide = said(value, TERMS);
            assert_eq!(wide.hold, Some(Health::Hold(Some(Duration::from_secs(120)))));
            assert!(matches!(wide.outcome, Outcome::Snooze { scope: Scope::Endpoint, .. }));
            let narrow = said(value, Terms { allow_scope: false, ..TERMS });
            assert_eq!(narrow.hold, None);
            assert!(matches!(narrow.outcome, Outcome::Snooze { scope: Scope::Job, .. }));
            assert!(narrow.note.unwrap().starts_with("bad_control"));
        }
        let until = said("snooze;until=@1767225635;scope=endpoint", TERMS);
        assert_eq!(until.hold, Some(Health::Hold(Some(Duration::from_secs(30)))));
    }

    #[test]
    fn what_was_asked_elsewhere_fills_in() {
        let terms = Terms { asked_elsewhere: Some(Duration::from_secs(9)), ..TERMS };
        let Outcome::Snooze { when, .. } = said("snooze", terms).outcome else { panic!("no snooze") };
        assert_eq!(when, after(9));
        let Outcome::Retry { when, .. } = said("retry;delay=3", terms).outcome else { panic!("no retry") };
        assert_eq!(when, Some(after(3)));
    }

    #[test]
    fn one_fault_makes_it_void() {
        for value in [
            "",
            "later",
            "\"snooze\"",
            "snooze;delay=-1",
            "snooze;delay=\"5\"",
            "snooze;until=tomorrow",
            "snooze;scope=world",
            "fail;class=1",
            "snooze delay=5",
            "snooze, fail",
            "Snooze",
            "7",
        ] {
            assert_eq!(Control::from_header(value), None, "{value}");
        }
    }

    #[test]
    fn an_object_says_the_same() {
        let line = r#"{"outcome":"snooze","delay":45,"reason":"source not uploaded","scope":"endpoint"}"#;
        let from_line = Control::from_json(&serde_json::from_str(line).unwrap()).unwrap();
        let header = "snooze;delay=45;reason=\"source not uploaded\";scope=endpoint";
        assert_eq!(Some(from_line), Control::from_header(header));
        for line in [
            r#"{"outcome":"later"}"#,
            r#"{"outcome":1}"#,
            r#"{"delay":1}"#,
            r#"{"outcome":"snooze","delay":-1}"#,
            r#"{"outcome":"snooze","delay":"1"}"#,
            r#"{"outcome":"fail","class":[]}"#,
            r#"{"outcome":"snooze","until":"x"}"#,
        ] {
            assert_eq!(Control::from_json(&serde_json::from_str(line).unwrap()), None, "{line}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let value = format!("fail;class={};reason=\"{}\"", "c".repeat(70), "r".repeat(600));
        let Outcome::Fail { reason } = said(&value, TERMS).outcome else { panic!("no failure") };
        assert_eq!((reason.class.unwrap().len(), reason.text.len()), (64, 512));
        assert_eq!(shortened("aéé", 4), "aé");
    }
}
