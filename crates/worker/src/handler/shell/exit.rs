//! What the end of a job's process means: the exit table of the handler contract, row by row. Pure.

use std::time::Duration;

use qfleet_manifest::handler::ExitMeaning;
use qfleet_model::outcome::{Outcome, Output, Reason, Scope, When};
use qfleet_model::time::WallTime;
use qfleet_os::exit::Exit;
use qfleet_os::signal;

use crate::handler::control::{Control, SNOOZE, Terms, Word};
use crate::handler::output::as_output;
use crate::handler::{Ended, Health};

const MINUTE: Duration = Duration::from_secs(60);
/// An outcome on the control descriptor counts with these codes only.
const CONTROLLED: [u8; 5] = [0, 75, 99, 100, 111];

/// How a process ended and what is known of it.
#[derive(Debug)]
pub(super) struct End<'a> {
    pub(super) exit: Exit,
    /// The kernel ended a process for want of memory in the meantime.
    pub(super) out_of_memory: bool,
    /// What it said on its control descriptor.
    pub(super) control: Option<Control>,
    /// What it printed.
    pub(super) result: Option<Output>,
    /// The last line it complained.
    pub(super) last_line: Option<String>,
    /// Codes that mean something else here.
    pub(super) overrides: &'a [(u8, u8, ExitMeaning)],
    pub(super) allow_scope: bool,
    pub(super) now: WallTime,
}

impl End<'_> {
    /// The end of the delivery.
    pub(super) fn judged(self) -> Ended {
        match self.exit {
            Exit::Signal { number, .. } => self.crashed(number),
            Exit::Code(code) => self.exited(u8::try_from(code).unwrap_or(u8::MAX)),
        }
    }

    fn crashed(self, number: i32) -> Ended {
        let class = match self.out_of_memory && number == 9 {
            true => String::from("oom"),
            false => format!("signal_{}", signal::name(number)),
        };
        let text = match self.last_line {
            Some(line) => format!("{}; last line: {line}", self.exit),
            None => self.exit.to_string(),
        };
        ended(Outcome::Crashed { reason: Reason::classed(&class, text) }, Health::Neutral, "crash")
    }

    fn exited(self, code: u8) -> Ended {
        let reason = self.reason();
        let said = self.overrides.iter().find(|(first, last, _)| (*first..=*last).contains(&code));
        let (outcome, health) = match said {
            Some((.., meaning)) => {
                (overridden(*meaning, self.result.clone(), reason.clone()), Health::Neutral)
            }
            None => standard(code, self.result.clone(), reason.clone()),
        };
        let health = if matches!(outcome, Outcome::Complete { .. }) { Health::Good } else { health };
        let status = code.to_string();
        match self.control {
            Some(control) if CONTROLLED.contains(&code) => {
                let result = match &control.result {
                    Some(value) if control.word == Word::Complete => {
                        as_output(value.to_string().into_bytes())
                    }
                    _ => self.result,
                };
                let terms = Terms { allow_scope: self.allow_scope, asked_elsewhere: None, now: self.now };
                let said = control.said(terms, result, reason);
                Ended {
                    notes: said.note.into_iter().collect(),
                    ..ended(said.outcome, said.hold.unwrap_or(health), &status)
                }
            }
            Some(_) => Ended {
                notes: vec![format!(
                    "bad_control: the `outcome` on descriptor 3 does not count with exit status {code}"
                )],
                ..ended(outcome, health, &status)
            },
            None => ended(outcome, health, &status),
        }
    }

    fn reason(&self) -> Reason {
        Reason::plain(self.last_line.clone().unwrap_or_else(|| self.exit.to_string()))
    }
}

