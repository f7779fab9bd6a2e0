//! What an answer means: control header first, then an error document, then the compatibility rules, then its status.
//!
//! Pure. No payload or answer body ever goes into a note; an error body is the reason of the failure, which is kept with
//! the job.

use std::time::Duration;

use qfleet_manifest::handler::HttpHandler;
use qfleet_model::outcome::{Outcome, Output, Reason, When};
use qfleet_model::time::WallTime;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use serde_json::Value;

use super::status::{self, Meaning, Switches};
use crate::handler::control::{Control, Terms, Word, shortened};
use crate::handler::output::{as_output, into_text};
use crate::handler::retry_after::{rate_limit, retry_after};
use crate::handler::{Ended, Health};

const LONGEST_REASON: usize = 2 * 1024;
const LONGEST_CLASS: usize = 64;

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// As much of it as was read.
    pub(super) body: Vec<u8>,
    /// There was more.
    pub(super) cut: bool,
}

/// How answers are read.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) settings: &'a HttpHandler,
    pub(super) max_delay: Duration,
    pub(super) now: WallTime,
}

impl Answer {
    /// The end of the delivery that got this answer.
    pub(super) fn judged(self, rules: &Rules<'_>) -> Ended {
        let mut notes = Vec::new();
        let success = (200..=299).contains(&self.status);
        let problem = if success { Problem::default() } else { self.problem() };
        let asked = self.asked(rules).or(problem.retry_after.map(|wait| wait.min(rules.max_delay)));
        let switches =
            Switches { fail_on_404: rules.settings.fail_on_404, retry_on_4xx: rules.settings.retry_on_4xx };
        let row = status::row(self.status, asked, switches);
        let status = Some(self.status.to_string());

        if let Some(control) = self.control(rules, success, &mut notes) {
            let terms =
                Terms { allow_scope: rules.settings.allow_scope, asked_elsewhere: asked, now: rules.now };
            let health = match row.health {
                Health::Hold(_) | Health::Good => row.health,
                // Who speaks the contract is neither misrouted nor broken, whatever status goes with it.
                _ => Health::Neutral,
            };
            let (result, reason) = match control.word {
                Word::Complete => (self.result(rules, &mut notes), Reason::default()),
                _ => (None, self.reason(problem)),
            };
            let said = control.said(terms, result, reason);
            notes.extend(said.note);
            return Ended { outcome: said.outcome, health: said.hold.unwrap_or(health), status, notes };
        }
        let mut meaning = row.meaning;
        match problem.retryable {
            Some(false) => meaning = Meaning::Fail { class: None },
            Some(true) if matches!(meaning, Meaning::Fail { .. }) => meaning = Meaning::Retry { heeds: true },
            Some(true) => meaning = heeding(meaning),
            None if problem.retry_after.is_some() => meaning = heeding(meaning),
            None => {}
        }
        if problem.retryable.is_none()
            && let Some(outcome) = self.compatible(rules)
        {
            let health = if success { Health::Good } else { Health::Neutral };
            return Ended { outcome, health, status, notes };
        }
        notes.extend(row.warning.map(str::to_owned));
        let outcome = match meaning {
            Meaning::Complete => Outcome::Complete { result: self.result(rules, &mut notes) },
            Meaning::Retry { heeds } => Outcome::Retry {
                when: asked.filter(|_| heeds).map(When::After),
                at_least: Duration::ZERO,
                reason: self.reason(problem),
            },
            Meaning::Snooze { after, heeds, scope } => Outcome::Snooze {
                when: When::After(asked.filter(|_| heeds).unwrap_or(after)),
                scope,
                reason: self.reason(problem),
            },
            Meaning::Fail { class } => {
                let mut reason = self.reason(problem);
                reason.class = reason.class.or(class.map(str::to_owned));
                Outcome::Fail { reason }
            }
        };
        if self.cut && !success {
            notes.push(String::from("the answer is longer than `max-response` and was cut"));
        }
        Ended { outcome, health: row.health, status, notes }
    }

