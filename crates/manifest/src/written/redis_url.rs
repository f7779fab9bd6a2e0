//! The address of a Redis, as URL.
//!
//! `redis://[user:password@]host[:port][/database]`, `rediss://` with TLS, `redis+unix:///path?db=0` (or `unix:`),
//! `redis-sentinel://[user:password@]host:port,host:port/master/database`, and
//! `redis-cluster://[user:password@]host:port,host:port`. Messages never repeat the URL.

use std::path::PathBuf;

use crate::queue::RedisTarget;

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    pub(crate) target: RedisTarget,
    pub(crate) database: Option<i64>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// What is wrong with a URL, and what to write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadUrl {
    pub(crate) what: &'static str,
    pub(crate) hint: Option<&'static str>,
}

const FORMS: &str = "like `redis://host:6379/0`, `rediss://…`, `redis+unix:///run/redis.sock?db=0`, `redis-sentinel://host1,host2/master/0`, `redis-cluster://host1,host2`";

fn bad(what: &'static str) -> BadUrl {
    BadUrl { what, hint: Some(FORMS) }
}

/// Reads a URL.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<RedisUrl, BadUrl> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("must not contain blanks or control characters"));
    }
    if let Some(path) = text.strip_prefix("unix:").filter(|rest| !rest.starts_with("//")) {
        return unix(path, None, None);
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("is no URL of a Redis"))?;
    let (userinfo, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let (username, password) = credentials(userinfo.unwrap_or_default())?;
    match scheme {
        "redis" | "rediss" => tcp(rest, scheme == "rediss", username, password),
        "redis+unix" | "unix" | "redis+socket" => unix(rest, username, password),
        "redis-sentinel" => sentinel(rest, false, username, password),
        "rediss-sentinel" => sentinel(rest, true, username, password),
        "redis-cluster" => cluster(rest, false, username, password),
        "rediss-cluster" => cluster(rest, true, username, password),
        _ => Err(bad("has a scheme that is none of a Redis")),
    }
}

fn tcp(
    rest: &str,
    tls: bool,
    username: Option<String>,
    password: Option<String>,
) -> Result<RedisUrl, BadUrl> {
    if rest.contains(['?', '#']) {
        return Err(bad("has options behind `?` that are not known"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.contains(',') {
        return Err(bad(
            "has several hosts; Sentinels are written `redis-sentinel://…`, a cluster `redis-cluster://…`",
        ));
    }
    let (host, port) = host_and_port(authority, REDIS_PORT)?;
    Ok(RedisUrl {
        target: RedisTarget::Tcp { host, port, tls },
        database: database(path)?,
        username,
        password,
    })
}

fn unix(rest: &str, username: Option<String>, password: Option<String>) -> Result<RedisUrl, BadUrl> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') {
        return Err(bad("needs the absolute path of the socket"));
    }
    let mut database = None;
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let number = option.strip_prefix("db=").or_else(|| option.strip_prefix("database="));
        let number = number.ok_or_else(|| bad("has an option behind `?` that is not `db=NUMBER`"))?;
        database = self::database(number)?;
    }
    let path = PathBuf::from(decoded(path)?);
    Ok(RedisUrl { target: RedisTarget::Unix { path }, database, username, password })
}

fn sentinel(
    rest: &str,
    tls: bool,
    username: Option<String>,
    password: Option<String>,
) -> Result<RedisUrl, BadUrl> {
    let mut parts = rest.split('/');
    let hosts = parts.next().unwrap_or_default();
    let sentinels: Result<Vec<_>, _> =
        hosts.split(',').map(|host| host_and_port(host, SENTINEL_PORT)).collect();
    let master = decoded(parts.next().unwrap_or_default())?;
    if master.is_empty() {
        return Err(bad("needs the name of the master behind the Sentinels"));
    }
    let database = database(parts.next().unwrap_or_default())?;
    if parts.next().is_some() {
        return Err(bad("has too many parts"));
    }
    Ok(RedisUrl {
        target: RedisTarget::Sentinel { sentinels: sentinels?, master, tls },
        database,
        username,
        password,
    })
}

fn cluster(
    rest: &str,
    tls: bool,
    username: Option<String>,
    password: Option<String>,
) -> Result<RedisUrl, BadUrl> {
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let nodes: Result<Vec<_>, _> = hosts.split(',').map(|host| host_and_port(host, REDIS_PORT)).collect();
    if database(path)?.is_some_and(|number| number != 0) {
        return Err(bad("has a database number, and a cluster has only database 0"));
    }
    let target = RedisTarget::Cluster { nodes: nodes?, tls, key: None };
    Ok(RedisUrl { target, database: None, username, password })
}