fn standard(code: u8, result: Option<Output>, reason: Reason) -> (Outcome, Health) {
    let snooze = |after, scope, reason| Outcome::Snooze { when: When::After(after), scope, reason };
    let retry = |reason| Outcome::Retry { when: None, at_least: Duration::ZERO, reason };
    let class = |class: &str, reason: Reason| Reason { class: Some(class.to_owned()), ..reason };
    match code {
        0 => (Outcome::Complete { result }, Health::Good),
        64..=67 | 76 | 100 => (Outcome::Fail { reason }, Health::Neutral),
        68..=74 => (retry(reason), Health::Neutral),
        75 | 111 => (snooze(SNOOZE, Scope::Job, reason), Health::Neutral),
        77 | 78 => {
            let health = Health::TripAfter { after: 3, alert: "configuration" };
            (snooze(MINUTE, Scope::Endpoint, class("configuration", reason)), health)
        }
        99 => (Outcome::Discard { reason }, Health::Neutral),
        124 => (retry(class("timeout", reason)), Health::Neutral),
        126 => (
            snooze(MINUTE, Scope::Endpoint, class("cannot_execute", reason)),
            Health::Trip { alert: "cannot_execute" },
        ),
        127 => {
            (snooze(MINUTE, Scope::Endpoint, class("not_found", reason)), Health::Trip { alert: "not_found" })
        }
        _ => (retry(reason), Health::Neutral),
    }
}

fn overridden(meaning: ExitMeaning, result: Option<Output>, reason: Reason) -> Outcome {
    match meaning {
        ExitMeaning::Complete => Outcome::Complete { result },
        ExitMeaning::Retry => Outcome::Retry { when: None, at_least: Duration::ZERO, reason },
        ExitMeaning::Snooze => Outcome::Snooze { when: When::After(SNOOZE), scope: Scope::Job, reason },
        ExitMeaning::Fail => Outcome::Fail { reason },
        ExitMeaning::Discard => Outcome::Discard { reason },
    }
}

