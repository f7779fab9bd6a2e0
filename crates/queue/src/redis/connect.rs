//! From settings to an open connection: TCP, TLS, a unix socket, whatever Sentinel calls the master just now, or the node
//! of a cluster that owns the keys in question.

use std::time::Duration;

use qfleet_manifest::queue::{RedisSettings, RedisTarget};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, Value,
};
use tokio::sync::mpsc::UnboundedSender;

use super::{cluster, ear, fault};
use crate::error::QueueError;

/// A server that has not let us in for this long is taken for gone.
pub(super) const CONNECTS_WITHIN: Duration = Duration::from_secs(5);
/// One that only says where another is gets less, since there are others to ask.
pub(super) const GUIDE_WITHIN: Duration = Duration::from_secs(2);
/// The system looks after a silent connection this often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A connection, and which server it goes to when sentinels were asked.
pub(crate) type Connected = (MultiplexedConnection, Option<(String, u16)>);

/// Where a Redis is and how to get in.
#[derive(Clone)]
pub(crate) struct Address {
    settings: RedisSettings,
    shown: String,
    ca: Option<Vec<u8>>,
    /// Who gets what the server pushes.
    hearer: Option<UnboundedSender<PushInfo>>,
}

impl Address {
    /// Reads the certificate file, if there is one; touches no network.
    ///
    /// # Errors
    /// [`QueueError::Refused`] when that file cannot be read.
    pub(crate) fn new(settings: &RedisSettings) -> Result<Self, QueueError> {
        let ca = match &settings.ca_file {
            Some(path) => Some(std::fs::read(path).map_err(|error| {
                QueueError::Refused(format!("cannot read the certificates in `{}`: {error}", path.display()))
            })?),
            None => None,
        };
        Ok(Self { shown: settings.shown(), settings: settings.clone(), ca, hearer: None })
    }

    /// The same for connections whose messages, and whose end, somebody is to hear of.
    pub(super) fn hearing(&self, hearer: UnboundedSender<PushInfo>) -> Self {
        Self { hearer: Some(hearer), ..self.clone() }
    }

    /// The address for people.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether it is a node of a cluster.
    pub(crate) fn on_cluster(&self) -> bool {
        matches!(self.settings.target, RedisTarget::Cluster { .. })
    }

    /// Where the sentinels see the master now; `None` when there are no sentinels, or none answers.
    pub(crate) async fn master_now(&self) -> Option<(String, u16)> {
        match &self.settings.target {
            RedisTarget::Sentinel { sentinels, master, tls } => {
                self.master(sentinels, master, *tls).await.ok()
            }
            // A node of a cluster that lost its keys to another one says so at the next call.
            RedisTarget::Tcp { .. } | RedisTarget::Unix { .. } | RedisTarget::Cluster { .. } => None,
        }
    }

    /// A new connection, logged in and on its database, and where it goes if that may change.
    pub(crate) async fn connect(&self, answers_within: Duration) -> Result<Connected, QueueError> {
        self.open(answers_within).await.map_err(|error| match self.sort(&error) {
            refused @ QueueError::Refused(_) if ear::cannot_push(&error) => refused,
            // Whatever else stands between us and a connection may pass: a name that does not resolve, a certificate.
            QueueError::Refused(text) | QueueError::Unreachable(text) => QueueError::Unreachable(text),
        })
    }

    /// Turns an error of the client into ours.
    pub(crate) fn sort(&self, error: &RedisError) -> QueueError {
        fault::sort(&self.shown, error)
    }