    fn control(&self, rules: &Rules<'_>, success: bool, notes: &mut Vec<String>) -> Option<Control> {
        let mut values = self.headers.get_all("job-outcome").iter();
        let value = values.next().filter(|_| rules.settings.control)?;
        let read = value.to_str().ok().filter(|_| values.next().is_none()).and_then(Control::from_header);
        match read {
            None => {
                notes.push(String::from("bad_control: `Job-Outcome` cannot be read; the status decides"));
                None
            }
            Some(control) if control.word == Word::Complete && !success => {
                let status = self.status;
                notes.push(format!(
                    "bad_control: `Job-Outcome: complete` with status {status}; the status decides"
                ));
                None
            }
            read => read,
        }
    }

    fn asked(&self, rules: &Rules<'_>) -> Option<Duration> {
        let date = self.text(DATE);
        let waited =
            self.text(RETRY_AFTER).and_then(|value| retry_after(value, date, rules.now, rules.max_delay));
        waited.or_else(|| {
            let names = ["ratelimit", "ratelimit-reset", "x-ratelimit-reset"];
            let mut heeded = names.into_iter().filter(|_| rules.settings.ratelimit_headers);
            heeded.find_map(|name| rate_limit(self.text(name)?, rules.now, rules.max_delay))
        })
    }

