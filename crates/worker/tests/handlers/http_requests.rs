//! What arrives at a receiver.

use std::sync::atomic::{AtomicUsize, Ordering};

use qfleet_manifest::handler::{Body, HttpHandler, HttpTarget, SigningKey};
use qfleet_manifest::secret::Secret;
use qfleet_model::outcome::Outcome;
use qfleet_testkit::{Answer, Gate, Received, Receiver, Scratch};
use qfleet_worker::handler::open;
use ring::hmac;

use crate::given::{IntoSettings, PAYLOAD, context, deliver, given, http, is_complete, opened, reason};

const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn received(settings: impl FnOnce(&str) -> HttpHandler, payload: &[u8]) -> Received {
    let receiver = Receiver::start(|_| Answer::ok());
    let ended = opened(settings(&receiver.url())).handle(given(payload).delivery).await;
    assert!(is_complete(&ended), "{ended:?}");
    let mut requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

fn verifies(request: &Received) {
    use base64::Engine;
    let id = request.header("webhook-id").unwrap();
    let timestamp = request.header("webhook-timestamp").unwrap();
    let text = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
    let signature = request.header("webhook-signature").unwrap().strip_prefix("v1,").unwrap();
    let tag = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &(0..32).collect::<Vec<u8>>());
    hmac::verify(&key, &text, &tag).unwrap();
}

fn signing() -> Vec<SigningKey> {
    vec![SigningKey { secret: Secret::new(KEY), from: None, until: None }]
}

