//! Posts jobs to a URL. Redirects and repeated sends are decided here, never by the client; so are time limits.
//!
//! | Question | Answered in |
//! | --- | --- |
//! | where to | [`target`], [`address`] |
//! | over which connections | [`clients`] |
//! | what an answer means | [`answer`], [`status`] |
//! | what no answer means | [`transport`] |

mod address;
mod answer;
mod clients;
mod status;
mod target;
#[cfg(test)]
pub(super) mod tests;
mod transport;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use hyper_util::client::legacy::connect::HttpInfo;
use qfleet_manifest::handler::HttpHandler;
use qfleet_model::outcome::{Outcome, Reason};
use qfleet_os::clock;
use reqwest::header::{self, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};

pub use address::{Names, SystemNames};
pub use clients::Clients;

use self::answer::{Answer, Rules};
use self::clients::Shared;
use self::target::Target;
use self::transport::Failure;
use super::facts::{self, Trace};
use super::signature::Signer;
use super::{Cancel, Delivery, Ended, Handler, HandlerContext, Health, body, cancelled};

const ACCEPT: &str = "application/json, application/problem+json;q=0.9, text/plain;q=0.5, */*;q=0.1";
const USER_AGENT: &str = concat!("qfleet/", env!("CARGO_PKG_VERSION"));
/// After a timeout, a cut or a lost lease the receiver may still be working.
const STILL_WORKING: Duration = Duration::from_secs(5);
/// How long a receiver may be working on a delivery without a deadline.
const NO_DEADLINE: Duration = Duration::from_secs(300);
const MOST_REDIRECTS: u32 = 2;
/// About as many headers as deliveries have.
const KNOWN_HEADERS: usize = 28;
const LARGEST_HEADERS: usize = 64 * 1024;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A handler that posts.
#[derive(Debug)]
pub(super) struct Http {
    settings: HttpHandler,
    target: Target,
    signer: Signer,
    /// The headers that all deliveries have alike.
    fixed: HeaderMap,
    shared: Arc<Shared>,
    max_delay: Duration,
    unreachable: Mutex<Unreachable>,
}

/// Everything of a request but where it goes.
struct Request {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Http {
    /// Reads everything that can be wrong before the first job.
    ///
    /// # Errors
    /// What is wrong, without secrets.
    pub(super) fn open(settings: &HttpHandler, context: &HandlerContext) -> Result<Self, String> {
        let target = Target::new(&settings.target)?;
        let shared = context.clients.shared(settings, target.is_https(), &context.names)?;
        let mut fixed = HeaderMap::with_capacity(settings.headers.len() + KNOWN_HEADERS);
        for (name, value) in &settings.headers {
            let wrong = || format!("the header `{name}` or its value cannot be sent");
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            fixed.insert(header, value);
        }
        // Over those of the operator.
        for (name, value) in [
            (CONTENT_TYPE, body::content_type(settings.body)),
            (header::ACCEPT, ACCEPT),
            (header::ACCEPT_ENCODING, "identity"),
            (header::USER_AGENT, USER_AGENT),
        ] {
            fixed.insert(name, HeaderValue::from_static(value));
        }
        Ok(Self {
            target,
            signer: Signer::new(&settings.signing_keys)?,
            fixed,
            shared,
            max_delay: context.max_delay,
            unreachable: Mutex::default(),
            settings: settings.clone(),
        })
    }

    fn request(&self, delivery: &Delivery) -> Result<Request, Reason> {
        let settings = &self.settings;
        let body = body::render(settings.body, delivery);
        if body.len() as u64 > settings.max_request {
            let text = format!(
                "the body would have {} bytes, `max-request` is {}",
                body.len(),
                settings.max_request
            );
            return Err(Reason::classed("too_large", text));
        }
        let at = delivery.started_at;
        let mut random = [0; 24];
        fastrand::fill(&mut random);
        let trace = Trace::of(delivery, random);
        let mut facts = facts::headers(delivery, settings.body, &trace);
        let mut known = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        known("webhook-signature", self.signer.sign(&delivery.identity, at, &body));
        if settings.also_github {
            known("x-hub-signature-256", self.signer.sign_for_github(at, &body));
        }
        let mut headers = self.fixed.clone();
        headers.reserve(facts.len());
        for (name, value) in facts {
            let value = HeaderValue::try_from(value)
                .map_err(|_| Reason::classed("bad_header", format!("the header `{name}` cannot be sent")))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let method = if settings.put { Method::PUT } else { Method::POST };
        Ok(Request { method, headers, body: Bytes::from(body) })
    }

    /// Sends until there is an answer to go by, or a failure.
    async fn deliver(&self, mut url: Url, request: &Request) -> Ended {
        let (mut redirects, mut resent) = (0, false);
        loop {
            let started = Instant::now();
            match self.exchange(&url, request).await {
                Ok(answer) => {
                    self.reached();
                    match self.redirected(&url, &answer).filter(|_| redirects < MOST_REDIRECTS) {
                        Some(next) => url = next,
                        None => return self.answered(answer),
                    }
                    redirects += 1;
                }
                Err(failure) if !resent && self.may_resend(&failure, started) => resent = true,
                Err(failure @ (Failure::Unreachable(_) | Failure::NotWritten(_))) => {
                    return failure.ended(self.not_reached());
                }
                Err(failure) => return failure.ended(Duration::ZERO),
            }
        }
    }

    async fn exchange(&self, url: &Url, request: &Request) -> Result<Answer, Failure> {
        if let Some((host, address)) = literal(url) {
            self.shared.check(host, address.ip()).map_err(|refused| Failure::Policy(refused.to_string()))?;
        }
        let https = url.scheme() == "https";
        let client = self.shared.client().await.map_err(Failure::Unusable)?;
        let message = client.request(request.method.clone(), url.clone()).body(request.body.clone()).build();
        let sent = match message {
            Ok(mut message) => {
                match message.headers().is_empty() {
                    true => request.headers.clone_into(message.headers_mut()),
                    // The URL has a user and a password.
                    false => message.headers_mut().extend(request.headers.clone()),
                }
                client.execute(message).await
            }
            Err(error) => Err(error),
        };
        let response = sent.map_err(|error| Failure::of(&error, https))?;
        self.shared.answered(response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr));
        read(response, self.settings.max_response).await
    }

