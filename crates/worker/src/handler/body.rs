//! What is sent of a job: the payload as it is, or an object around it. No byte of the payload is ever printed anew.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use qfleet_manifest::handler::Body;
use qfleet_model::time::WallTime;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Delivery;

/// What may stand in a path segment as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Its media type.
#[must_use]
pub(crate) fn content_type(mode: Body) -> &'static str {
    match mode {
        Body::Raw | Body::Cloudevents => "application/json",
        Body::Envelope => "application/vnd.job.v1+json",
        Body::CloudeventsJson => "application/cloudevents+json",
    }
}

/// The bytes that are sent.
#[must_use]
pub(crate) fn render(mode: Body, delivery: &Delivery) -> Vec<u8> {
    let job = &delivery.job;
    match mode {
        Body::Raw | Body::Cloudevents => job.payload.clone(),
        Body::Envelope => {
            let (payload, payload_base64) = embedded(&job.payload);
            written(&Envelope {
                v: 1,
                id: &delivery.identity,
                delivery: &delivery.id,
                format: job.format.to_string(),
                queue: &job.queue,
                name: &job.name,
                job_id: &job.id,
                attempt: job.attempt,
                max_attempts: delivery.tries,
                deliveries: delivery.number,
                created_at: job.created_at.map(WallTime::to_rfc3339),
                deadline: delivery.deadline_at.map(WallTime::to_rfc3339),
                tags: &job.tags,
                payload,
                payload_base64,
            })
        }
        Body::CloudeventsJson => {
            let (data, data_base64) = embedded(&job.payload);
            written(&Event {
                specversion: "1.0",
                id: &delivery.identity,
                source: event_source(&job.queue),
                kind: &job.name,
                time: job.created_at.map(WallTime::to_rfc3339),
                subject: &job.id,
                datacontenttype: "application/json",
                data,
                data_base64,
            })
        }
    }
}

/// `/queues/<queue>`, a URI reference.
#[must_use]
pub(crate) fn event_source(queue: &str) -> String {
    format!("/queues/{}", utf8_percent_encode(queue, UNRESERVED))
}

/// The payload as it is when it is JSON, else as base64.
fn embedded(payload: &[u8]) -> (Option<&RawValue>, Option<String>) {
    match serde_json::from_slice(payload) {
        Ok(json) => (Some(json), None),
        Err(_) => (None, Some(STANDARD.encode(payload))),
    }
}

fn written(object: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(object).unwrap_or_else(|_| unreachable!("texts and numbers can always be written"))
}

#[derive(Serialize)]
struct Envelope<'a> {
    v: u8,
    id: &'a str,
    delivery: &'a str,
    format: String,
    queue: &'a str,
    name: &'a str,
    job_id: &'a str,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    deliveries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    subject: &'a str,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handler::sample;

    /// Whatever a careless reader would change: spacing, number forms, empty arrays, escapes.
    const TRICKY: &str =
        r#"{ "a":[], "o":{}, "big":9223372036854775807, "f":1.10, "e":1E2, "u":"é\u00e9\/", "n":null }"#;

    #[test]
    fn the_payload_goes_out_byte_for_byte() {
        let delivery = sample::delivery(TRICKY.as_bytes());
        assert_eq!(render(Body::Raw, &delivery), TRICKY.as_bytes());
        assert_eq!(render(Body::Cloudevents, &delivery), TRICKY.as_bytes());
        for mode in [Body::Envelope, Body::CloudeventsJson] {
            assert!(String::from_utf8(render(mode, &delivery)).unwrap().contains(TRICKY), "{mode:?}");
        }
    }

    #[test]
    fn the_envelope_of_the_contract() {
        let text =
            String::from_utf8(render(Body::Envelope, &sample::delivery(br#"{"campaign":77,"batch":3}"#)))
                .unwrap();
        let expected = concat!(
            r#"{"v":1,"id":"job_szEVgbBjEovduKoVbkxYvA","delivery":"01KDVDNEW8Q2ZC6V5T9W3E7RXG","format":"bullmq","#,
            r#""queue":"campaigns","name":"send","job_id":"8412","attempt":2,"max_attempts":5,"deliveries":3,"#,
            r#""created_at":"2026-01-01T00:00:00Z","deadline":"2026-01-01T00:01:05Z","tags":[],"#,
            r#""payload":{"campaign":77,"batch":3}}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_no_json_goes_as_base64() {
        for payload in [&b"\xff\x00not json"[..], b"", b"{\"open\":", b"{} {}", b"\"\xff\""] {
            for (mode, member) in [(Body::Envelope, "payload_base64"), (Body::CloudeventsJson, "data_base64")]
            {
                let object: serde_json::Value =
                    serde_json::from_slice(&render(mode, &sample::delivery(payload))).unwrap();
                assert_eq!(STANDARD.decode(object[member].as_str().unwrap()).unwrap(), payload);
                assert!(object.get("payload").is_none() && object.get("data").is_none());
            }
        }
    }

    #[test]
    fn a_structured_event_has_the_attributes() {
        let event: serde_json::Value =
            serde_json::from_slice(&render(Body::CloudeventsJson, &sample::delivery(b"{}"))).unwrap();
        assert_eq!(
            event,
            serde_json::json!({
                "specversion": "1.0", "id": "job_szEVgbBjEovduKoVbkxYvA", "source": "/queues/campaigns", "type": "send",
                "time": "2026-01-01T00:00:00Z", "subject": "8412", "datacontenttype": "application/json", "data": {}
            })
        );
        assert_eq!(event_source("a b/ü"), "/queues/a%20b%2F%C3%BC");
    }

    #[test]
    fn deep_payloads_are_no_danger() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = String::from_utf8(render(Body::Envelope, &sample::delivery(deep.as_bytes()))).unwrap();
        assert!(text.contains(&deep));
    }
}