fn credentials(userinfo: &str) -> Result<(Option<String>, Option<String>), BadUrl> {
    // Redis' own tools take a single word before the `@` for the password; a user alone has no meaning.
    let (user, password) = userinfo.split_once(':').unwrap_or(("", userinfo));
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok((some(decoded(user)?), some(decoded(password)?)))
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16), BadUrl> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, behind) = rest.split_once(']').ok_or_else(|| bad("has a `[` without `]`"))?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| bad("has no IPv6 address between `[` and `]`"))?;
        (address, behind)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        text.split_at(end)
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or_else(|| bad("has no valid port"))?
        }
        None if port.is_empty() => default,
        None => return Err(bad("has no valid port")),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
    if host.is_empty() || !host.chars().all(valid) {
        return Err(bad("has no valid host"));
    }
    Ok((host.to_owned(), port))
}

fn database(text: &str) -> Result<Option<i64>, BadUrl> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| (0..=65_535).contains(number));
    number.map(Some).ok_or_else(|| bad("has no database number at its end"))
}

/// `%XX` as the character it stands for.
fn decoded(text: &str) -> Result<String, BadUrl> {
    let wrong = || bad("has a `%` that is not followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    if text.contains('\0') { Err(wrong()) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> RedisTarget {
        RedisTarget::Tcp { host: host.into(), port, tls }
    }

    #[test]
    fn every_form_is_read() {
        let unix = || RedisTarget::Unix { path: "/run/redis.sock".into() };
        for (text, target, database) in [
            ("redis://db", tcp("db", 6379, false), None),
            ("redis://127.0.0.1:7000/3", tcp("127.0.0.1", 7000, false), Some(3)),
            ("rediss://[::1]:6380/0", tcp("::1", 6380, true), Some(0)),
            ("redis+unix:///run/redis.sock?db=2", unix(), Some(2)),
            ("unix:///run/redis.sock", unix(), None),
            ("unix:/run/redis.sock?db=1", unix(), Some(1)),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.target, url.database), (target, database), "{text}");
        }
        let url = parse("redis-sentinel://a:1,b/mymaster/4").unwrap();
        let sentinels = vec![(String::from("a"), 1), (String::from("b"), SENTINEL_PORT)];
        assert_eq!(url.target, RedisTarget::Sentinel { sentinels, master: "mymaster".into(), tls: false });
        assert_eq!(url.database, Some(4));
        for (text, tls) in [("redis-cluster://a:1,b", false), ("rediss-cluster://a:1,b/0", true)] {
            let nodes = vec![(String::from("a"), 1), (String::from("b"), 6379)];
            assert_eq!(parse(text).unwrap().target, RedisTarget::Cluster { nodes, tls, key: None }, "{text}");
        }
    }

    #[test]
    fn credentials_may_have_any_character() {
        for (text, user, password) in [
            ("redis://app:pw@h", Some("app"), Some("pw")),
            ("redis://:p%40w%2F@h", None, Some("p@w/")),
            ("redis://:p/w@d@h/1", None, Some("p/w@d")),
            ("redis://only@h", None, Some("only")),
            ("redis-sentinel://u:p@a,b/m", Some("u"), Some("p")),
            ("redis+unix://:pw@/run/r.sock", None, Some("pw")),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.username.as_deref(), url.password.as_deref()), (user, password), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost",
            "redis://",
            "redis://h:0",
            "redis://h:x",
            "redis://h:70000",
            "redis://h/x",
            "redis://h/-1",
            "redis://h?x=1",
            "redis://a,b/0",
            "redis://h h",
            "unix://run/r.sock",
            "unix:run",
            "redis+unix:///r?x=1",
            "redis-sentinel://a,b",
            "redis-sentinel://a,/m",
            "redis-sentinel://a/m/0/x",
            "redis://[::1",
            "redis://[x]",
            "redis://:%zz@h",
            "redis://:%00@h",
            "http://h",
            "redis-cluster://",
            "redis-cluster://h,",
            "redis-cluster://h/1",
            "redis-cluster://h/0/1",
            "redis-cluster://h?x=1",
            "memcached://h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