    /// A connection that broke with nothing written may be tried again, one that broke later only where the receiver can
    /// take the same delivery twice.
    fn may_resend(&self, failure: &Failure, started: Instant) -> bool {
        match failure {
            Failure::NotWritten(_) => true,
            Failure::NoAnswer { local, .. } => {
                self.settings.idempotent && self.shared.was_reused(*local, started)
            }
            _ => false,
        }
    }

    fn redirected(&self, from: &Url, answer: &Answer) -> Option<Url> {
        if !self.settings.redirect_same_origin || !matches!(answer.status, 307 | 308) {
            return None;
        }
        let location = answer.headers.get(LOCATION)?.to_str().ok()?;
        from.join(location).ok().filter(|to| to.origin() == from.origin())
    }

    fn answered(&self, answer: Answer) -> Ended {
        if answer.status == 421 {
            self.shared.renew();
        }
        answer.judged(&Rules { settings: &self.settings, max_delay: self.max_delay, now: clock::wall() })
    }

    fn reached(&self) {
        *self.unreachable.lock().unwrap_or_else(PoisonError::into_inner) = Unreachable::default();
    }

    fn not_reached(&self) -> Duration {
        self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).pause(Instant::now())
    }
}

#[async_trait]
impl Handler for Http {
    async fn handle(&self, mut delivery: Delivery) -> Ended {
        let prepared = self.request(&delivery).and_then(|request| {
            let url = self.target.url(&delivery.job).map_err(|text| Reason::classed("bad_name", text))?;
            Ok((url, request))
        });
        let (url, request) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => return without_answer(Outcome::Fail { reason }, None),
        };
        let limit = async {
            match delivery.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        // Dropping the exchange closes its connection, or resets its stream.
        tokio::select! {
            biased;
            ended = self.deliver(url, &request) => ended,
            why = cancelled(&mut delivery.cancel) => stopped(why, &delivery),
            () = limit => {
                let outcome = Outcome::TimedOut { at_least: STILL_WORKING };
                Ended { health: Health::Failure, ..without_answer(outcome, Some("timeout")) }
            }
        }
    }
}

/// Nothing is delivered again before the receiver must have given up.
fn stopped(why: Cancel, delivery: &Delivery) -> Ended {
    let outcome = match why {
        Cancel::Lost => Outcome::Lost,
        Cancel::Stop => Outcome::Interrupted {
            not_before: Some(match delivery.deadline_at {
                Some(deadline) => deadline + STILL_WORKING,
                None => clock::wall() + NO_DEADLINE,
            }),
        },
    };
    without_answer(outcome, None)
}

fn without_answer(outcome: Outcome, status: Option<&str>) -> Ended {
    Ended { outcome, health: Health::Neutral, status: status.map(str::to_owned), notes: Vec::new() }
}

/// Reads an answer up to `longest` bytes of body; the rest is not waited for, and the connection is closed.
async fn read(mut response: Response, longest: u64) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > LARGEST_HEADERS {
        return Err(Failure::BadAnswer(format!("the headers of the answer have {size} bytes")));
    }
    if status == 101 {
        return Err(Failure::BadAnswer(String::from("the receiver wants another protocol")));
    }
    let longest = usize::try_from(longest).unwrap_or(usize::MAX);
    let mut body = Vec::new();
    let mut cut = false;
    while let Some(chunk) =
        response.chunk().await.map_err(|error| Failure::BadAnswer(transport::describe(&error)))?
    {
        let fits = chunk.len().min(longest - body.len());
        body.extend_from_slice(&chunk[..fits]);
        if fits < chunk.len() {
            cut = true;
            break;
        }
    }
    Ok(Answer { status, headers, body, cut })
}

/// The host of a URL that is an address already.
fn literal(url: &Url) -> Option<(&str, SocketAddr)> {
    let host = url.host_str()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address| (host, SocketAddr::new(address, 0)))
}

/// How long to leave alone whom we could not reach: five seconds, doubled by each time that comes after the pause before.
#[derive(Debug, Default)]
struct Unreachable {
    last: Option<(Instant, Duration)>,
}

impl Unreachable {
    fn pause(&mut self, now: Instant) -> Duration {
        let pause = match self.last {
            // Others that failed together with it are no further sign.
            Some((at, pause)) if now.duration_since(at) < pause => return pause,
            Some((_, pause)) => (pause * 2).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        self.last = Some((now, pause));
        pause
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Request").field("method", &self.method).finish_non_exhaustive()
    }
}