#[tokio::test]
async fn a_job_arrives_byte_for_byte_with_all_its_headers() {
    let request = received(
        |url| HttpHandler { signing_keys: signing(), also_github: true, ..http(&format!("{url}/jobs/high")) },
        PAYLOAD.as_bytes(),
    )
    .await;
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/jobs/high"));
    assert_eq!(request.body, PAYLOAD.as_bytes());
    for (name, value) in [
        ("webhook-timestamp", "1767225605"),
        ("job-contract", "1"),
        ("job-id", "6b1a"),
        ("job-queue", "high"),
        ("job-name", "App\\Jobs\\Gr%C3%BC%C3%9Fe"),
        ("job-format", "laravel"),
        ("job-attempt", "2"),
        ("job-max-attempts", "5"),
        ("job-deliveries", "3"),
        ("job-created-at", "2026-01-01T00:00:00Z"),
        ("job-timeout", "30"),
        ("job-deadline", "2026-01-01T00:00:35Z"),
        ("job-previous-status", "500"),
        ("job-tags", "user:1"),
        ("content-type", "application/json"),
        ("content-length", &PAYLOAD.len().to_string()),
        ("accept", "application/json, application/problem+json;q=0.9, text/plain;q=0.5, */*;q=0.1"),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let identity = request.header("webhook-id").unwrap();
    assert_eq!(request.header("idempotency-key").unwrap(), format!("\"{identity}\""));
    assert_eq!(request.header("job-delivery").unwrap().len(), 26);
    assert!(request.header("traceparent").unwrap().ends_with("-03"));
    assert!(request.header("user-agent").unwrap().starts_with("qfleet/"));
    assert!(request.header("x-hub-signature-256").unwrap().starts_with("sha256="));
    verifies(&request);
}

#[tokio::test]
async fn any_body_is_signed_as_it_is_sent() {
    for payload in [&b""[..], b"\xff\x00\x80 binary", PAYLOAD.as_bytes()] {
        for body in [Body::Raw, Body::Envelope, Body::Cloudevents, Body::CloudeventsJson] {
            let settings = |url: &str| HttpHandler { body, signing_keys: signing(), ..http(url) };
            let request = received(settings, payload).await;
            verifies(&request);
            let expected = match body {
                Body::Raw | Body::Cloudevents => "application/json",
                Body::Envelope => "application/vnd.job.v1+json",
                Body::CloudeventsJson => "application/cloudevents+json",
            };
            assert_eq!(request.header("content-type"), Some(expected));
            assert_eq!(request.header("ce-id").is_some(), body == Body::Cloudevents);
            if body != Body::Envelope && body != Body::CloudeventsJson {
                assert_eq!(request.body, payload);
            }
        }
    }
}

#[tokio::test]
async fn a_big_body_arrives_whole() {
    let payload = format!("[\"{}\"]", "x".repeat(5 << 20));
    let request = received(http, payload.as_bytes()).await;
    assert_eq!(request.body, payload.as_bytes());
}

#[tokio::test]
async fn what_is_too_large_fails_and_is_not_sent() {
    let receiver = Receiver::start(|_| Answer::ok());
    let handler = opened(HttpHandler { max_request: 10, ..http(&receiver.url()) });
    let ended = deliver(&handler).await;
    assert!(matches!(ended.outcome, Outcome::Fail { .. }));
    assert_eq!(reason(&ended).class.as_deref(), Some("too_large"));
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn further_headers_are_sent_and_replace_none_of_ours() {
    let headers = [("x-api-key", "secret"), ("job-queue", "forged"), ("user-agent", "forged")];
    let headers = headers.map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let request = received(|url| HttpHandler { headers: headers.into(), ..http(url) }, b"{}").await;
    assert_eq!(request.header("x-api-key"), Some("secret"));
    assert_eq!(request.header("job-queue"), Some("high"));
    assert!(request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("user-agent")).count() == 1);
    assert_eq!(request.header("webhook-signature"), None, "there is no key");
}

#[tokio::test]
async fn put_and_placeholders() {
    let receiver = Receiver::start(|_| Answer::ok());
    let url = format!("{}/{{queue}}/run?name={{name}}", receiver.url());
    let handler = opened(HttpHandler { put: true, ..http(&url) });
    let mut job = given(b"{}");
    job.delivery.job.name = String::from("App\\Jobs\\Send");
    assert!(is_complete(&handler.handle(job.delivery).await));
    let request = &receiver.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/high/run?name=App%5CJobs%5CSend"));
    let ended = deliver(&handler).await;
    assert!(matches!(ended.outcome, Outcome::Fail { .. }), "its name has letters that may not be in a URL");
    assert_eq!(reason(&ended).class.as_deref(), Some("bad_name"));
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn a_unix_socket_is_posted_to() {
    let scratch = Scratch::new();
    let socket = scratch.join("app.sock");
    let receiver = Receiver::start_on_socket(&socket, |_| Answer::ok());
    let target = HttpTarget::Unix { socket: socket.clone(), path: String::from("/jobs?a=1") };
    let handler = opened(HttpHandler { target, ..http("unused") });
    for _ in 0..3 {
        assert!(is_complete(&deliver(&handler).await));
    }
    let request = &receiver.requests()[2];
    assert_eq!((request.path.as_str(), request.header("host")), ("/jobs?a=1", Some("localhost")));
    assert_eq!(receiver.connections(), 1);
    drop(receiver);
    let ended = deliver(&handler).await;
    assert_eq!(ended.status.as_deref(), Some("unreachable"), "{ended:?}");
}

#[tokio::test]
async fn a_proxy_gets_the_whole_url() {
    let proxy = Receiver::start(|_| Answer::ok());
    let settings =
        HttpHandler { proxy: Some(Secret::new(proxy.url())), ..http("http://app.internal:8080/jobs") };
    assert!(is_complete(&deliver(&opened(settings)).await));
    assert_eq!(proxy.requests()[0].path, "http://app.internal:8080/jobs");
}

#[test]
fn settings_that_cannot_work_are_told_without_secrets() {
    let scratch = Scratch::new();
    let no_pem = scratch.write("ca.pem", "nothing");
    let key = |secret: &str| vec![SigningKey { secret: Secret::new(secret), from: None, until: None }];
    let header = |value: &str| [(String::from("x-key"), Secret::new(value))].into();
    for (settings, word) in [
        (HttpHandler { signing_keys: key("hunter2"), ..http("http://app/") }, "signing key 1"),
        (HttpHandler { ca_file: Some(no_pem.clone()), ..http("https://app/") }, "ca.pem"),
        (HttpHandler { ca_file: Some(scratch.join("absent")), ..http("https://app/") }, "absent"),
        (HttpHandler { client_certificate: Some((no_pem.clone(), no_pem)), ..http("https://app/") }, "PEM"),
        (HttpHandler { proxy: Some(Secret::new("hunter2 at")), ..http("http://app/") }, "proxy"),
        (HttpHandler { headers: header("hunter2\r\n"), ..http("http://app/") }, "x-key"),
        (http("http://hunter2@[oops/"), "URL"),
    ] {
        let error = open(&settings.into_settings(), &context()).unwrap_err();
        assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn fifty_at_once_all_arrive() {
    let (eleven, count) = (Gate::new(), AtomicUsize::new(0));
    let receiver = Receiver::start(move |_| {
        // Nobody is done before eleven are there.
        if count.fetch_add(1, Ordering::SeqCst) == 10 {
            eleven.open();
        }
        Answer::ok().behind(&eleven)
    });
    let handler = opened(http(&receiver.url()));
    let deliveries = (0..50).map(|_| deliver(&handler));
    let ended = futures_util::future::join_all(deliveries).await;
    assert!(ended.iter().all(is_complete));
    assert!(receiver.most_in_hand() > 10, "{}", receiver.most_in_hand());
    assert_eq!(receiver.count(), 50);
}
