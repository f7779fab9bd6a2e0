//! Which addresses are connected to, whatever a name server says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qfleet_manifest::handler::HttpHandler;
use qfleet_model::outcome::Scope;
use qfleet_testkit::{Answer, Receiver};
use qfleet_worker::handler::{Ended, Handler, HandlerContext, Health, open};

use crate::given::{IntoSettings, Told, context, deliver, http, is_complete, opened, reason, snooze};

fn with_names(settings: HttpHandler, answers: &[&[&str]]) -> Arc<dyn Handler> {
    let context = HandlerContext { names: Told::new(answers), ..context() };
    open(&settings.into_settings(), &context).unwrap()
}

fn refused(ended: &Ended) {
    assert_eq!(snooze(ended), (60, Scope::Endpoint), "{ended:?}");
    assert_eq!(ended.health, Health::Trip { alert: "policy" });
    assert_eq!(reason(ended).class.as_deref(), Some("policy"));
}

#[tokio::test]
async fn addresses_of_clouds_are_never_connected_to() {
    let started = Instant::now();
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "https://169.254.169.254/",
        "http://0.0.0.0:8080/",
    ] {
        refused(&deliver(&opened(http(url))).await);
    }
    for answer in [&["169.254.169.254"][..], &["::ffff:a9fe:a9fe"], &["fd00:ec2::254", "100.100.100.200"]] {
        refused(&deliver(&with_names(http("http://app.internal/"), &[answer])).await);
    }
    assert!(started.elapsed() < Duration::from_secs(2), "nothing was tried");
}

#[tokio::test]
async fn of_several_addresses_a_permitted_one_is_used() {
    let receiver = Receiver::start(|_| Answer::ok());
    let url = format!("http://app.internal:{}/", receiver.port());
    let handler = with_names(http(&url), &[&["169.254.169.254", "93.184.216.34", "127.0.0.1"]]);
    assert!(is_complete(&deliver(&handler).await));
    assert_eq!(
        receiver.requests()[0].header("host"),
        Some(format!("app.internal:{}", receiver.port()).as_str())
    );
}

#[tokio::test]
async fn each_connection_is_checked_anew() {
    let receiver = Receiver::start(|_| Answer::ok().close());
    let url = format!("http://app.internal:{}/", receiver.port());
    let handler = with_names(http(&url), &[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
    assert!(is_complete(&deliver(&handler).await));
    refused(&deliver(&handler).await);
    assert!(is_complete(&deliver(&handler).await));
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn plain_http_stays_at_home() {
    let plain = http("http://app.example/");
    let ended = deliver(&with_names(plain.clone(), &[&["93.184.216.34"]])).await;
    refused(&ended);
    assert!(reason(&ended).text.contains("allow-plain-http"), "{ended:?}");
    refused(&deliver(&opened(http("http://93.184.216.34/"))).await);
    let receiver = Receiver::start(|_| Answer::ok());
    let localhost = opened(http(&format!("http://localhost:{}/", receiver.port())));
    assert!(is_complete(&deliver(&localhost).await), "by the system's own name service");
}

#[tokio::test]
async fn networks_narrow_what_is_connected_to() {
    let receiver = Receiver::start(|_| Answer::ok());
    let url = format!("http://app.internal:{}/", receiver.port());
    let only = |network: &str, bits| HttpHandler {
        allow_networks: vec![(network.parse().unwrap(), bits)],
        ..http(&url)
    };
    assert!(is_complete(&deliver(&with_names(only("127.0.0.0", 8), &[&["127.0.0.1"]])).await));
    refused(&deliver(&with_names(only("10.0.0.0", 8), &[&["127.0.0.1"]])).await);
    let mapped = with_names(only("127.0.0.0", 8), &[&["::ffff:10.0.0.1"]]);
    refused(&deliver(&mapped).await);
    assert_eq!(receiver.count(), 1);
}
