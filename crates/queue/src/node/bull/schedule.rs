//! Repeatable jobs: whoever takes one creates the next.

use qfleet_model::time::WallTime;
use serde_json::{Map, Value};

use crate::node::cron::Pattern;
use crate::node::following::digest;
use crate::node::row;
use crate::node::turn::Taken;

/// For the schedule script: the repeat key, the id of the new job, its date (ms), its options as JSON. None when the job is
/// not repeated, or is the last.
pub(super) fn following(taken: &Taken, now: WallTime) -> Option<Vec<String>> {
    let next = Next::after(&taken.row.name, &taken.row.opts, now.as_millis())?;
    Some(vec![next.key, next.id, next.due.to_string(), Value::Object(next.opts).to_string()])
}

/// The job that follows a taken one.
#[derive(Debug, PartialEq)]
struct Next {
    /// What the rule is known by in the queue.
    key: String,
    id: String,
    /// In milliseconds since 1970.
    due: i64,
    opts: Map<String, Value>,
}

impl Next {
    fn after(name: &str, opts: &Value, now: i64) -> Option<Self> {
        let rule = opts.get("repeat")?.as_object()?;
        let count = number(rule.get("count")).unwrap_or_default().saturating_add(1);
        if number(rule.get("limit")).is_some_and(|limit| limit > 0 && count > limit) {
            return None;
        }
        let end = date(rule.get("endDate"));
        if end.is_some_and(|end| now > end) {
            return None;
        }
        let base = now.max(number(opts.get("prevMillis")).unwrap_or_default());
        let due = match number(rule.get("every")).filter(|every| *every > 0) {
            Some(every) => base.div_euclid(every).checked_add(1)?.checked_mul(every)?,
            None => by_pattern(rule, base, end)?,
        };
        let key = text(rule.get("key")).unwrap_or_else(|| key_of(name, rule, end));
        let id = format!("repeat:{}:{due}", name_of_series(name, rule, &key));
        let mut next = opts.as_object()?.clone();
        let mut rule = rule.clone();
        rule.insert("count".into(), count.into());
        rule.insert("key".into(), key.clone().into());
        next.insert("repeat".into(), rule.into());
        next.insert("jobId".into(), id.clone().into());
        next.insert("delay".into(), due.saturating_sub(now).max(0).into());
        next.insert("timestamp".into(), now.into());
        next.insert("prevMillis".into(), due.into());
        Some(Self { key, id, due, opts: next })
    }
}

fn by_pattern(rule: &Map<String, Value>, base: i64, end: Option<i64>) -> Option<i64> {
    let (pattern, zone) = (text(rule.get("cron"))?, text(rule.get("tz")));
    let base = base.max(date(rule.get("startDate")).unwrap_or(base));
    match Pattern::new(&pattern, zone.as_deref()) {
        Ok(read) => read.after(base).filter(|due| end.is_none_or(|end| *due <= end)),
        Err(problem) => {
            // The job runs all the same.
            tracing::error!(pattern, problem, "a repeated job ends: its pattern cannot be read");
            None
        }
    }
}

/// What Bull calls a rule that does not say its key.
fn key_of(name: &str, rule: &Map<String, Value>, end: Option<i64>) -> String {
    let part = |text: Option<String>| text.unwrap_or_default() + ":";
    let when = match text(rule.get("cron")) {
        Some(pattern) => part(text(rule.get("tz"))) + &pattern,
        None => text(rule.get("every")).unwrap_or_default(),
    };
    format!("{name}:{}{}{when}", part(text(rule.get("jobId"))), part(end.map(|end| end.to_string())))
}

/// What the ids of all its jobs share.
fn name_of_series(name: &str, rule: &Map<String, Value>, key: &str) -> String {
    let id = text(rule.get("jobId")).unwrap_or_default();
    digest(&format!("{name}{id}:{}", digest(key)))
}

fn number(value: Option<&Value>) -> Option<i64> {
    row::number(value?).map(|number| number as i64)
}

