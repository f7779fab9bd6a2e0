//! Where an HTTP handler may connect to, as far as its URL tells: parts of a URL, networks, and which of them are allowed.
//!
//! Names are resolved only when connecting, where every address is checked again. Here a name without dots, or under a
//! suffix that only private networks use, is taken for private.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// An address that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Web(WebUrl),
    Unix { socket: PathBuf, path: String },
}

/// `http` or `https`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WebUrl {
    pub(crate) tls: bool,
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
    /// From `/`, with the query.
    pub(crate) path: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

/// How far away a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distance {
    Loopback,
    Private,
    Public,
    /// Link-local, metadata, multicast, unspecified and reserved addresses: never.
    Forbidden,
}

/// What is wrong with an address, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadAddress {
    pub(crate) what: &'static str,
    pub(crate) hint: &'static str,
}

const FORMS: &str =
    "like `https://app.example/jobs`, `http://127.0.0.1:8080/jobs`, `unix:/run/app.sock:/jobs`";

fn bad(what: &'static str) -> BadAddress {
    BadAddress { what, hint: FORMS }
}

impl WebUrl {
    /// Scheme, host and port; what shares its health.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Address(address) => address.to_string(),
        };
        match self.port {
            Some(port) if port != if self.tls { 443 } else { 80 } => format!("{scheme}://{host}:{port}"),
            _ => format!("{scheme}://{host}"),
        }
    }

    /// The whole URL.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.origin(), self.path)
    }

    pub(crate) fn distance(&self) -> Distance {
        match &self.host {
            Host::Address(address) => distance(*address),
            Host::Name(name) => distance_of_name(name),
        }
    }
}

/// Reads an address.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Address, BadAddress> {
    if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(if c.is_ascii() {
            bad("must not contain blanks or control characters")
        } else {
            BadAddress {
                what: "must be ASCII",
                hint: "write other characters percent-encoded, host names in punycode",
            }
        });
    }
    if let Some(rest) = text.strip_prefix("unix:") {
        return unix(rest.strip_prefix("//").unwrap_or(rest));
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("is no URL"))?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(bad("has a scheme that is none of `http`, `https`, `unix`")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(BadAddress {
            what: "must not have a user or password",
            hint: "write `headers: {Authorization: \"…\"}`",
        });
    }
    if authority.contains(['{', '}']) {
        return Err(BadAddress {
            what: "has a placeholder in its host",
            hint: "they are allowed in path and query only",
        });
    }
    let (host, port) = host_and_port(authority)?;
    Ok(Address::Web(WebUrl { tls, host, port, path: checked_path(path)? }))
}

fn unix(rest: &str) -> Result<Address, BadAddress> {
    let (socket, path) = rest.split_once(':').unwrap_or((rest, ""));
    if !socket.starts_with('/') || socket.len() < 2 {
        return Err(bad("needs the absolute path of the socket behind `unix:`"));
    }
    if socket.len() > 107 {
        return Err(BadAddress { what: "has a path too long for a socket", hint: "at most 107 characters" });
    }
    if !path.is_empty() && !path.starts_with('/') {
        return Err(bad("needs a path from `/` behind the socket and its colon"));
    }
    Ok(Address::Unix { socket: PathBuf::from(socket), path: checked_path(path)? })
}

fn checked_path(path: &str) -> Result<String, BadAddress> {
    if path.contains('#') {
        return Err(BadAddress {
            what: "has a fragment, which is never sent",
            hint: "remove what begins with `#`",
        });
    }
    let mut rest = path;
    while let Some(at) = rest.find(['{', '}']) {
        let from = &rest[at..];
        let placeholder = ["{queue}", "{name}"].into_iter().find(|known| from.starts_with(known));
        rest = match placeholder {
            Some(known) => &from[known.len()..],
            None => {
                return Err(BadAddress {
                    what: "has a placeholder that is not known",
                    hint: "there are `{queue}` and `{name}`; braces of another meaning are written `%7B` and `%7D`",
                });
            }
        };
    }
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

fn host_and_port(authority: &str) -> Result<(Host, Option<u16>), BadAddress> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, behind) = rest.split_once(']').ok_or_else(|| bad("has a `[` without `]`"))?;
        let address: Ipv6Addr =
            address.parse().map_err(|_| bad("has no IPv6 address between `[` and `]`"))?;
        (Host::Address(IpAddr::V6(address)), behind)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        (host_name(host)?, port)
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => {
            Some(digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad("has no valid port"))?)
        }
        None if port.is_empty() => None,
        None => return Err(bad("has no valid port")),
    };
    Ok((host, port))
}

fn host_name(text: &str) -> Result<Host, BadAddress> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(IpAddr::V4(address)));
    }
    let name = text.to_ascii_lowercase();
    let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    // URL libraries read `127.1`, `0x7f000001` and `2130706433` as addresses, which would pass every check here.
    if last.starts_with(|c: char| c.is_ascii_digit())
        && last.chars().all(|c| c.is_ascii_hexdigit() || c == 'x')
    {
        return Err(bad("has a number for a host that is no IPv4 address of four parts"));
    }
    let valid = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
    };
    if name.len() > 253 || !name.trim_end_matches('.').split('.').all(valid) {
        return Err(bad("has no valid host"));
    }
    Ok(Host::Name(name))
}

fn distance_of_name(name: &str) -> Distance {
    let name = name.trim_end_matches('.');
    if name == "localhost" || name.ends_with(".localhost") {
        return Distance::Loopback;
    }
    if name == "metadata.google.internal" || name == "metadata" {
        return Distance::Forbidden;
    }
    let private_suffix =
        [".local", ".internal", ".lan", ".home.arpa"].iter().any(|suffix| name.ends_with(suffix));
    if !name.contains('.') || private_suffix { Distance::Private } else { Distance::Public }
}

