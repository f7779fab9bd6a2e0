//! An HTTP handler: the URL and everything about the request and the answer.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::handler::{Body, HttpHandler, HttpTarget, SigningKey};
use crate::keys;
use crate::secret::Secret;
use crate::section::Section;
use crate::value::Value;
use crate::written::address::{self, Address, Distance, Host};
use crate::written::handler::{read_body, read_gate, read_max_hold, read_max_result, read_timeout};
use crate::written::{headers, redis, signing};

const BODIES: &[(&str, Body)] = &[
    ("raw", Body::Raw),
    ("envelope", Body::Envelope),
    ("cloudevents", Body::Cloudevents),
    ("cloudevents-json", Body::CloudeventsJson),
];

/// `http: {url: …}`, or only the URL.
pub(crate) fn read(value: &Value<'_>) -> Option<HttpHandler> {
    if !value.is_map() && !value.is_empty() {
        let address = read_address(value)?;
        check_signing(value, &address, &[], true);
        check_reach(value, &address, &[], false);
        return Some(handler(&address, None));
    }
    let section = value.section(&keys::HTTP)?;
    if section.get("url").is_none() {
        section.missing("url", "like `url: http://127.0.0.1:8080/jobs`");
    }
    let address = section.read("url", read_address);
    let filled = |address: &Address| HttpHandler { ..handler(address, read_gate(&section)) };
    // The other keys are read even without a URL, for their problems.
    let nowhere = Address::Unix { socket: PathBuf::from("/"), path: String::from("/") };
    let mut http = filled(address.as_ref().unwrap_or(&nowhere));
    read_request(&section, &mut http);
    read_answers(&section, &mut http);
    read_network(&section, &mut http);
    let unsigned =
        section.read("signing", |value| value.word(&[("off", false), ("on", true)], &[])) == Some(false);
    if unsigned
        && !http.signing_keys.is_empty()
        && let Some(value) = section.get("signing")
    {
        value.problem("`signing: off` and a secret exclude each other");
    }
    let address = address?;
    if let Some(url) = section.get("url") {
        check_signing(url, &address, &http.signing_keys, !unsigned && !has_key(&section));
        check_reach(url, &address, &http.allow_networks, http.allow_plain_http);
        check_schemes(&section, &address);
    }
    Some(http)
}

fn handler(address: &Address, gate: Option<String>) -> HttpHandler {
    let (endpoint, target) = match address {
        Address::Web(url) => (url.origin(), HttpTarget::Url(url.text())),
        Address::Unix { socket, path } => (
            format!("unix:{}", socket.display()),
            HttpTarget::Unix { socket: socket.clone(), path: path.clone() },
        ),
    };
    HttpHandler::new(gate.unwrap_or(endpoint), target)
}

/// Whether a key to sign with is written there, readable or not.
fn has_key(section: &Section<'_>) -> bool {
    ["secret", "secret-file", "signing-keys"].iter().any(|key| section.get(key).is_some())
}

fn read_request(section: &Section<'_>, http: &mut HttpHandler) {
    http.put =
        section.read("method", |value| value.word(&[("POST", false), ("PUT", true)], &[])).unwrap_or(false);
    http.body = read_body(section, BODIES);
    http.timeout = read_timeout(section);
    if let Some(limit) = section
        .read("connect-timeout", |value| value.duration(Duration::from_millis(10)..=Duration::from_secs(300)))
    {
        http.connect_timeout = limit;
    }
    http.signing_keys = signing::read(section);
    http.also_github = section.read("also", |value| value.word(&[("github", true)], &[])).unwrap_or(false);
    if http.also_github
        && !has_key(section)
        && let Some(value) = section.get("also")
    {
        value.problem_with_hint("needs a key to sign with", "give `secret` or `secret-file`");
    }
    http.headers = section.read("headers", headers::read).unwrap_or_default();
    http.idempotent = flag(section, "idempotent", false);
    http.max_request =
        section.read("max-request", |value| value.size(1..=1 << 30)).unwrap_or(http.max_request);
    http.trace_child =
        section.read("trace", |value| value.word(&[("link", false), ("child", true)], &[])).unwrap_or(false);
}

fn read_answers(section: &Section<'_>, http: &mut HttpHandler) {
    let redirect = |value: &Value<'_>| value.word(&[("same-origin", true), ("never", false)], &[]);
    http.redirect_same_origin = section.read("redirect", redirect).unwrap_or(false);
    let fail_or_retry = |value: &Value<'_>| value.word(&[("fail", true), ("retry", false)], &[]);
    http.fail_on_404 = section.read("on-404", fail_or_retry).unwrap_or(false);
    http.retry_on_4xx = section.read("on-4xx", fail_or_retry).is_some_and(|fail| !fail);
    http.control = section.read("control", Value::flag).unwrap_or(true);
    http.allow_scope = flag(section, "allow-scope", false);
    for value in section.read("compat", Value::list_or_one).unwrap_or_default() {
        match value.word(&[("inngest", 0), ("qstash", 1), ("dapr", 2)], &[]) {
            Some(0) => http.compat_inngest = true,
            Some(1) => http.compat_qstash = true,
            Some(_) => http.compat_dapr = true,
            None => {}
        }
    }
    http.ratelimit_headers = flag(section, "ratelimit-headers", false);
    http.max_response =
        section.read("max-response", |value| value.size(0..=1 << 30)).unwrap_or(http.max_response);
    http.max_result = read_max_result(section);
    http.max_hold = read_max_hold(section);
}

