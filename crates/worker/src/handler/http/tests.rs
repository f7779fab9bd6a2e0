//! Settings for the tests of this folder.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use qfleet_manifest::handler::{Body, HttpHandler, HttpTarget};

use super::{Unreachable, literal};

/// The built-in defaults.
pub(in crate::handler) fn settings() -> HttpHandler {
    HttpHandler {
        endpoint: String::from("http://app"),
        target: HttpTarget::Url(String::from("http://app/jobs")),
        put: false,
        body: Body::Raw,
        timeout: None,
        connect_timeout: Duration::from_secs(2),
        signing_keys: Vec::new(),
        also_github: false,
        headers: BTreeMap::new(),
        redirect_same_origin: false,
        idempotent: false,
        h2c: false,
        fail_on_404: false,
        retry_on_4xx: false,
        control: true,
        allow_scope: false,
        compat_inngest: false,
        compat_qstash: false,
        compat_dapr: false,
        ratelimit_headers: false,
        max_request: 8 << 20,
        max_response: 1 << 20,
        max_result: 64 << 10,
        max_hold: Duration::from_secs(900),
        allow_networks: Vec::new(),
        allow_plain_http: false,
        ca_file: None,
        client_certificate: None,
        proxy: None,
        trace_child: false,
    }
}

#[test]
fn the_pause_for_whom_we_cannot_reach_doubles_to_a_minute() {
    let mut unreachable = Unreachable::default();
    let mut now = Instant::now();
    for expected in [5, 10, 20, 40, 60, 60] {
        let pause = unreachable.pause(now);
        assert_eq!(pause.as_secs(), expected);
        assert_eq!(unreachable.pause(now + pause / 2), pause, "one that failed together with it");
        now += pause;
    }
}

#[test]
fn hosts_that_are_addresses_are_recognized_in_every_spelling() {
    for (url, address) in [
        ("http://127.0.0.1:80/", Some("127.0.0.1")),
        ("http://0x7f.1/", Some("127.0.0.1")),
        ("http://2852039166/", Some("169.254.169.254")),
        ("http://[::ffff:169.254.169.254]/", Some("::ffff:169.254.169.254")),
        ("http://app.internal/", None),
        ("http://127.0.0.1.example/", None),
    ] {
        let url = reqwest::Url::parse(url).unwrap();
        let found = literal(&url).map(|(_, address)| address.ip());
        assert_eq!(found, address.map(|address| address.parse().unwrap()), "{url}");
    }
}
