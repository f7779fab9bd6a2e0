//! Payloads of our own making, as Laravel writes them for a string handler.

use std::fmt::Write as _;

use qfleet_model::time::WallTime;
use serde_json::value::RawValue;

const METHOD: &str = "fire";
const ID_LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A payload for `Class@method` (method `fire` when none is named) with JSON `data`, created at `now`.
///
/// # Errors
/// A sentence saying what is wrong with `name` or `data`.
pub(super) fn compose(name: &str, data: &str, now: WallTime) -> Result<Vec<u8>, String> {
    let (class, method) = name.split_once('@').unwrap_or((name, METHOD));
    for (what, part, extra) in [("class", class, "\\"), ("method", method, "")] {
        let fits = |letter: char| letter.is_alphanumeric() || letter == '_' || extra.contains(letter);
        if part.is_empty() || !part.chars().all(fits) {
            return Err(format!(
                "`{name}` is no job name: its {what} `{part}` is no PHP name; write `Class@method`"
            ));
        }
    }
    let data: &RawValue =
        serde_json::from_str(data).map_err(|error| format!("the data is not valid JSON: {error}"))?;
    let (class, job) = (quoted(class), quoted(&format!("{class}@{method}")));
    let mut payload = format!(r#"{{"uuid":"{}","displayName":{class},"job":{job}"#, uuid());
    payload.push_str(
        r#","maxTries":null,"maxExceptions":null,"failOnTimeout":false,"backoff":null,"timeout":null"#,
    );
    // Into a String, writing cannot fail.
    let _ = write!(
        payload,
        r#","data":{data},"createdAt":{},"id":"{}","attempts":0,"delay":null}}"#,
        now.as_seconds(),
        id()
    );
    Ok(payload.into_bytes())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A random (version 4) UUID.
fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Laravel's second id: 32 random letters and digits.
fn id() -> String {
    (0..32).map(|_| char::from(ID_LETTERS[fastrand::usize(..ID_LETTERS.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_as_a_string_handlers() {
        let payload =
            compose(r"App\Jobs\Ping", r#"{"a":[],"n":9007199254740993}"#, WallTime::from_seconds(5)).unwrap();
        let text = String::from_utf8(payload).unwrap();
        assert!(text.contains(r#""displayName":"App\\Jobs\\Ping","job":"App\\Jobs\\Ping@fire","#), "{text}");
        assert!(text.contains(r#""data":{"a":[],"n":9007199254740993},"createdAt":5,"#), "{text}");
        let uuid = &text[9..45];
        assert_eq!(uuid.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
    }

    #[test]
    fn what_cannot_be_a_job_is_refused() {
        for (name, data) in [("", "{}"), ("@x", "{}"), ("A b", "{}"), ("A@b\"", "{}"), ("A", "{"), ("A", "")]
        {
            assert!(compose(name, data, WallTime::from_seconds(5)).is_err(), "{name} {data}");
        }
    }
}
