//! Settings for the tests of this folder.

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use qfleet_manifest::handler::{HttpHandler, HttpTarget};

use super::{Unreachable, literal};

/// The built-in defaults.
pub(in crate::handler) fn settings() -> HttpHandler {
    HttpHandler::new("http://app", HttpTarget::Url(String::from("http://app/jobs")))
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