fn read_network(section: &Section<'_>, http: &mut HttpHandler) {
    http.h2c = flag(section, "h2c", false);
    http.allow_plain_http = flag(section, "allow-plain-http", false);
    http.allow_networks = section.read("allow-networks", read_networks).unwrap_or_default();
    http.ca_file = section.read("ca-file", Value::absolute_path);
    let certificate = section.read("client-cert", Value::absolute_path);
    let key = section.read("client-key", Value::absolute_path);
    for (one, other) in [("client-cert", "client-key"), ("client-key", "client-cert")] {
        if let (Some(value), None) = (section.get(one), section.get(other)) {
            value.problem_at_key(format!("`{one}` needs `{other}` beside it"), None);
        }
    }
    http.client_certificate = certificate.zip(key);
    http.proxy = match section.one_of(["proxy", "proxy-file"]) {
        Some(("proxy", value)) => redis::url_text(value).map(|text| (value, text)),
        Some((_, value)) => redis::secret_file(value).map(|text| (value, text)),
        None => None,
    }
    .and_then(|(value, text)| read_proxy(value, text));
}

fn flag(section: &Section<'_>, key: &str, default: bool) -> bool {
    section.read(key, Value::flag).unwrap_or(default)
}

fn read_proxy(value: &Value<'_>, text: String) -> Option<Secret> {
    let known =
        ["http://", "https://", "socks5://", "socks5h://"].iter().any(|scheme| text.starts_with(scheme));
    if !known || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        value.problem_with_hint("is no address of a proxy", "like `http://proxy:3128`");
        return None;
    }
    Some(Secret::new(text))
}

fn read_address(value: &Value<'_>) -> Option<Address> {
    let text = value.text()?;
    match address::parse(&text) {
        Ok(address) => Some(address),
        Err(bad) => {
            value.problem_with_hint(bad.what, bad.hint);
            None
        }
    }
}

fn read_networks(value: &Value<'_>) -> Option<Vec<(IpAddr, u8)>> {
    let items = value.list_or_one()?;
    let read = |item: &Value<'_>| {
        let network = address::network(&item.line()?);
        if network.is_none() {
            item.problem_with_hint("is no network", "like `10.0.0.0/8` or `fd00::/8`");
        }
        network
    };
    Some(items.iter().filter_map(read).collect())
}

/// Nobody else may send us jobs' payloads in our name, so what leaves the machine is signed, or says that it is not.
fn check_signing(value: &Value<'_>, address: &Address, keys: &[SigningKey], wanted: bool) {
    let local = match address {
        Address::Unix { .. } => true,
        Address::Web(url) => url.distance() == Distance::Loopback,
    };
    if wanted && !local && keys.is_empty() {
        value.problem_with_hint(
            "requests that leave this machine must be signed",
            "give `secret: ${NAME}` or `secret-file`, or say `signing: off`",
        );
    }
}

fn check_reach(value: &Value<'_>, address: &Address, networks: &[(IpAddr, u8)], plain_allowed: bool) {
    let Address::Web(url) = address else { return };
    match url.distance() {
        Distance::Forbidden => value.problem_with_hint(
            "this address is never connected to",
            "link-local, metadata, multicast, unspecified and reserved addresses are refused",
        ),
        Distance::Public if !url.tls && !plain_allowed => value.problem_with_hint(
            "plain http to what may be a public address",
            "use `https://`, or say `allow-plain-http: true`",
        ),
        _ => {}
    }
    if let Host::Address(ip) = url.host
        && !networks.is_empty()
        && !networks.iter().any(|network| address::contains(*network, ip))
    {
        value.problem("this address is in none of the `allow-networks`");
    }
}

/// Settings that need another scheme.
fn check_schemes(section: &Section<'_>, address: &Address) {
    let tls = matches!(address, Address::Web(url) if url.tls);
    let needs_tls = ["ca-file", "client-cert"];
    for key in needs_tls.into_iter().filter(|_| !tls) {
        if let Some(value) = section.get(key) {
            value.problem_at_key("has no meaning without TLS", Some("begin the `url` with `https://`"));
        }
    }
    if tls && let Some(value) = section.get("h2c").filter(|value| value.flag() == Some(true)) {
        value.problem_at_key("is for HTTP/2 without TLS; with `https://` it is agreed on by itself", None);
    }
    if matches!(address, Address::Unix { .. }) {
        for key in ["proxy", "proxy-file", "allow-networks"] {
            if let Some(value) = section.get(key) {
                value.problem_at_key("has no meaning for a unix socket", None);
            }
        }
    }
}
