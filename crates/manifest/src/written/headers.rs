//! Further request headers of an HTTP handler.

use std::collections::BTreeMap;

use crate::secret::Secret;
use crate::value::Value;
use crate::written::redis::secret_file;

/// Names that the contract or HTTP itself fills in.
const RESERVED: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-hub-signature-256",
];

const RESERVED_BEGINNINGS: &[&str] = &["webhook-", "job-", "ce-"];

/// `NAME: value`, or `NAME: {file: /path}`.
pub(crate) fn read(value: &Value<'_>) -> Option<BTreeMap<String, Secret>> {
    let mut out: BTreeMap<String, Secret> = BTreeMap::new();
    for (name, value) in value.entries()? {
        if !is_token(&name) {
            value.problem_at_key("is no name of a header", Some("letters, digits and `-`"));
            continue;
        }
        if is_reserved(&name) {
            value.problem_at_key("this header is filled in by the handler contract or by HTTP", None);
            continue;
        }
        if out.keys().any(|other| other.eq_ignore_ascii_case(&name)) {
            value.problem_at_key("this header is here twice: case does not matter", None);
            continue;
        }
        if let Some(text) = read_value(&name, &value) {
            if text.bytes().any(|byte| byte == b'\r' || byte == b'\n' || byte == 0) {
                value.problem("must be one line: no CR, LF or NUL");
            } else {
                out.insert(name, Secret::new(text));
            }
        }
    }
    Some(out)
}

fn read_value(name: &str, value: &Value<'_>) -> Option<String> {
    if !value.is_map() {
        // Variables in other headers are no secrets, and children may need them.
        let name = name.to_ascii_lowercase();
        if !["auth", "key", "token", "secret", "cookie"].iter().any(|word| name.contains(word)) {
            return value.text_or_number();
        }
        let (text, literal) = value.secret()?;
        if literal {
            value.warn("a secret is written in the manifest", "use `${NAME}` or `{file: /path}`");
        }
        return Some(text);
    }
    match value.entries()?.as_slice() {
        [(key, file)] if key == "file" => secret_file(file),
        _ => {
            value.problem("must be text, or `{file: /path}`");
            None
        }
    }
}

fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RESERVED.contains(&name.as_str())
        || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}
