//! Payloads as Laravel writes them, with the limits a test wants in them.

use serde_json::{Map, Value, json};

/// A job for a handler that is no PHP.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    fields: Map<String, Value>,
}

impl Job {
    /// A job that its producer knows by this id, with nothing else of its own.
    pub(crate) fn new(id: &str) -> Self {
        let value = json!({
            "uuid": id, "displayName": "App\\Jobs\\Test", "job": "App\\Jobs\\Test@fire", "maxTries": null,
            "maxExceptions": null, "failOnTimeout": false, "backoff": null, "timeout": null, "data": {}, "id": id,
            "attempts": 0,
        });
        let Value::Object(fields) = value else { unreachable!() };
        Self { fields }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.fields).unwrap()
    }
}

/// The attempts a payload has behind it.
pub(crate) fn attempts(payload: &str) -> u64 {
    serde_json::from_str::<Value>(payload).unwrap()["attempts"].as_u64().unwrap()
}
