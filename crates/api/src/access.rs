//! Who may ask.
//!
//! Whoever the mode and group of the socket file let in may do everything. The file is the gate (mode 0700, or 0660 with a
//! group), so there is no second list of users to keep in step with it. Over TCP the [`Gate`] asks for a user and a
//! password with every request. Who it was is written down with every changing request.

use std::fmt;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, ORIGIN};
use qfleet_manifest::settings::Login;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use tokio::net::UnixStream;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on this machine, as the system says.
    Local {
        /// User number.
        uid: u32,
        /// Process number, where the system tells.
        pid: Option<i32>,
    },
    /// Somebody who came in over TCP.
    Remote {
        /// From where.
        from: SocketAddr,
        /// As whom; `None` where nobody is asked.
        user: Option<String>,
    },
}

impl Peer {
    /// Asks the system who connected; `None` when it does not say, and then nothing may be asked.
    #[must_use]
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let credentials = stream.peer_cred().ok()?;
        Some(Self::Local { uid: credentials.uid(), pid: credentials.pid() })
    }

    /// Whether it is somebody who could do with the daemon's process whatever they like anyway.
    #[must_use]
    pub fn is_root_or_ourselves(&self) -> bool {
        match self {
            Self::Local { uid, .. } => *uid == 0 || *uid == qfleet_os::users::own(),
            Self::Remote { .. } => false,
        }
    }

    /// Writes down a changing request before it is carried out.
    pub fn note(&self, action: impl fmt::Display) {
        match self {
            Self::Local { uid, pid } => {
                tracing::info!(uid, pid = pid.unwrap_or_default(), "asked over the control socket: {action}");
            }
            Self::Remote { from, user } => {
                let user = user.as_deref().unwrap_or("anybody");
                tracing::info!(user, %from, "asked over TCP: {action}");
            }
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No user and password, or the wrong ones.
    Unknown,
    /// A web page sends this, not a person: browsers say so, and nobody else does.
    WebPage,
}

/// Asks who comes in over TCP.
#[derive(Debug, Clone)]
pub struct Gate {
    logins: Vec<Login>,
}

impl Gate {
    /// A gate for these users; without any, everybody is let in.
    #[must_use]
    pub fn new(logins: Vec<Login>) -> Self {
        Self { logins }
    }

    /// As whom a request with these headers comes in.
    ///
    /// # Errors
    /// It does not.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Option<String>, Refused> {
        if headers.contains_key(ORIGIN) {
            return Err(Refused::WebPage);
        }
        if self.logins.is_empty() {
            return Ok(None);
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| credentials(value.as_bytes()));
        let (user, password) = given.ok_or(Refused::Unknown)?;
        // Every login is looked at, so that the time it takes does not tell which users there are.
        let mut found = None;
        for login in &self.logins {
            let right =
                same(login.username.as_bytes(), &user) & is_password(login.password.reveal(), &password);
            if right {
                found = Some(login.username.clone());
            }
        }
        found.map(Some).ok_or(Refused::Unknown)
    }
}

/// User and password of a header, split at the first colon.
fn credentials(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, packed) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let both = STANDARD.decode(packed.trim()).ok()?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    Some((both[..colon].to_vec(), both[colon + 1..].to_vec()))
}

/// Whether this is the password, which may be written as `{SHA}` and its SHA-1 in hex.
fn is_password(wanted: &str, given: &[u8]) -> bool {
    match wanted.strip_prefix("{SHA}") {
        Some(hashed) => {
            let bytes = digest(&SHA1_FOR_LEGACY_USE_ONLY, given);
            let hex: String = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            same(hashed.to_ascii_lowercase().as_bytes(), hex.as_bytes())
        }
        None => same(wanted.as_bytes(), given),
    }
}

/// Whether both are the same, in a time that says nothing about where they differ or how long they are.
fn same(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (digest(&SHA256, one), digest(&SHA256, other));
    let differences =
        one.as_ref().iter().zip(other.as_ref()).fold(0, |all, (one, other)| all | (one ^ other));
    differences == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::HeaderValue;
    use qfleet_manifest::secret::Secret;

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())])
    }

    fn basic(both: &str) -> HeaderMap {
        headers(&format!("Basic {}", STANDARD.encode(both)))
    }

    #[test]
    fn only_who_is_known_comes_in() {
        let login = |username: &str, password: &str| Login {
            username: username.to_owned(),
            password: Secret::new(password),
        };
        // The SHA-1 of the one letter `a`.
        let hashed = "{SHA}86F7E437FAA5A7FCE15D1DDCB9EAEAEA377667B8";
        let gate = Gate::new(vec![login("admin", "s3:cret"), login("old", hashed)]);
        for (given, user) in [
            (basic("admin:s3:cret"), Some("admin")),
            (basic("old:a"), Some("old")),
            (headers(&format!("bAsIc  {}", STANDARD.encode("old:a"))), Some("old")),
            (basic("admin:s3"), None),
            (basic("admin:"), None),
            (basic(":"), None),
            (basic("admin"), None),
            (basic("old:s3:cret"), None),
            (basic(&format!("old:{hashed}")), None),
            (headers("Basic !!!"), None),
            (headers("Basic"), None),
            (headers("Bearer abc"), None),
            (HeaderMap::new(), None),
        ] {
            let expected = user.map(|user| Some(user.to_owned())).ok_or(Refused::Unknown);
            assert_eq!(gate.admit(&given), expected, "{given:?}");
        }
        let mut page = basic("admin:s3:cret");
        page.insert(ORIGIN, HeaderValue::from_static("https://elsewhere.example"));
        assert_eq!(gate.admit(&page), Err(Refused::WebPage));
        assert_eq!(Gate::new(Vec::new()).admit(&HeaderMap::new()), Ok(None));
    }
}
