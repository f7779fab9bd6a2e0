//! The asking side of the control socket: one connection a request, answers of any length, and errors that say what to do.
//!
//! There is no limit on how long a command may take, because a rolling restart takes as long as the longest job; the end
//! of the daemon ends the wait. What is only looked at is there soon, or the daemon hangs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::protocol::{BASE, ErrorBody, LOG_POSITION};

/// Longest wait for what the daemon has at hand, or asks a Redis for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer, or not the one wished for.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    NoDaemon(PathBuf),
    /// The socket's mode and group do not let us in.
    Denied(PathBuf),
    /// Somebody listens there who does not speak our protocol.
    Stranger(PathBuf),
    /// Somebody listens there who does not answer.
    Silent(PathBuf),
    /// The connection broke before the answer was there; whether the request was carried out is not known.
    Broken(PathBuf, String),
    /// The daemon's answer cannot be read: it is of another version.
    OtherVersion {
        /// As it names itself, `qfleet/0.2.0`.
        server: String,
        /// What was not understood.
        what: String,
    },
    /// The daemon said no.
    Said(ErrorBody),
}

impl fmt::Display for ClientError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon(path) => write!(
                out,
                "no daemon at `{}`: start it with `qfleet run` or name its socket with --socket",
                path.display()
            ),
            Self::Denied(path) => write!(
                out,
                "permission denied at `{}`: run this as the daemon's user or as a member of the socket's group",
                path.display()
            ),
            Self::Stranger(path) => write!(
                out,
                "what listens at `{}` is not a qfleet daemon: name the right socket with --socket",
                path.display()
            ),
            Self::Silent(path) => write!(
                out,
                "the daemon at `{}` does not answer: it hangs, or its process is stopped",
                path.display()
            ),
            Self::Broken(path, why) => write!(
                out,
                "the connection to `{}` broke before the answer came ({why}): look at `qfleet status`",
                path.display()
            ),
            Self::OtherVersion { server, what } => write!(
                out,
                "the answer of the daemon (`{server}`) cannot be read by version {}: restart the older of the two ({what})",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Said(body) => {
                out.write_str(&body.error)?;
                match &body.hint {
                    Some(hint) => write!(out, ": {hint}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for ClientError {}

/// Asks the daemon at one socket.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
    patience: Duration,
}

impl Client {
    /// A client of the daemon at this socket; nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), patience: PATIENCE }
    }

    /// The same, with another limit of how long looking at something may take.
    #[must_use]
    pub fn patient_for(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Where the daemon is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a resource, e.g. `status`.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, resource: &str) -> Result<T, ClientError> {
        let answer = async { self.read(self.send(Method::GET, resource, None).await?).await };
        timeout(self.patience, answer).await.unwrap_or_else(|_| Err(ClientError::Silent(self.path.clone())))
    }

    /// Sends a value to a resource, e.g. `command`, and waits until it is carried out.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        resource: &str,
        value: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(value).map_err(|error| self.broken(&error))?;
        self.read(self.send(Method::POST, resource, Some(("application/json", body.into()))).await?).await
    }

    /// Sends bytes as they are to a resource.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        resource: &str,
        bytes: Bytes,
    ) -> Result<T, ClientError> {
        self.read(self.send(Method::POST, resource, Some(("application/octet-stream", bytes))).await?).await
    }

    /// Reads a resource piece by piece as it comes.
    ///
    /// # Errors
    /// Any [`ClientError`].
    pub async fn stream(&self, resource: &str) -> Result<Pieces, ClientError> {
        let response = self.send(Method::GET, resource, None).await?;
        if response.status().is_success() {
            let at = response.headers().get(LOG_POSITION).and_then(|at| at.to_str().ok()?.parse().ok());
            return Ok(Pieces { path: self.path.clone(), at, body: response.into_body() });
        }
        match self.read::<serde::de::IgnoredAny>(response).await {
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::Stranger(self.path.clone())),
        }
    }

    /// One request on a connection of its own.
    async fn send(
        &self,
        method: Method,
        resource: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| self.not_connected(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // It ends by itself with the answer's last byte; its errors also reach whoever reads the answer.
        tokio::spawn(connection);
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{BASE}{resource}").parse().map_err(|error| self.broken(&error))?;
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        if let Some((kind, bytes)) = body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *request.body_mut() = Full::new(bytes);
        }
        sender.send_request(request).await.map_err(|error| {
            if error.is_parse() { ClientError::Stranger(self.path.clone()) } else { self.broken(&error) }
        })
    }

    /// The answer as a value, or the daemon's error.
    async fn read<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, ClientError> {
        let status = response.status();
        let server = response.headers().get(hyper::header::SERVER).and_then(|server| server.to_str().ok());
        let Some(server) = server.filter(|server| server.starts_with("qfleet/")).map(str::to_owned) else {
            return Err(ClientError::Stranger(self.path.clone()));
        };
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        let other = |error: serde_json::Error| ClientError::OtherVersion { server, what: error.to_string() };
        if status.is_success() {
            serde_json::from_slice(&body).map_err(other)
        } else {
            Err(ClientError::Said(serde_json::from_slice(&body).map_err(other)?))
        }
    }

    fn broken(&self, why: &impl fmt::Display) -> ClientError {
        ClientError::Broken(self.path.clone(), why.to_string())
    }

    fn not_connected(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(self.path.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.path.clone()),
            _ => self.broken(error),
        }
    }
}

/// An answer that comes piece by piece.
#[derive(Debug)]
pub struct Pieces {
    path: PathBuf,
    at: Option<u64>,
    body: Incoming,
}

impl Pieces {
    /// Where in the output of a process they go on; `None` when the daemon does not say, or there is none.
    #[must_use]
    pub fn at(&self) -> Option<u64> {
        self.at
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError::Broken`] when the daemon went away in the middle.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            return match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => {
                        let length = u64::try_from(data.len()).unwrap_or(0);
                        self.at = self.at.map(|at| at + length);
                        Some(Ok(data))
                    }
                    Err(_trailers) => continue,
                },
                Err(error) => Some(Err(ClientError::Broken(self.path.clone(), error.to_string()))),
            };
        }
    }
}

/// Text as one part of a path or as a value of a query.
#[must_use]
pub fn part(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
