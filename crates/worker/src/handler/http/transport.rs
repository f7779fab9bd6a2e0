//! Deliveries that got no answer: what went wrong, as far as the HTTP client tells, and what it means for the job.
//!
//! A connection that was never made cannot have run the job. Where the client cannot tell whether the request was written,
//! it may have been, and the attempt counts.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use qfleet_model::outcome::{Outcome, Reason, Scope, When};

use super::address::Refused;
use crate::handler::{Ended, Health};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Every address of the receiver is refused by the address policy.
    Policy(String),
    /// TLS could not be agreed on, or the certificate is no good.
    Tls(String),
    /// No connection: name, refusal, route, time.
    Unreachable(String),
    /// A connection that broke before the request was written.
    NotWritten(String),
    /// A connection that broke before the answer began; `local` is our end of it, where known.
    NoAnswer { local: Option<SocketAddr>, text: String },
    /// An answer that makes no sense or does not end.
    BadAnswer(String),
    /// The request cannot be made at all.
    Unusable(String),
}

impl Failure {
    /// Sorts what the client reports of a request.
    pub(super) fn of(error: &reqwest::Error, https: bool) -> Self {
        let text = describe(error);
        if let Some(refused) = chain(error).find_map(|cause| cause.downcast_ref::<Refused>()) {
            return Self::Policy(refused.to_string());
        }
        if error.is_connect() || error.is_dns() {
            let tls = https && !error.is_dns() && chain(error).any(is_tls);
            return if tls { Self::Tls(text) } else { Self::Unreachable(text) };
        }
        if error.is_builder() {
            return Self::Unusable(text);
        }
        if https && chain(error).any(is_certificate_alert) {
            return Self::Tls(text);
        }
        if chain(error).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(was_not_processed) {
            return Self::NotWritten(text);
        }
        let hyper = || chain(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
        if hyper().any(|cause| cause.is_parse() || cause.is_parse_status() || cause.is_parse_too_large()) {
            return Self::BadAnswer(text);
        }
        // The client hands a request back that it could not begin to write; and only writing breaks a pipe. On HTTP/2 that
        // may have been somebody else's write.
        let h2 = chain(error).any(<dyn Error>::is::<h2::Error>);
        if hyper().any(hyper::Error::is_canceled) || (!h2 && chain(error).any(is_broken_pipe)) {
            return Self::NotWritten(text);
        }
        let connection = chain(error).find_map(|cause| cause.downcast_ref::<legacy::Error>());
        let local = connection.and_then(legacy::Error::connect_info).and_then(|connected| {
            let mut extras = hyper::http::Extensions::new();
            connected.get_extras(&mut extras);
            extras.get::<HttpInfo>().map(HttpInfo::local_addr)
        });
        Self::NoAnswer { local, text }
    }

    /// The end of the delivery. `pause` is how long to leave an endpoint alone that cannot be reached.
    pub(super) fn ended(self, pause: Duration) -> Ended {
        let snooze = |after: Duration, class: &str, text: String, health| Ended {
            outcome: Outcome::Snooze {
                when: When::After(after),
                scope: Scope::Endpoint,
                reason: Reason::classed(class, text),
            },
            health,
            status: Some(String::from("unreachable")),
            notes: Vec::new(),
        };
        let minute = Duration::from_secs(60);
        match self {
            Self::Policy(text) => snooze(minute, "policy", text, Health::Trip { alert: "policy" }),
            Self::Tls(text) => snooze(minute, "tls", text, Health::Trip { alert: "tls" }),
            Self::Unusable(text) => snooze(minute, "request", text, Health::Trip { alert: "request" }),
            Self::Unreachable(text) | Self::NotWritten(text) => {
                snooze(pause, "unreachable", text, Health::Hold(None))
            }
            Self::NoAnswer { text, .. } => counted("unknown_result", text),
            Self::BadAnswer(text) => counted("bad_response", text),
        }
    }
}

/// The job may have run: as after a crash, for all that the next delivery can know.
fn counted(class: &str, text: String) -> Ended {
    Ended {
        outcome: Outcome::Retry {
            when: None,
            at_least: Duration::ZERO,
            reason: Reason::classed(class, text),
        },
        health: Health::Failure,
        status: Some(String::from("crash")),
        notes: Vec::new(),
    }
}

/// What went wrong in one line, without the URL, which may hold secrets.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in chain(error).skip(1) {
        let text = cause.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
    }
    if texts.is_empty() { String::from("the request could not be made") } else { texts.join(": ") }
}

fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    if cause.is::<rustls::Error>() {
        return true;
    }
    cause.downcast_ref::<io::Error>().is_some_and(|error| {
        // The other end said nothing, or nothing that is TLS.
        matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
            || error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>)
    })
}

fn is_broken_pipe(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// In TLS 1.3 a receiver says only after the handshake that it does not like our certificate.
fn is_certificate_alert(cause: &(dyn Error + 'static)) -> bool {
    use rustls::AlertDescription as Alert;
    let Some(rustls::Error::AlertReceived(alert)) = cause.downcast_ref() else { return false };
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    )
}

/// The receiver says itself that it did nothing with the stream.
fn was_not_processed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let leaving = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || leaving)
}

/// An error and its causes. An I/O error made of another error skips that one as its cause, so it is looked into.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| -> &'a (dyn Error + 'static) { inner }),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        String::from("why")
    }

    #[test]
    fn what_never_reached_the_receiver_costs_no_attempt() {
        let pause = Duration::from_secs(5);
        for (failure, after, health) in [
            (Failure::Unreachable(text()), 5, Health::Hold(None)),
            (Failure::NotWritten(text()), 5, Health::Hold(None)),
            (Failure::Tls(text()), 60, Health::Trip { alert: "tls" }),
            (Failure::Policy(text()), 60, Health::Trip { alert: "policy" }),
            (Failure::Unusable(text()), 60, Health::Trip { alert: "request" }),
        ] {
            let ended = failure.clone().ended(pause);
            let Outcome::Snooze { when, scope, .. } = ended.outcome else { panic!("{failure:?} counts") };
            assert_eq!(
                (when, scope),
                (When::After(Duration::from_secs(after)), Scope::Endpoint),
                "{failure:?}"
            );
            assert_eq!((ended.health, ended.status.as_deref()), (health, Some("unreachable")), "{failure:?}");
        }
    }

    #[test]
    fn what_may_have_run_counts() {
        for (failure, class) in [
            (Failure::NoAnswer { local: None, text: text() }, "unknown_result"),
            (Failure::BadAnswer(text()), "bad_response"),
        ] {
            let ended = failure.ended(Duration::ZERO);
            let Outcome::Retry { reason, when: None, .. } = ended.outcome else {
                panic!("{class} is no retry")
            };
            assert_eq!((reason.class.as_deref(), &ended.health), (Some(class), &Health::Failure));
        }
    }
}