    fn compatible(&self, rules: &Rules<'_>) -> Option<Outcome> {
        let settings = rules.settings;
        let says =
            |name: &str| self.text(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let success = (200..=299).contains(&self.status);
        if settings.compat_inngest && !success && says("x-inngest-no-retry") {
            return Some(Outcome::Fail { reason: self.reason(Problem::default()) });
        }
        if settings.compat_qstash && self.status == 489 && says("upstash-nonretryable-error") {
            return Some(Outcome::Fail { reason: self.reason(Problem::default()) });
        }
        if settings.compat_dapr && self.status == 404 {
            return Some(Outcome::Discard { reason: self.reason(Problem::default()) });
        }
        if settings.compat_dapr && success {
            let body: Value = serde_json::from_slice(&self.body).ok()?;
            let reason = |word: &str| Reason::plain(format!("the receiver answered `{word}`"));
            return match body.get("status")?.as_str()? {
                "RETRY" => {
                    Some(Outcome::Retry { when: None, at_least: Duration::ZERO, reason: reason("RETRY") })
                }
                "DROP" => Some(Outcome::Discard { reason: reason("DROP") }),
                "SUCCESS" => Some(Outcome::Complete { result: None }),
                _ => None,
            };
        }
        None
    }

    fn result(&self, rules: &Rules<'_>, notes: &mut Vec<String>) -> Option<Output> {
        let longest = rules.settings.max_result;
        if self.body.is_empty() {
            return None;
        }
        if self.cut || (self.body.len() as u64) > longest {
            let (length, more) = (self.body.len(), if self.cut { " and more" } else { "" });
            notes.push(format!(
                "result_truncated: the answer has {length} bytes{more}, the result is left out"
            ));
            return None;
        }
        if self.is_binary() {
            return Some(Output::Text(self.size_and_type()));
        }
        match as_output(self.body.clone()) {
            // A page of text that happens to be a number is not JSON unless it says so.
            Some(Output::Json(text)) if !self.says_json() && self.text(CONTENT_TYPE).is_some() => {
                Some(Output::Text(into_text(text)))
            }
            output => output,
        }
    }

    /// Why the answer was no success, in the receiver's words where it has some.
    fn reason(&self, problem: Problem) -> Reason {
        let text = match problem.text {
            Some(text) => text,
            None if self.body.is_empty() || self.is_compressed() => self.without_words(),
            None if self.is_binary() => self.size_and_type(),
            None => into_text(self.body.clone()).trim().to_owned(),
        };
        let text = if text.is_empty() { self.without_words() } else { text };
        Reason { class: problem.class, text: shortened(&text, LONGEST_REASON) }
    }

    fn without_words(&self) -> String {
        match self.text(LOCATION).filter(|_| (300..=399).contains(&self.status)) {
            Some(location) => format!("the receiver answered {}, which leads to `{location}`", self.status),
            None => format!("the receiver answered {}", self.status),
        }
    }

    fn problem(&self) -> Problem {
        let media = self.media_type();
        if !media.eq_ignore_ascii_case("application/problem+json") || self.is_compressed() {
            return Problem::default();
        }
        serde_json::from_slice(&self.body).map_or_else(|_| Problem::default(), |body| Problem::read(&body))
    }

    fn is_binary(&self) -> bool {
        let media = self.media_type().to_ascii_lowercase();
        let textual = media.is_empty()
            || media.starts_with("text/")
            || ["json", "xml", "javascript", "x-www-form-urlencoded"]
                .iter()
                .any(|kind| media.ends_with(kind));
        self.is_compressed() || (!textual && std::str::from_utf8(&self.body).is_err())
    }

    fn is_compressed(&self) -> bool {
        self.text(CONTENT_ENCODING).is_some_and(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
    }

    fn says_json(&self) -> bool {
        self.media_type().to_ascii_lowercase().ends_with("json")
    }

    fn media_type(&self) -> &str {
        self.text(CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default().trim()
    }

    fn size_and_type(&self) -> String {
        let kind = match (self.is_compressed(), self.media_type()) {
            (true, _) => "of a compressed answer",
            (false, "") => "of no known type",
            (false, media) => return format!("{} bytes of {}", self.body.len(), shortened(media, 100)),
        };
        format!("{} bytes {kind}", self.body.len())
    }

    fn text(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An explicit wish for time makes rows heed it that otherwise follow the backoff.
fn heeding(meaning: Meaning) -> Meaning {
    match meaning {
        Meaning::Retry { .. } => Meaning::Retry { heeds: true },
        Meaning::Snooze { after, scope, .. } => Meaning::Snooze { after, heeds: true, scope },
        other => other,
    }
}

/// What an error document says.
#[derive(Debug, Default)]
struct Problem {
    class: Option<String>,
    text: Option<String>,
    retryable: Option<bool>,
    retry_after: Option<Duration>,
}

impl Problem {
    fn read(body: &Value) -> Self {
        let text = |name: &str| {
            body.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
        };
        let class = text("type").filter(|kind| *kind != "about:blank").and_then(|kind| {
            let path = kind.split(['?', '#']).next().unwrap_or_default();
            path.rsplit(['/', ':']).find(|part| !part.is_empty())
        });
        let words = [text("title"), text("detail")];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        Self {
            class: class.map(|class| shortened(class, LONGEST_CLASS)),
            text: (!words.is_empty()).then(|| words.join(": ")),
            retryable: body.get("retryable").and_then(Value::as_bool),
            retry_after: body
                .get("retry_after")
                .and_then(Value::as_f64)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qfleet_model::outcome::Scope;
    use reqwest::header::HeaderName;

    use super::*;
    use crate::handler::http::tests::settings;

    const NOW: WallTime = WallTime::from_seconds(1_767_225_605);
    const DAY: Duration = Duration::from_secs(86_400);

    fn judge(settings: &HttpHandler, status: u16, headers: &[(&str, &str)], body: &str) -> Ended {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let answer = Answer { status, headers: map, body: body.as_bytes().to_vec(), cut: false };
        answer.judged(&Rules { settings, max_delay: DAY, now: NOW })
    }

    fn snoozed(ended: &Ended) -> (u64, Scope) {
        match &ended.outcome {
            Outcome::Snooze { when: When::After(wait), scope, .. } => (wait.as_secs(), *scope),
            other => panic!("no snooze: {other:?}"),
        }
    }

    fn reason(ended: &Ended) -> &Reason {
        match &ended.outcome {
            Outcome::Snooze { reason, .. }
            | Outcome::Retry { reason, .. }
            | Outcome::Fail { reason }
            | Outcome::Discard { reason } => reason,
            other => panic!("no reason: {other:?}"),
        }
    }

    #[test]
    fn the_worked_example() {
        let ended = judge(
            &settings(),
            429,
            &[
                ("Date", "Thu, 01 Jan 2026 00:00:06 GMT"),
                ("Retry-After", "90"),
                ("Content-Type", "application/problem+json"),
            ],
            r#"{"type":"https://app.internal/errors/quota","title":"Quota reached","detail":"hourly quota of the provider"}"#,
        );
        assert_eq!(snoozed(&ended), (90, Scope::Endpoint));
        assert_eq!(*reason(&ended), Reason::classed("quota", "Quota reached: hourly quota of the provider"));
        assert_eq!(ended.health, Health::Hold(Some(Duration::from_secs(90))));
        assert_eq!(ended.status.as_deref(), Some("429"));
    }

    #[test]
    fn retry_after_counts_where_the_table_says_so() {
        for (status, without, with) in
            [(408, 5, 7), (409, 30, 7), (423, 30, 7), (429, 10, 7), (503, 15, 7), (529, 15, 7)]
        {
            assert_eq!(snoozed(&judge(&settings(), status, &[], "")).0, without, "{status}");
            assert_eq!(snoozed(&judge(&settings(), status, &[("Retry-After", "7")], "")).0, with, "{status}");
        }
        for (status, after) in [(401, 60), (425, 1), (426, 60), (521, 15), (421, 0)] {
            assert_eq!(
                snoozed(&judge(&settings(), status, &[("Retry-After", "7")], "")).0,
                after,
                "{status}"
            );
        }
        let seven = Some(When::After(Duration::from_secs(7)));
        for (status, expected) in
            [(500, seven), (502, seven), (599, seven), (404, None), (424, None), (302, None)]
        {
            let Outcome::Retry { when, .. } = judge(&settings(), status, &[("Retry-After", "7")], "").outcome
            else {
                panic!("{status} is no retry")
            };
            assert_eq!(when, expected, "{status}");
        }
        assert_eq!(judge(&settings(), 503, &[], "").health, Health::Hold(None), "the usual pause");
        assert_eq!(snoozed(&judge(&settings(), 429, &[("Retry-After", "-1")], "")).0, 10);
    }

    #[test]
    fn a_control_header_wins_over_the_status() {
        let header = |value| [("Job-Outcome", value)];
        let ended = judge(&settings(), 200, &header("snooze;delay=300;reason=\"busy\""), "{}");
        assert_eq!((snoozed(&ended), &ended.health), ((300, Scope::Job), &Health::Good));
        let ended =
            judge(&settings(), 500, &header("fail;class=card_declined;reason=\"do_not_honor\""), "oops");
        assert_eq!(ended.outcome, Outcome::Fail { reason: Reason::classed("card_declined", "do_not_honor") });
        assert_eq!(ended.health, Health::Neutral);
        let ended = judge(&settings(), 422, &header("retry"), "words");
        assert!(matches!(ended.outcome, Outcome::Retry { when: None, .. }));
        assert_eq!(reason(&ended).text, "words");
        assert!(matches!(judge(&settings(), 500, &header("discard"), "").outcome, Outcome::Discard { .. }));
        let ended = judge(&settings(), 201, &header("complete"), "{\"a\":1}");
        assert_eq!(ended.outcome, Outcome::Complete { result: Some(Output::Json(b"{\"a\":1}".to_vec())) });
        assert_eq!(judge(&settings(), 503, &header("retry"), "").health, Health::Hold(None));
    }

    #[test]
    fn a_bad_control_header_is_told_and_the_status_decides() {
        for (status, value) in
            [(500, "complete"), (500, "later"), (500, "snooze;delay=soon"), (200, "snooze delay=5")]
        {
            let ended = judge(&settings(), status, &[("Job-Outcome", value)], "");
            let plain = judge(&settings(), status, &[], "");
            assert_eq!((&ended.outcome, &ended.health), (&plain.outcome, &plain.health), "{value}");
            assert!(ended.notes[0].starts_with("bad_control"), "{value}");
        }
        let twice = judge(&settings(), 500, &[("Job-Outcome", "fail"), ("Job-Outcome", "fail")], "");
        assert!(matches!(twice.outcome, Outcome::Retry { .. }));
        let off = HttpHandler { control: false, ..settings() };
        let ended = judge(&off, 200, &[("Job-Outcome", "fail")], "");
        assert!(matches!(ended.outcome, Outcome::Complete { .. }) && ended.notes.is_empty());
    }

    #[test]
    fn a_wider_scope_needs_permission() {
        let header = [("Job-Outcome", "snooze;delay=60;scope=endpoint")];
        let ended = judge(&settings(), 200, &header, "");
        assert_eq!((snoozed(&ended), &ended.health), ((60, Scope::Job), &Health::Good));
        assert!(ended.notes[0].contains("allow-scope"));
        let allowed = HttpHandler { allow_scope: true, ..settings() };
        let ended = judge(&allowed, 200, &header, "");
        assert_eq!(snoozed(&ended), (60, Scope::Endpoint));
        assert_eq!(ended.health, Health::Hold(Some(Duration::from_secs(60))));
    }

    #[test]
    fn an_error_document_speaks_where_no_header_does() {
        let header = [("Content-Type", "application/problem+json; charset=utf-8")];
        let never = r#"{"type":"/errors/bad-card","title":"Bad card","retryable":false}"#;
        let ended = judge(&settings(), 500, &header, never);
        assert_eq!(ended.outcome, Outcome::Fail { reason: Reason::classed("bad-card", "Bad card") });
        let again = r#"{"type":"about:blank","detail":"try again","retryable":true,"retry_after":2.5}"#;
        let ended = judge(&settings(), 422, &header, again);
        let wait = Some(When::After(Duration::from_millis(2500)));
        assert_eq!(
            ended.outcome,
            Outcome::Retry { when: wait, at_least: Duration::ZERO, reason: Reason::plain("try again") }
        );
        assert_eq!(snoozed(&judge(&settings(), 401, &header, r#"{"retry_after":5}"#)).0, 5);
        let both = [header[0], ("Job-Outcome", "discard")];
        assert!(matches!(judge(&settings(), 500, &both, never).outcome, Outcome::Discard { .. }));
        assert_eq!(reason(&judge(&settings(), 500, &header, "{broken")).text, "{broken");
        assert!(
            matches!(judge(&settings(), 500, &[], never).outcome, Outcome::Retry { .. }),
            "not by its type"
        );
    }

    #[test]
    fn any_other_body_is_the_reason() {
        assert_eq!(
            reason(&judge(&settings(), 500, &[("Content-Type", "text/html")], " <h1>Oops</h1>\n")).text,
            "<h1>Oops</h1>"
        );
        assert_eq!(reason(&judge(&settings(), 500, &[], "")).text, "the receiver answered 500");
        assert_eq!(reason(&judge(&settings(), 410, &[], "gone fishing")).class.as_deref(), Some("gone"));
        let long = judge(&settings(), 500, &[], &"é".repeat(2000));
        assert_eq!(reason(&long).text.len(), 2048);
        let gzip = judge(&settings(), 500, &[("Content-Encoding", "gzip")], "xxx");
        assert_eq!(reason(&gzip).text, "the receiver answered 500");
        let redirect = judge(&settings(), 302, &[("Location", "/login")], "");
        assert_eq!(reason(&redirect).text, "the receiver answered 302, which leads to `/login`");
        assert!(redirect.notes[0].starts_with("redirect"));
    }

    #[test]
    fn a_result_is_json_text_or_a_size() {
        let result =
            |headers: &[(&str, &str)], body: &str| match judge(&settings(), 200, headers, body).outcome {
                Outcome::Complete { result } => result,
                other => panic!("{other:?}"),
            };
        let json = r#"{"id":9223372036854775807,"list":[]}"#;
        assert_eq!(result(&[("Content-Type", "application/json")], json), Some(Output::Json(json.into())));
        assert_eq!(
            result(&[("Content-Type", "application/hal+json")], json),
            Some(Output::Json(json.into()))
        );
        assert_eq!(result(&[], json), Some(Output::Json(json.into())));
        assert_eq!(result(&[("Content-Type", "text/plain")], "42"), Some(Output::Text("42".into())));
        assert_eq!(
            result(&[("Content-Type", "application/json")], "{oops"),
            Some(Output::Text("{oops".into()))
        );
        assert_eq!(
            result(&[("Content-Encoding", "br")], "zzzz"),
            Some(Output::Text("4 bytes of a compressed answer".into()))
        );
        assert_eq!(result(&[], ""), None);
        let small = HttpHandler { max_result: 10, ..settings() };
        let ended = judge(&small, 200, &[], json);
        assert_eq!(ended.outcome, Outcome::Complete { result: None });
        assert!(ended.notes[0].starts_with("result_truncated"));
    }

    #[test]
    fn binary_answers_are_kept_as_size_and_type() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "image/png".parse().unwrap());
        let answer = Answer { status: 200, headers, body: vec![0x89, b'P', 0xFF], cut: false };
        let settings = settings();
        let ended = answer.judged(&Rules { settings: &settings, max_delay: DAY, now: NOW });
        assert_eq!(
            ended.outcome,
            Outcome::Complete { result: Some(Output::Text("3 bytes of image/png".into())) }
        );
    }

    #[test]
    fn an_answer_that_was_cut_keeps_its_outcome() {
        let settings = settings();
        let rules = Rules { settings: &settings, max_delay: DAY, now: NOW };
        let answer = |status| Answer { status, headers: HeaderMap::new(), body: vec![b'x'; 10], cut: true };
        let ended = answer(200).judged(&rules);
        assert_eq!(ended.outcome, Outcome::Complete { result: None });
        assert!(ended.notes[0].starts_with("result_truncated"));
        assert!(matches!(answer(422).judged(&rules).outcome, Outcome::Fail { .. }));
    }

    #[test]
    fn compatibility_rules_hold_only_where_switched_on() {
        let all = HttpHandler { compat_inngest: true, compat_qstash: true, compat_dapr: true, ..settings() };
        let no_retry = [("X-Inngest-No-Retry", "true")];
        let nonretryable = [("Upstash-NonRetryable-Error", "true")];
        let fails = |settings: &HttpHandler, status, headers: &[(&str, &str)]| {
            matches!(judge(settings, status, headers, "").outcome, Outcome::Fail { .. })
        };
        assert!(fails(&all, 500, &no_retry) && !fails(&settings(), 500, &no_retry));
        assert!(!fails(&all, 500, &[("X-Inngest-No-Retry", "false")]) && !fails(&all, 200, &no_retry));
        let retrying = HttpHandler { retry_on_4xx: true, ..all.clone() };
        assert!(
            fails(&retrying, 489, &nonretryable)
                && !fails(&retrying, 489, &[])
                && !fails(&all, 500, &nonretryable)
        );
        assert!(matches!(judge(&all, 404, &[], "").outcome, Outcome::Discard { .. }));
        assert!(matches!(judge(&settings(), 404, &[], "").outcome, Outcome::Retry { .. }));
        for (body, expected) in [
            (r#"{"status":"RETRY"}"#, "Retry"),
            (r#"{"status":"DROP"}"#, "Discard"),
            (r#"{"status":"SUCCESS"}"#, "Complete"),
            (r#"{"status":"OTHER"}"#, "Complete"),
            ("no json", "Complete"),
        ] {
            assert!(format!("{:?}", judge(&all, 200, &[], body).outcome).starts_with(expected), "{body}");
            assert!(matches!(judge(&settings(), 200, &[], body).outcome, Outcome::Complete { .. }));
        }
    }

    #[test]
    fn rate_limit_headers_count_only_when_asked_for() {
        let header = [("X-RateLimit-Reset", "20")];
        assert_eq!(snoozed(&judge(&settings(), 429, &header, "")).0, 10);
        let heeding = HttpHandler { ratelimit_headers: true, ..settings() };
        assert_eq!(snoozed(&judge(&heeding, 429, &header, "")).0, 20);
        let both = [header[0], ("Retry-After", "5")];
        assert_eq!(snoozed(&judge(&heeding, 429, &both, "")).0, 5);
        assert_eq!(snoozed(&judge(&heeding, 429, &[("RateLimit", "\"a\";r=0;t=33")], "")).0, 33);
    }
}