/// How far away an address is; IPv4 inside IPv6 counts as IPv4.
pub(crate) fn distance(address: IpAddr) -> Distance {
    match address {
        IpAddr::V4(address) => distance_v4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => distance_v4(address),
            None => distance_v6(address),
        },
    }
}

fn distance_v4(address: Ipv4Addr) -> Distance {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => Distance::Loopback,
        (0 | 224..=255, ..) | (169, 254, _) | (192, 0, 0 | 2) | (198, 51, 100) | (203, 0, 113) => {
            Distance::Forbidden
        }
        (198, 18 | 19, _) => Distance::Forbidden,
        _ if address == Ipv4Addr::new(100, 100, 100, 200) => Distance::Forbidden,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Distance::Private,
        _ => Distance::Public,
    }
}

fn distance_v6(address: Ipv6Addr) -> Distance {
    let first = address.segments()[0];
    match first {
        _ if address == Ipv6Addr::LOCALHOST => Distance::Loopback,
        _ if address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) => Distance::Forbidden,
        0xfc00..=0xfdff => Distance::Private,
        0x2001 if address.segments()[1] == 0xdb8 => Distance::Forbidden,
        0x2000..=0x3fff => Distance::Public,
        // Everything else is link-local, multicast, unspecified or reserved.
        _ => Distance::Forbidden,
    }
}

/// A network as `10.0.0.0/8`, or one address.
pub(crate) fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => most,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|bits| *bits <= most)?
        }
        Some(_) => return None,
    };
    Some((address, bits))
}

/// Whether a network has an address.
pub(crate) fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let address = address.to_canonical();
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(bits.min(32));
            u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128 - u32::from(bits.min(128));
            u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn urls_give_their_origin_and_distance() {
        for (text, origin, far) in [
            ("http://127.0.0.1:8080/jobs", "http://127.0.0.1:8080", Distance::Loopback),
            ("http://localhost", "http://localhost", Distance::Loopback),
            ("http://[::1]:80/x", "http://[::1]", Distance::Loopback),
            ("https://App.Example:443/x?q={name}", "https://app.example", Distance::Public),
            ("http://app:3000/{queue}", "http://app:3000", Distance::Private),
            ("http://app.svc.cluster.local/", "http://app.svc.cluster.local", Distance::Private),
            ("http://10.1.2.3", "http://10.1.2.3", Distance::Private),
            ("http://[fd12::1]", "http://[fd12::1]", Distance::Private),
            ("http://8.8.8.8", "http://8.8.8.8", Distance::Public),
            ("http://169.254.169.254/latest", "http://169.254.169.254", Distance::Forbidden),
            ("http://[::ffff:169.254.169.254]/", "http://[::ffff:169.254.169.254]", Distance::Forbidden),
            ("http://[fe80::1]/", "http://[fe80::1]", Distance::Forbidden),
            ("http://0.0.0.0:80/", "http://0.0.0.0", Distance::Forbidden),
            ("http://224.0.0.1/", "http://224.0.0.1", Distance::Forbidden),
            ("http://metadata.google.internal/", "http://metadata.google.internal", Distance::Forbidden),
        ] {
            let Address::Web(url) = parse(text).unwrap() else { panic!("{text}") };
            assert_eq!((url.origin().as_str(), url.distance()), (origin, far), "{text}");
        }
    }

    #[test]
    fn unix_sockets_have_a_path_behind_a_colon() {
        for (text, socket, path) in [
            ("unix:/run/app.sock:/jobs/{queue}", "/run/app.sock", "/jobs/{queue}"),
            ("unix:/run/app.sock", "/run/app.sock", "/"),
            ("unix:///run/app.sock:/a?b=c", "/run/app.sock", "/a?b=c"),
        ] {
            assert_eq!(parse(text), Ok(Address::Unix { socket: socket.into(), path: path.into() }), "{text}");
        }
    }

    #[test]
    fn what_could_mislead_is_refused() {
        for text in [
            "",
            "app/jobs",
            "ftp://h/",
            "http://",
            "http://u:p@h/",
            "http://h:0/",
            "http://h:99999",
            "http://h /x",
            "http://h/é",
            "http://h/#x",
            "http://h/{id}",
            "http://{name}/x",
            "http://h/{name",
            "http://h/}",
            "http://127.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://1.2.3.4.5/",
            "http://-x/",
            "http://a..b/",
            "http://[::1/",
            "http://h/\r\nX: y",
            "unix:run.sock",
            "unix:/",
            "unix:/run/a.sock:jobs",
            "http://256.1.1.1/",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        let ten = network("10.0.0.0/8").unwrap();
        assert!(contains(ten, "10.9.8.7".parse().unwrap()) && !contains(ten, "11.0.0.1".parse().unwrap()));
        assert!(contains(ten, "::ffff:10.1.1.1".parse().unwrap()));
        assert!(contains(network("::/0").unwrap(), "2001:db8::1".parse().unwrap()));
        assert!(contains(network("0.0.0.0/0").unwrap(), "1.2.3.4".parse().unwrap()));
        assert_eq!(network("127.0.0.1"), Some(("127.0.0.1".parse().unwrap(), 32)));
        for text in ["10.0.0.0/33", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/+8", "::/129"] {
            assert_eq!(network(text), None, "{text}");
        }
    }
}
