//! Keys that sign: `secret`, `secret-file`, `signing-keys`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use qfleet_model::time::WallTime;

use crate::handler::SigningKey;
use crate::keys;
use crate::secret::Secret;
use crate::section::Section;
use crate::value::Value;
use crate::written::redis::{secret, secret_file};

/// More keys at once would make the header longer than receivers accept.
const MOST_AT_ONCE: usize = 3;

/// Every key of a handler, newest first.
pub(crate) fn read(section: &Section<'_>) -> Vec<SigningKey> {
    let single = section.get("secret").or(section.get("secret-file"));
    let Some(list) = section.get("signing-keys") else {
        return read_key(section)
            .map(|secret| SigningKey { secret, from: None, until: None })
            .into_iter()
            .collect();
    };
    if let Some(single) = single {
        single.problem_at_key("`secret` and `signing-keys` exclude each other; give one", None);
    }
    let mut keys: Vec<SigningKey> = list.list().unwrap_or_default().iter().filter_map(read_dated).collect();
    if list.list().is_some_and(|items| items.is_empty()) {
        list.problem("names no key");
    }
    keys.sort_by_key(|key| std::cmp::Reverse(key.from.map(WallTime::as_millis)));
    if most_at_once(&keys) > MOST_AT_ONCE {
        list.problem(format!("more than {MOST_AT_ONCE} keys are valid at the same time"));
    }
    keys
}

fn read_dated(value: &Value<'_>) -> Option<SigningKey> {
    let section = value.section(&keys::SIGNING_KEY)?;
    if section.get("secret").is_none() && section.get("secret-file").is_none() {
        section.missing("secret", "or `secret-file`");
    }
    let (from, until) = (section.read("from", read_date), section.read("until", read_date));
    if let (Some(from), Some(until), Some(value)) = (from, until, section.get("until"))
        && until <= from
    {
        value.problem("ends before it begins");
    }
    Some(SigningKey { secret: read_key(&section)?, from, until })
}

fn read_date(value: &Value<'_>) -> Option<WallTime> {
    let text = value.line()?;
    let date = WallTime::from_rfc3339(&text);
    if date.is_none() {
        value.problem_with_hint("must be a date with time and zone", "like `2026-01-31T12:00:00Z`");
    }
    date
}

fn read_key(section: &Section<'_>) -> Option<Secret> {
    let (value, key) = match section.one_of(["secret", "secret-file"])? {
        ("secret", value) => (value, secret(value)?),
        (_, value) => (value, Secret::new(secret_file(value)?)),
    };
    match check(key.reveal()) {
        Ok(()) => Some(key),
        Err(what) => {
            value.problem_with_hint(what, "make one: `echo whsec_$(head -c 32 /dev/urandom | base64)`");
            None
        }
    }
}

/// What is wrong with a key; never the key itself.
fn check(key: &str) -> Result<(), &'static str> {
    let decode = |text: &str| STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok();
    if let Some(rest) = key.strip_prefix("whsec_") {
        let bytes = decode(rest).ok_or("behind `whsec_` must be base64")?;
        return if (24..=64).contains(&bytes.len()) { Ok(()) } else { Err("a key must have 24 to 64 bytes") };
    }
    if let Some(rest) = key.strip_prefix("whsk_") {
        let bytes = decode(rest).ok_or("behind `whsk_` must be base64")?;
        return if [32, 64].contains(&bytes.len()) {
            Ok(())
        } else {
            Err("an Ed25519 key has 32 or 64 bytes")
        };
    }
    if key.starts_with("whpk_") {
        return Err("is a public key, which belongs to receivers; the secret one begins with `whsk_`");
    }
    Err("must begin with `whsec_` (HMAC-SHA-256) or `whsk_` (Ed25519)")
}

fn most_at_once(keys: &[SigningKey]) -> usize {
    let valid = |key: &SigningKey, at: Option<WallTime>| {
        key.from.is_none_or(|from| at.is_some_and(|at| from <= at))
            && key.until.is_none_or(|until| at.is_none_or(|at| at < until))
    };
    let beginnings = std::iter::once(None).chain(keys.iter().map(|key| key.from));
    beginnings.map(|at| keys.iter().filter(|key| valid(key, at)).count()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(from: Option<i64>, until: Option<i64>) -> SigningKey {
        SigningKey {
            secret: Secret::new("x"),
            from: from.map(WallTime::from_seconds),
            until: until.map(WallTime::from_seconds),
        }
    }

    #[test]
    fn keys_are_checked_for_form_and_length() {
        assert_eq!(check("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), Ok(()));
        assert_eq!(check("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), Ok(()));
        assert_eq!(check("whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), Ok(()));
        for key in ["", "plain", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64", "whsk_AAEC", "whpk_AAEC"] {
            assert!(check(key).is_err(), "{key}");
        }
    }

    #[test]
    fn keys_valid_at_the_same_time_are_counted() {
        assert_eq!(most_at_once(&[]), 0);
        assert_eq!(most_at_once(&[key(None, None), key(Some(5), None), key(None, Some(5))]), 2);
        assert_eq!(
            most_at_once(&[key(Some(1), Some(10)), key(Some(2), Some(10)), key(Some(3), Some(10))]),
            3
        );
        assert_eq!(most_at_once(&[key(Some(1), Some(2)), key(Some(2), Some(3)), key(Some(3), None)]), 1);
    }
}
