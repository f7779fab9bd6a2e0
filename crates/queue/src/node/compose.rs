//! Jobs of our own making: a JSON object with `name`, `data` and, where wanted, `opts`, as `Queue.add` takes them.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A job to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New<'a> {
    pub(super) name: String,
    /// Kept byte for byte.
    #[serde(borrow)]
    pub(super) data: &'a RawValue,
    #[serde(default)]
    pub(super) opts: serde_json::Map<String, serde_json::Value>,
}

/// A payload for a job named `name` with JSON `data`.
///
/// # Errors
/// A sentence saying what is wrong with `name` or `data`.
pub(super) fn compose(name: &str, data: &str) -> Result<Vec<u8>, String> {
    if name.is_empty() {
        return Err("the job has no name: give it one".into());
    }
    let data: &RawValue =
        serde_json::from_str(data).map_err(|error| format!("the data is not valid JSON: {error}"))?;
    Ok(format!(r#"{{"name":{},"data":{data}}}"#, serde_json::Value::from(name)).into_bytes())
}

/// Reads such a payload.
///
/// # Errors
/// A sentence saying what is wrong with it.
pub(super) fn read(payload: &[u8]) -> Result<New<'_>, String> {
    serde_json::from_slice(payload).map_err(|error| {
        format!("a job of this queue is an object with `name`, `data` and perhaps `opts`: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keep_every_byte() {
        let payload = compose("a \"b\"", r#"{"n": 9007199254740993, "e":[ ]}"#).unwrap();
        let new = read(&payload).unwrap();
        assert_eq!((new.name.as_str(), new.data.get()), ("a \"b\"", r#"{"n": 9007199254740993, "e":[ ]}"#));
        assert!(compose("", "{}").is_err() && compose("a", "{").is_err());
        assert!(read(b"{}").is_err() && read(br#"{"name":"a","data":1,"more":2}"#).is_err());
    }
}
