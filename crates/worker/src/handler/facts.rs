//! What a handler is told of a delivery, as request headers and as variables of a process: the same facts twice.
//!
//! Pure, except that each delivery gets a span of its own, made from random bytes that are brought along.

use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use qfleet_manifest::handler::Body;
use qfleet_model::time::WallTime;

use super::{Delivery, body};

/// The variable with the delivery's id, by which whatever a job has left behind is found.
pub(crate) const DELIVERY: &str = "JOB_DELIVERY";

/// What is encoded in any header value.
const PLAIN: &AsciiSet = &CONTROLS.add(b'%');
/// Commas separate tags.
const TAG: &AsciiSet = &PLAIN.add(b',');
/// What CloudEvents wants encoded in header values.
const EVENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Headers of a delivery in the order of the contract, without those of body, signature and configuration. Values are
/// ASCII without control characters.
pub(crate) fn headers(delivery: &Delivery, mode: Body, trace: &Trace) -> Vec<(&'static str, String)> {
    let job = &delivery.job;
    let mut headers = vec![
        ("webhook-id", delivery.identity.clone()),
        ("webhook-timestamp", delivery.started_at.as_seconds().to_string()),
        ("idempotency-key", format!("\"{}\"", delivery.identity)),
        ("job-contract", String::from("1")),
        ("job-id", ascii(&job.id)),
        ("job-delivery", delivery.id.clone()),
        ("job-queue", ascii(&job.queue)),
        ("job-name", ascii(&job.name)),
        ("job-format", job.format.to_string()),
        ("job-attempt", job.attempt.to_string()),
        ("job-deliveries", delivery.number.to_string()),
    ];
    let mut known =
        |name: &'static str, value: Option<String>| headers.extend(value.map(|value| (name, value)));
    known("job-max-attempts", delivery.tries.map(|tries| tries.to_string()));
    known("job-created-at", job.created_at.map(WallTime::to_rfc3339));
    known("job-timeout", delivery.timeout.map(seconds));
    known("job-deadline", delivery.deadline_at.map(WallTime::to_rfc3339));
    known("job-previous-status", previous(delivery).map(ascii));
    known("job-tags", tags(&job.tags));
    known("traceparent", Some(trace.parent.clone()));
    known("tracestate", trace.state.as_deref().map(ascii));
    if mode == Body::Cloudevents {
        let event = |text: &str| utf8_percent_encode(text, EVENT).to_string();
        known("ce-specversion", Some(String::from("1.0")));
        known("ce-id", Some(delivery.identity.clone()));
        known("ce-source", Some(body::event_source(&job.queue)));
        known("ce-type", Some(event(&job.name)));
        known("ce-time", job.created_at.map(WallTime::to_rfc3339));
        known("ce-subject", Some(event(&job.id)).filter(|id| !id.is_empty()));
    }
    headers
}

/// Variables of a delivery. The payload is not among them: others of the same user can read them.
pub(crate) fn variables(delivery: &Delivery, trace: &Trace) -> Vec<(&'static str, String)> {
    let job = &delivery.job;
    let mut variables = vec![
        ("JOB_CONTRACT", String::from("1")),
        ("JOB_KEY", delivery.identity.clone()),
        ("JOB_ID", job.id.clone()),
        (DELIVERY, delivery.id.clone()),
        ("JOB_QUEUE", job.queue.clone()),
        ("JOB_NAME", job.name.clone()),
        ("JOB_FORMAT", job.format.to_string()),
        ("JOB_ATTEMPT", job.attempt.to_string()),
        ("JOB_DELIVERIES", delivery.number.to_string()),
        ("JOB_CONTROL_FD", String::from("3")),
        ("TRACEPARENT", trace.parent.clone()),
    ];
    let mut known =
        |name: &'static str, value: Option<String>| variables.extend(value.map(|value| (name, value)));
    known("JOB_MAX_ATTEMPTS", delivery.tries.map(|tries| tries.to_string()));
    known("JOB_TIMEOUT", delivery.timeout.map(seconds));
    known("JOB_DEADLINE", delivery.deadline_at.map(WallTime::to_rfc3339));
    known("JOB_PREVIOUS_STATUS", previous(delivery).map(str::to_owned));
    known("TRACESTATE", trace.state.clone());
    for (_, value) in &mut variables {
        // A variable ends at a zero byte.
        value.retain(|character| character != '\0');
    }
    variables
}

/// The trace context of one delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    /// `00-<trace>-<span of this delivery>-<flags>`.
    parent: String,
    state: Option<String>,
}