fn ended(outcome: Outcome, health: Health, status: &str) -> Ended {
    Ended { outcome, health, status: Some(status.to_owned()), notes: Vec::new() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn end(exit: Exit) -> End<'static> {
        End {
            exit,
            out_of_memory: false,
            control: None,
            result: Some(Output::Text(String::from("printed"))),
            last_line: Some(String::from("last words")),
            overrides: &[],
            allow_scope: false,
            now: WallTime::from_seconds(0),
        }
    }

    fn code(code: i32) -> Ended {
        end(Exit::Code(code)).judged()
    }

    fn control(line: &str) -> Option<Control> {
        Control::from_json(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn every_row_of_the_table() {
        let reason = Reason::plain("last words");
        let classed = |class: &str| Reason::classed(class, "last words");
        let snooze = |seconds, scope, reason| Outcome::Snooze {
            when: When::After(Duration::from_secs(seconds)),
            scope,
            reason,
        };
        let retry = |reason| Outcome::Retry { when: None, at_least: Duration::ZERO, reason };
        let complete = Outcome::Complete { result: Some(Output::Text(String::from("printed"))) };
        let rows: Vec<(&[i32], Outcome, Health)> = vec![
            (&[0], complete, Health::Good),
            (&[64, 65, 66, 67, 76, 100], Outcome::Fail { reason: reason.clone() }, Health::Neutral),
            (&[68, 69, 70, 71, 72, 73, 74], retry(reason.clone()), Health::Neutral),
            (&[75, 111], snooze(30, Scope::Job, reason.clone()), Health::Neutral),
            (
                &[77, 78],
                snooze(60, Scope::Endpoint, classed("configuration")),
                Health::TripAfter { after: 3, alert: "configuration" },
            ),
            (&[99], Outcome::Discard { reason: reason.clone() }, Health::Neutral),
            (&[124], retry(classed("timeout")), Health::Neutral),
            (
                &[126],
                snooze(60, Scope::Endpoint, classed("cannot_execute")),
                Health::Trip { alert: "cannot_execute" },
            ),
            (&[127], snooze(60, Scope::Endpoint, classed("not_found")), Health::Trip { alert: "not_found" }),
        ];
        for (codes, outcome, health) in &rows {
            for number in *codes {
                let ended = code(*number);
                assert_eq!((&ended.outcome, &ended.health), (outcome, health), "{number}");
                assert_eq!(ended.status, Some(number.to_string()));
            }
        }
        let in_a_row: Vec<i32> = rows.iter().flat_map(|(codes, ..)| codes.iter().copied()).collect();
        for number in (0..=255).filter(|number| !in_a_row.contains(number)) {
            assert_eq!(code(number).outcome, retry(reason.clone()), "{number}");
        }
    }

    #[test]
    fn signals_are_crashes_with_the_name_in_the_class() {
        for (number, class) in
            [(11, "signal_SEGV"), (6, "signal_ABRT"), (9, "signal_KILL"), (15, "signal_TERM")]
        {
            let ended = end(Exit::Signal { number, core: false }).judged();
            let Outcome::Crashed { reason } = &ended.outcome else { panic!("{number} is no crash") };
            assert_eq!(reason.class.as_deref(), Some(class));
            assert!(reason.text.ends_with("last line: last words"), "{}", reason.text);
            assert_eq!((ended.health, ended.status.as_deref()), (Health::Neutral, Some("crash")));
        }
        let mut oom = end(Exit::Signal { number: 9, core: false });
        oom.out_of_memory = true;
        let Outcome::Crashed { reason } = oom.judged().outcome else { panic!("no crash") };
        assert_eq!(reason.class.as_deref(), Some("oom"));
    }

    #[test]
    fn codes_can_be_given_other_meanings() {
        let overrides =
            [(3, 3, ExitMeaning::Discard), (20, 29, ExitMeaning::Fail), (0, 0, ExitMeaning::Retry)];
        let with = |number| End { overrides: &overrides, ..end(Exit::Code(number)) }.judged();
        assert!(matches!(with(3).outcome, Outcome::Discard { .. }));
        assert!(
            matches!(with(20).outcome, Outcome::Fail { .. })
                && matches!(with(29).outcome, Outcome::Fail { .. })
        );
        assert!(matches!(with(30).outcome, Outcome::Retry { .. }));
        assert!(matches!(with(0).outcome, Outcome::Retry { .. }) && with(0).health == Health::Neutral);
        let more =
            [(1, 1, ExitMeaning::Snooze), (2, 2, ExitMeaning::Complete), (126, 126, ExitMeaning::Retry)];
        let with = |number| End { overrides: &more, ..end(Exit::Code(number)) }.judged();
        assert!(matches!(with(1).outcome, Outcome::Snooze { .. }));
        assert!(matches!(with(2).outcome, Outcome::Complete { .. }) && with(2).health == Health::Good);
        assert_eq!(with(126).health, Health::Neutral, "the override speaks for the endpoint too");
    }

    #[test]
    fn the_control_line_counts_with_five_codes_only() {
        let line = r#"{"outcome":"snooze","delay":45,"reason":"source not uploaded"}"#;
        let expected = Outcome::Snooze {
            when: When::After(Duration::from_secs(45)),
            scope: Scope::Job,
            reason: Reason::plain("source not uploaded"),
        };
        for number in 0..=255 {
            let ended = End { control: control(line), ..end(Exit::Code(number)) }.judged();
            let counts = [0, 75, 99, 100, 111].contains(&number);
            assert_eq!(ended.outcome == expected, counts, "{number}");
            assert_eq!(ended.notes.is_empty(), counts, "{number}");
        }
        let crash = End { control: control(line), ..end(Exit::Signal { number: 11, core: false }) }.judged();
        assert!(matches!(crash.outcome, Outcome::Crashed { .. }), "a crash always wins");
    }

    #[test]
    fn the_control_line_can_bring_the_result_and_speak_for_the_endpoint() {
        let line = r#"{"outcome":"complete","result":{"seconds":31.4}}"#;
        let ended = End { control: control(line), ..end(Exit::Code(0)) }.judged();
        assert_eq!(
            ended.outcome,
            Outcome::Complete { result: Some(Output::Json(br#"{"seconds":31.4}"#.to_vec())) }
        );
        let plain = End { control: control(r#"{"outcome":"complete"}"#), ..end(Exit::Code(0)) }.judged();
        assert_eq!(plain.outcome, Outcome::Complete { result: Some(Output::Text(String::from("printed"))) });
        let line = r#"{"outcome":"snooze","delay":45,"scope":"endpoint"}"#;
        let wide = End { control: control(line), allow_scope: true, ..end(Exit::Code(75)) }.judged();
        assert_eq!(wide.health, Health::Hold(Some(Duration::from_secs(45))));
        let narrow = End { control: control(line), ..end(Exit::Code(75)) }.judged();
        assert!(narrow.health == Health::Neutral && narrow.notes[0].contains("allow-scope"));
    }

    #[test]
    fn without_words_the_exit_is_the_reason() {
        let silent = End { last_line: None, ..end(Exit::Code(65)) }.judged();
        assert_eq!(silent.outcome, Outcome::Fail { reason: Reason::plain("exit status 65") });
    }
}
