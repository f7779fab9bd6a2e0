//! From a verdict to what the turn script is to do.

use qfleet_manifest::queue::Keep;
use qfleet_model::outcome::{Note, Output, Reason, Verdict};
use qfleet_model::time::WallTime;
use serde_json::value::RawValue;

use super::held::Held;
use crate::redis::Call;

/// Adds one verdict to a turn. `queue` is the place of the job's queue in the call; false when nothing is to be done.
pub(super) fn add<'a>(
    call: &mut Call<'a>,
    queue: usize,
    held: &'a Held,
    verdict: &'a Verdict,
    now: WallTime,
) -> bool {
    let values = match verdict {
        Verdict::Nothing => return false,
        Verdict::Complete { result } => {
            let nothing = if result.is_none() { "none" } else { "" };
            let delay = held.pause.as_millis();
            Values { a: json(result.as_ref()), c: nothing, delay, ..Values::new("done") }
        }
        Verdict::Bury { reason } => Values { ..Values::new("fail") }.because(reason),
        Verdict::Discard { reason } => {
            let a = format!("discarded: {}", text_of(reason));
            Values { a, delay: held.pause.as_millis(), ..Values::new("discard") }
        }
        Verdict::GiveBack => Values::new("back"),
        Verdict::GiveBackAt { due } => Values { delay: due.since(now).as_millis(), ..Values::new("later") },
        Verdict::Retry { after, note } => {
            let crash = if note.crash { "crash" } else { "" };
            let again =
                Values { c: crash, delay: after.as_millis(), note: Some(note), ..Values::new("again") };
            match &note.reason {
                Some(reason) => again.because(reason),
                None => again,
            }
        }
        Verdict::Snooze { after, note } => {
            Values { delay: after.as_millis(), note: Some(note), ..Values::new("later") }
        }
    };
    values.write(call, queue, held);
    true
}

/// Adds what becomes of a job whose worker died while it ran.
pub(super) fn add_crash<'a>(
    call: &mut Call<'a>,
    queue: usize,
    held: &'a Held,
    not_before: Option<WallTime>,
    now: WallTime,
) {
    let note = Note { status: Some("crash".into()), ..Note::default() };
    let delay = not_before.map_or(0, |due| due.since(now).as_millis());
    Values { delay, note: Some(&note), ..Values::new("crash") }.write(call, queue, held);
}

/// What each verb gets.
struct Values<'v> {
    verb: &'static str,
    a: String,
    b: String,
    c: &'static str,
    delay: u128,
    note: Option<&'v Note>,
}

impl<'v> Values<'v> {
    fn new(verb: &'static str) -> Self {
        Self { verb, a: String::new(), b: String::new(), c: "", delay: 0, note: None }
    }

    fn because(self, reason: &Reason) -> Self {
        let text = text_of(reason);
        let class = reason.class.as_deref().unwrap_or("Error");
        Self { b: serde_json::Value::from(format!("{class}: {text}")).to_string(), a: text, ..self }
    }

    fn write<'a>(&self, call: &mut Call<'a>, queue: usize, held: &'a Held) {
        call.arg(self.verb).own(queue).arg(&held.id).arg(&held.token).arg(&held.proof);
        call.own(&self.a).own(&self.b).arg(self.c).own(self.delay);
        call.own(u8::from(held.noted));
        match self.note {
            Some(note) => {
                call.arg("1").own(u8::from(note.snooze)).own(u8::from(note.exception));
                call.own(held.taken.as_millis()).own(note.status.as_deref().unwrap_or_default());
            }
            None => {
                call.arg("0").arg("0").arg("0").arg("0").arg("");
            }
        }
    }
}

fn text_of(reason: &Reason) -> String {
    match (&reason.text, &reason.class) {
        (text, _) if !text.is_empty() => text.clone(),
        (_, Some(class)) => class.clone(),
        _ => "failed".to_owned(),
    }
}

/// What a handler returned or told, as JSON: readers parse it without a guard.
pub(super) fn json(result: Option<&Output>) -> String {
    match result {
        None => "null".to_owned(),
        Some(Output::Text(text)) => serde_json::Value::from(text.as_str()).to_string(),
        Some(Output::Json(bytes)) => match serde_json::from_slice::<&RawValue>(bytes) {
            Ok(json) => json.get().to_owned(),
            Err(_) => serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string(),
        },
    }
}

/// A rule for finished jobs as the scripts read it; empty is none.
pub(super) fn rule(keep: Option<Keep>) -> String {
    let Some(Keep { count, age }) = keep else { return String::new() };
    let mut rule = serde_json::Map::new();
    if let Some(count) = count {
        rule.insert("count".into(), count.into());
    }
    if let Some(age) = age {
        rule.insert("age".into(), age.as_secs().into());
    }
    serde_json::json!({ "rule": rule }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_always_json() {
        let of = |bytes: &[u8]| json(Some(&Output::Json(bytes.to_vec())));
        assert_eq!(json(None), "null");
        assert_eq!(of(b" {\"a\": 1.0} "), "{\"a\": 1.0}");
        assert_eq!(of(b"{\"a\":"), r#""{\"a\":""#);
        assert_eq!(of(b""), r#""""#);
        assert_eq!(json(Some(&Output::Text("say \"hi\"".into()))), r#""say \"hi\"""#);
    }
}