/// A text, or a number as one; nothing where it is empty.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A date as JavaScript writes one: milliseconds since 1970, or a text of ISO 8601.
fn date(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => {
            let midnight = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
            let moment = text.parse::<jiff::Timestamp>().ok();
            moment.or_else(|| midnight().map(|date| date.timestamp())).map(jiff::Timestamp::as_millisecond)
        }
        other => number(Some(other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As a producer of 4.16 wrote them.
    const BEAT: &str = r#"{"repeat":{"count":1,"key":"beat:::1000","every":1000},"jobId":"repeat:002a74853b9f03c463e8f595c41268f6:1795218521000","delay":302,"timestamp":1795218520698,"prevMillis":1795218521000,"attempts":2}"#;
    const PARIS: &str = r#"{"repeat":{"count":1,"key":"beat:myid::Europe/Paris:* * * * * *","cron":"* * * * * *","tz":"Europe/Paris","limit":2,"jobId":"myid"},"jobId":"repeat:4989dc8ab28bafca295dde343ca5e202:1795218524000","delay":698,"timestamp":1795218523302,"prevMillis":1795218524000,"attempts":1}"#;

    fn after(opts: &Value, now: i64) -> Option<Next> {
        Next::after("beat", opts, now)
    }

    fn due(opts: &Value, now: i64) -> Option<i64> {
        after(opts, now).map(|next| next.due)
    }

    #[test]
    fn what_follows_is_what_bull_wrote() {
        let next = after(&serde_json::from_str(BEAT).unwrap(), 1_795_218_521_027).unwrap();
        assert_eq!(next.key, "beat:::1000");
        assert_eq!(next.id, "repeat:002a74853b9f03c463e8f595c41268f6:1795218522000");
        let written: Value = serde_json::from_str(
            r#"{"repeat":{"count":2,"key":"beat:::1000","every":1000},"jobId":"repeat:002a74853b9f03c463e8f595c41268f6:1795218522000","delay":973,"timestamp":1795218521027,"prevMillis":1795218522000,"attempts":2}"#,
        )
        .unwrap();
        assert_eq!(Value::Object(next.opts), written);

        let mut paris: Value = serde_json::from_str(PARIS).unwrap();
        let next = after(&paris, 1_795_218_524_007).unwrap();
        assert_eq!(next.id, "repeat:4989dc8ab28bafca295dde343ca5e202:1795218525000");
        assert_eq!(next.opts["repeat"]["count"], 2);
        paris["repeat"]["count"] = json!(2);
        assert_eq!(after(&paris, 1_795_218_525_007), None, "two are the limit");
    }

    #[test]
    fn a_rule_that_says_no_key_has_the_same() {
        for opts in [BEAT, PARIS] {
            let mut opts: Value = serde_json::from_str(opts).unwrap();
            let with = after(&opts, 1_795_218_524_007).unwrap();
            opts["repeat"].as_object_mut().unwrap().remove("key");
            assert_eq!(after(&opts, 1_795_218_524_007), Some(with));
        }
        let until = json!({"repeat": {"cron": "0 3 * * *", "endDate": "2033-05-18T03:33:20.000Z"}});
        assert_eq!(after(&until, 1_700_000_000_000).unwrap().key, "beat::2000000000000::0 3 * * *");
    }

    #[test]
    fn intervals_are_counted_from_1970_and_never_doubled() {
        let every = json!({"repeat": {"every": 1000}, "prevMillis": 5000});
        assert_eq!(due(&every, 5003), Some(6000));
        // A clock that is behind the one that planned this job.
        assert_eq!(due(&every, 4990), Some(6000));
        // A worker that was away.
        assert_eq!(due(&every, 9500), Some(10_000));
        assert_eq!(due(&json!({"repeat": {"every": 0}}), 1), None);
        assert_eq!(due(&json!({"repeat": {"every": i64::MAX}, "prevMillis": 1e30}), 1), None);
    }

    #[test]
    fn patterns_begin_and_end_with_their_dates() {
        let noon = 1_700_049_600_000;
        let rule =
            |more: &str, value: Value| json!({"repeat": {"cron": "0 12 * * *", "tz": "UTC", more: value}});
        let day = 86_400_000;
        assert_eq!(due(&rule("limit", json!(0)), noon - 1), Some(noon));
        assert_eq!(due(&rule("startDate", json!(noon + day)), noon), Some(noon + 2 * day));
        assert_eq!(due(&rule("startDate", json!("2023-11-16")), noon - 1), Some(noon + day));
        assert_eq!(due(&rule("endDate", json!(noon)), noon - 1), Some(noon));
        assert_eq!(due(&rule("endDate", json!(noon - 1)), noon - 2), None);
        assert_eq!(due(&rule("endDate", json!(noon)), noon + 1), None);
        assert_eq!(due(&json!({"repeat": {"cron": "never"}}), noon), None);
        assert_eq!(due(&json!({"attempts": 3}), noon), None);
    }
}