    async fn open(&self, answers_within: Duration) -> RedisResult<Connected> {
        let addr = match &self.settings.target {
            RedisTarget::Tcp { host, port, tls } => reach(host, *port, *tls),
            RedisTarget::Unix { path } => ConnectionAddr::Unix(path.clone()),
            RedisTarget::Sentinel { sentinels, master, tls } => {
                let at = self.master(sentinels, master, *tls).await?;
                let addr = reach(&at.0, at.1, *tls);
                let mut connection = self.log_in(addr, true, CONNECTS_WITHIN, answers_within).await?;
                refuse_replica(&mut connection).await?;
                return Ok((connection, Some(at)));
            }
            RedisTarget::Cluster { nodes, tls, key } => {
                let key = key.as_deref().unwrap_or_default();
                return Ok((cluster::owner(self, nodes, *tls, key, answers_within).await?, None));
            }
        };
        Ok((self.log_in(addr, true, CONNECTS_WITHIN, answers_within).await?, None))
    }

    /// What the first sentinel that knows says.
    async fn master(&self, sentinels: &[(String, u16)], name: &str, tls: bool) -> RedisResult<(String, u16)> {
        let mut last = RedisError::from((ErrorKind::EmptySentinelList, "no sentinel is named"));
        for (host, port) in sentinels {
            match self.ask_sentinel(host, *port, name, tls).await {
                Ok(found) => return Ok(found),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_sentinel(&self, host: &str, port: u16, name: &str, tls: bool) -> RedisResult<(String, u16)> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let mut answer: RedisResult<Option<(String, u16)>> =
            Err(RedisError::from((ErrorKind::EmptySentinelList, "not asked")));
        // Sentinels rarely ask for a password, even where the servers do.
        for with_password in [false, true] {
            let opened = self.log_in(reach(host, port, tls), with_password, GUIDE_WITHIN, GUIDE_WITHIN).await;
            answer = match opened {
                Ok(mut connection) => question.query_async(&mut connection).await,
                Err(error) => Err(error),
            };
            if self.settings.password.is_none()
                || !answer.as_ref().is_err_and(|error| error.code() == Some("NOAUTH"))
            {
                break;
            }
        }
        answer?.ok_or_else(|| {
            RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the sentinel does not know the master",
                format!("`{name}`"),
            ))
        })
    }

    /// A connection to this server.
    pub(super) async fn log_in(
        &self,
        addr: ConnectionAddr,
        with_password: bool,
        within: Duration,
        answers_within: Duration,
    ) -> RedisResult<MultiplexedConnection> {
        let secure = matches!(addr, ConnectionAddr::TcpTls { .. });
        let mut login = RedisConnectionInfo::default().set_lib_name("qfleet", env!("CARGO_PKG_VERSION"));
        if with_password {
            login = login.set_db(self.settings.database);
            if let Some(user) = &self.settings.username {
                login = login.set_username(user);
            }
            if let Some(password) = &self.settings.password {
                login = login.set_password(password.reveal());
            }
        }
        if self.hearer.is_some() {
            login = login.set_protocol(ProtocolVersion::RESP3);
        }
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3));
        let info = addr.into_connection_info()?.set_redis_settings(login).set_tcp_settings(tcp);
        let client = if secure {
            // Fails only when somebody else has chosen a provider already, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: self.ca.clone() })?
        } else {
            Client::open(info)?
        };
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(Some(answers_within));
        if let Some(hearer) = &self.hearer {
            config = config.set_push_sender(hearer.clone());
        }
        client.get_multiplexed_async_connection_with_config(&config).await
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Address({})", self.shown)
    }
}

/// A server by host and port.
pub(super) fn reach(host: &str, port: u16, tls: bool) -> ConnectionAddr {
    let host = host.to_owned();
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Sentinels may name a server that has not been told yet that it is no longer the master.
async fn refuse_replica(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    match redis::cmd("ROLE").query_async::<Value>(connection).await {
        Ok(Value::Array(role)) if role.first() == Some(&Value::BulkString(b"slave".to_vec())) => {
            Err(RedisError::from((
                ErrorKind::MasterNameNotFoundBySentinel,
                "the server the sentinels call master is a replica",
            )))
        }
        // A user without the right to ask finds out at the first write.
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("NOPERM") => Ok(()),
        Err(error) => Err(error),
    }
}
