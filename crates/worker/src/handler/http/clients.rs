//! The HTTP clients of a worker process. Handlers whose connections may be mixed share one, and with it its pool.
//!
//! A client is made at its first delivery: an idle worker has read no certificates and holds no pool.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qfleet_manifest::handler::{HttpHandler, HttpTarget};
use qfleet_manifest::secret::Secret;
use reqwest::tls::Identity;
use reqwest::{Certificate, Client, ClientBuilder, Proxy, redirect};

use super::address::{Checked, Names, Policy};

/// Many receivers close an idle connection after five seconds.
const IDLE: Duration = Duration::from_secs(4);
const LARGEST_HEADERS: u32 = 64 * 1024;
/// Ends of connections are forgotten after this long once there are many.
const REMEMBERED: Duration = Duration::from_secs(600);
const MANY: usize = 1024;

/// Every client of a worker process, by what its connections have in common. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<Mutex<Vec<Arc<Shared>>>>);

impl Clients {
    /// The client for these settings, to be made when it is first needed.
    ///
    /// # Errors
    /// A certificate, key or proxy that cannot be used.
    pub(super) fn shared(
        &self,
        settings: &HttpHandler,
        https: bool,
        names: &Arc<dyn Names>,
    ) -> Result<Arc<Shared>, String> {
        let key = Key::new(settings, https);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = known.iter().find(|shared| shared.key == key) {
            return Ok(Arc::clone(shared));
        }
        key.check()?;
        let shared = Arc::new(Shared {
            key,
            names: Arc::clone(names),
            client: Mutex::default(),
            seen: Mutex::default(),
        });
        known.push(Arc::clone(&shared));
        Ok(shared)
    }
}

/// What connections of one pool have in common, besides the host.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    https: bool,
    socket: Option<PathBuf>,
    connect_timeout: Duration,
    h2c: bool,
    policy: Policy,
    ca_file: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    proxy: Option<Secret>,
}

impl Key {
    fn new(settings: &HttpHandler, https: bool) -> Self {
        let socket = match &settings.target {
            HttpTarget::Url(_) => None,
            HttpTarget::Unix { socket, .. } => Some(socket.clone()),
        };
        let policy = Policy {
            only: settings.allow_networks.clone(),
            private_only: !https && !settings.allow_plain_http,
        };
        Self {
            https,
            socket,
            connect_timeout: settings.connect_timeout,
            h2c: settings.h2c && !https,
            policy,
            ca_file: settings.ca_file.clone(),
            client_certificate: settings.client_certificate.clone(),
            proxy: settings.proxy.clone(),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.authorities()?;
        self.identity()?;
        self.proxy().map(drop)
    }

    fn needs_tls(&self) -> bool {
        self.https || self.proxy.as_ref().is_some_and(|proxy| proxy.reveal().starts_with("https:"))
    }

    fn authorities(&self) -> Result<Option<Vec<Certificate>>, String> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let wrong = |why: String| format!("`ca-file` `{}` {why}", path.display());
        let certificates = Certificate::from_pem_bundle(&read(path)?)
            .map_err(|_| wrong(String::from("is no PEM file of certificates")))?;
        if certificates.is_empty() {
            return Err(wrong(String::from("has no certificate in it")));
        }
        Ok(Some(certificates))
    }

    fn identity(&self) -> Result<Option<Identity>, String> {
        let Some((certificate, key)) = &self.client_certificate else { return Ok(None) };
        let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
        Identity::from_pem(&pem).map(Some).map_err(|_| {
            format!(
                "`{}` and `{}` are no certificate and key in PEM form",
                certificate.display(),
                key.display()
            )
        })
    }

    fn proxy(&self) -> Result<Option<Proxy>, String> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        // The error is not shown: it may hold the password.
        Proxy::all(proxy.reveal()).map(Some).map_err(|_| String::from("`proxy` is no URL that can be used"))
    }

    fn build(&self, names: Arc<dyn Names>) -> Result<Client, String> {
        let resolver = Checked { names, policy: self.policy.clone() };
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE)
            .http2_max_header_list_size(LARGEST_HEADERS)
            .dns_resolver(resolver);
        if let Some(proxy) = self.proxy()? {
            builder = builder.proxy(proxy);
        }
        if self.h2c {
            builder = builder.http2_prior_knowledge();
        }
        if let Some(socket) = &self.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        let builder = if self.needs_tls() { self.with_tls(builder)? } else { without_tls(builder)? };
        builder.build().map_err(|error| {
            format!("the HTTP client cannot be made: {}", super::transport::describe(&error))
        })
    }

    fn with_tls(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, String> {
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        builder = builder.tls_backend_rustls();
        if let Some(authorities) = self.authorities()? {
            builder = builder.tls_certs_only(authorities);
        }
        if let Some(identity) = self.identity()? {
            builder = builder.identity(identity);
        }
        Ok(builder)
    }
}

/// The client wants a TLS configuration even if it never uses one; this one trusts nobody and costs nothing.
fn without_tls(builder: ClientBuilder) -> Result<ClientBuilder, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(builder.tls_backend_preconfigured(config))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}

/// A client that several handlers use.
pub(super) struct Shared {
    key: Key,
    names: Arc<dyn Names>,
    client: Mutex<Option<Client>>,
    /// Our ends of the connections that brought an answer, and when; `None` for connections without addresses.
    seen: Mutex<HashMap<Option<SocketAddr>, Instant>>,
}

impl Shared {
    /// The client, made now if there is none. Reading certificates happens apart from the loop.
    ///
    /// # Errors
    /// See [`Clients::shared`].
    pub(super) async fn client(&self) -> Result<Client, String> {
        if let Some(client) = &*self.current() {
            return Ok(client.clone());
        }
        let (key, names) = (self.key.clone(), Arc::clone(&self.names));
        let made = if key.needs_tls() {
            tokio::task::spawn_blocking(move || key.build(names))
                .await
                .map_err(|error| error.to_string())??
        } else {
            key.build(names)?
        };
        // Another delivery may have been faster; then its pool is used.
        Ok(self.current().get_or_insert(made).clone())
    }

    /// Gives the connections up; the next delivery makes new ones.
    pub(super) fn renew(&self) {
        *self.current() = None;
    }

    /// Checks a host that is an address already, which nobody looks up.
    pub(super) fn check(&self, host: &str, address: IpAddr) -> Result<(), super::address::Refused> {
        self.key.policy.check(host, address)
    }

    /// Notes that the connection with this end of ours brought an answer.
    pub(super) fn answered(&self, local: Option<SocketAddr>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if seen.len() >= MANY {
            seen.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        }
        seen.insert(local, now);
    }

    /// Whether a request begun at `started` went over a connection that had brought an answer before.
    pub(super) fn was_reused(&self, local: Option<SocketAddr>, started: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&local)
            .is_some_and(|at| started.saturating_duration_since(*at) <= IDLE + Duration::from_secs(1))
    }

    fn current(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shared").field("key", &self.key).finish_non_exhaustive()
    }
}