impl Trace {
    /// A new span in the producer's trace when the job brings one along, else in a new trace. Whether it is a child of
    /// the producer's span or linked to it shows in an exported span only, never on the wire.
    pub(crate) fn of(delivery: &Delivery, random: [u8; 24]) -> Self {
        let (trace, span) = (id(&random[..16]), id(&random[16..]));
        match delivery.job.traceparent.as_deref().and_then(producer) {
            Some((trace, flags)) => Self {
                parent: format!("00-{trace}-{span}-{flags}"),
                state: delivery.job.tracestate.clone().filter(|state| !state.is_empty()),
            },
            None => Self { parent: format!("00-{trace}-{span}-03"), state: None },
        }
    }
}

/// All zeros are the only invalid id.
fn id(random: &[u8]) -> String {
    let last = random.len() - 1;
    let zeros = random.iter().all(|byte| *byte == 0);
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    random
        .iter()
        .enumerate()
        .map(|(place, byte)| byte | u8::from(zeros && place == last))
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Trace id and flags of a valid `traceparent`.
fn producer(text: &str) -> Option<(&str, &str)> {
    let lower_hex = |part: &str, length: usize| {
        part.len() == length
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let zeros = |part: &str| part.bytes().all(|byte| byte == b'0');
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let valid = lower_hex(version, 2)
        && version != "ff"
        && lower_hex(trace, 32)
        && !zeros(trace)
        && lower_hex(span, 16)
        && !zeros(span)
        && lower_hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    valid.then_some((trace, flags))
}

/// Values are ASCII; anything else goes percent-encoded, control characters too, so that no value can end its line. What
/// comes out decodes to what went in, so `%` is encoded as well, and spaces where HTTP would drop them.
pub(crate) fn ascii(text: &str) -> String {
    let value = utf8_percent_encode(text, PLAIN).to_string();
    let rest = value.trim_start_matches(' ');
    let inner = rest.trim_end_matches(' ');
    let spaces = |count: usize| "%20".repeat(count);
    format!("{}{inner}{}", spaces(value.len() - rest.len()), spaces(rest.len() - inner.len()))
}

fn seconds(limit: Duration) -> String {
    if limit.subsec_nanos() == 0 {
        return limit.as_secs().to_string();
    }
    let text = format!("{:.3}", limit.as_secs_f64());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn previous(delivery: &Delivery) -> Option<&str> {
    delivery.job.history.previous.as_deref().filter(|_| delivery.number > 1)
}

fn tags(tags: &[String]) -> Option<String> {
    let encoded: Vec<String> =
        tags.iter().take(20).map(|tag| utf8_percent_encode(tag, TAG).to_string()).collect();
    (!encoded.is_empty()).then(|| encoded.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::handler::sample;

    const TRACE: [u8; 24] = [0xAB; 24];

    fn header(delivery: &Delivery, mode: Body, name: &str) -> Option<String> {
        let headers = headers(delivery, mode, &Trace::of(delivery, TRACE));
        headers.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    #[test]
    fn the_headers_of_the_contract() {
        let delivery = sample::delivery(b"{}");
        for (name, value) in [
            ("webhook-id", "job_szEVgbBjEovduKoVbkxYvA"),
            ("webhook-timestamp", "1767225605"),
            ("idempotency-key", "\"job_szEVgbBjEovduKoVbkxYvA\""),
            ("job-contract", "1"),
            ("job-id", "8412"),
            ("job-delivery", "01KDVDNEW8Q2ZC6V5T9W3E7RXG"),
            ("job-queue", "campaigns"),
            ("job-name", "send"),
            ("job-format", "bullmq"),
            ("job-attempt", "2"),
            ("job-max-attempts", "5"),
            ("job-deliveries", "3"),
            ("job-created-at", "2026-01-01T00:00:00Z"),
            ("job-timeout", "60"),
            ("job-deadline", "2026-01-01T00:01:05Z"),
            ("job-previous-status", "500"),
        ] {
            assert_eq!(header(&delivery, Body::Raw, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(header(&delivery, Body::Raw, "ce-id"), None);
    }

    #[test]
    fn what_is_not_known_is_not_sent() {
        let mut delivery = sample::delivery(b"{}");
        delivery.tries = None;
        delivery.timeout = None;
        delivery.deadline_at = None;
        delivery.number = 1;
        delivery.job.created_at = None;
        for name in [
            "job-max-attempts",
            "job-timeout",
            "job-deadline",
            "job-previous-status",
            "job-created-at",
            "job-tags",
            "tracestate",
        ] {
            assert_eq!(header(&delivery, Body::Raw, name), None, "{name}");
        }
        let variables = variables(&delivery, &Trace::of(&delivery, TRACE));
        assert!(variables.iter().all(|(name, _)| !name.contains("MAX") && !name.contains("PREVIOUS")));
    }

    #[test]
    fn other_characters_are_percent_encoded_in_headers_only() {
        let mut delivery = sample::delivery(b"{}");
        delivery.job.name = String::from("App\\Jobs\\Grüße\r\nX-Evil: 1\0");
        delivery.job.tags = vec![String::from("a,b"), String::from("ü")];
        let expected = "App\\Jobs\\Gr%C3%BC%C3%9Fe%0D%0AX-Evil: 1%00";
        assert_eq!(header(&delivery, Body::Raw, "job-name").as_deref(), Some(expected));
        assert_eq!(header(&delivery, Body::Raw, "job-tags").as_deref(), Some("a%2Cb,%C3%BC"));
        let variables = variables(&delivery, &Trace::of(&delivery, TRACE));
        assert!(variables.contains(&("JOB_NAME", String::from("App\\Jobs\\Grüße\r\nX-Evil: 1"))));
    }

    #[test]
    fn a_header_decodes_to_the_name_it_was() {
        for name in ["50%", "%20", " a b ", "  ", "", "grün %C3%BC", "a\tb\n"] {
            let value = ascii(name);
            assert_eq!(value.trim(), value, "`{name}` survives its way");
            let decoded = percent_encoding::percent_decode_str(&value).decode_utf8().unwrap();
            assert_eq!(decoded, name);
        }
        assert_eq!(ascii("resize me"), "resize me");
    }

    #[test]
    fn an_event_in_binary_mode_has_its_attributes_in_headers() {
        let mut delivery = sample::delivery(b"{}");
        delivery.job.name = String::from("50% \"off\"");
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "job_szEVgbBjEovduKoVbkxYvA"),
            ("ce-source", "/queues/campaigns"),
            ("ce-type", "50%25%20%22off%22"),
            ("ce-time", "2026-01-01T00:00:00Z"),
            ("ce-subject", "8412"),
        ] {
            assert_eq!(header(&delivery, Body::Cloudevents, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn the_variables_of_the_contract() {
        let delivery = sample::delivery(b"{}");
        let variables = variables(&delivery, &Trace::of(&delivery, TRACE));
        let expected = [
            ("JOB_CONTRACT", "1"),
            ("JOB_KEY", "job_szEVgbBjEovduKoVbkxYvA"),
            ("JOB_ID", "8412"),
            ("JOB_DELIVERY", "01KDVDNEW8Q2ZC6V5T9W3E7RXG"),
            ("JOB_QUEUE", "campaigns"),
            ("JOB_NAME", "send"),
            ("JOB_FORMAT", "bullmq"),
            ("JOB_ATTEMPT", "2"),
            ("JOB_DELIVERIES", "3"),
            ("JOB_CONTROL_FD", "3"),
            ("TRACEPARENT", "00-abababababababababababababababab-abababababababab-03"),
            ("JOB_MAX_ATTEMPTS", "5"),
            ("JOB_TIMEOUT", "60"),
            ("JOB_DEADLINE", "2026-01-01T00:01:05Z"),
            ("JOB_PREVIOUS_STATUS", "500"),
        ];
        assert_eq!(variables, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn each_delivery_is_a_span_of_its_own_in_the_producers_trace() {
        let mut delivery = sample::delivery(b"{}");
        delivery.job.traceparent =
            Some(String::from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        delivery.job.tracestate = Some(String::from("vendor=1"));
        let trace = Trace::of(&delivery, TRACE);
        assert_eq!(trace.parent, "00-4bf92f3577b34da6a3ce929d0e0e4736-abababababababab-01");
        assert_eq!(trace.state.as_deref(), Some("vendor=1"));
        for broken in ["", "00-x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "nonsense"] {
            delivery.job.traceparent = Some(String::from(broken));
            let trace = Trace::of(&delivery, [0; 24]);
            assert_eq!(trace.parent, "00-00000000000000000000000000000001-0000000000000001-03");
            assert_eq!(trace.state, None);
        }
    }

    #[test]
    fn seconds_are_decimal_only_where_needed() {
        assert_eq!(seconds(Duration::from_secs(60)), "60");
        assert_eq!(seconds(Duration::from_millis(1500)), "1.5");
        assert_eq!(seconds(Duration::from_secs(100)), "100");
        assert_eq!(seconds(Duration::ZERO), "0");
    }
}
