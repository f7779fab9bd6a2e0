//! From an HTTP request to a call of the corridor, and from its answer to a response.
//!
//! The first part of the path chooses the door: `/api/v1/` is JSON, `/RPC2`, `/logtail` and `/mainlogtail` are those of
//! supervisord's clients. Further doors with other wire formats are one more branch of [`answer`] each.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, SERVER};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use qfleet_model::command::{Command, Refusal};
use qfleet_queue::driver::JobState;
use qfleet_supervisor::{Changes, Chunk, LogReader, Stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::Peer;
use crate::dispatch::{Dispatch, Failure};
use crate::protocol::{BASE, Flush, LOG_POSITION, Pid, Push, QueueNames, Which};
use crate::socket::{file_tail, supervisord};

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Largest body of a request that carries JSON.
const MOST_JSON: usize = 1024 * 1024;
/// Largest payload of a job.
const MOST_PAYLOAD: usize = 64 * 1024 * 1024;
/// Most jobs of one listing.
const MOST_LISTED: u64 = 1_000;
/// Bytes of output shown when the asker does not say.
const TAIL: usize = 1600;

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Answers one request, whatever it is.
pub(crate) async fn answer(
    dispatch: &Dispatch,
    peer: &Peer,
    body_time: Duration,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if let Some(resource) = path.strip_prefix(BASE) {
        let asked = Asked { dispatch, peer, body_time, request };
        return signed(asked.answer(resource).await.unwrap_or_else(|failure| failed(&failure)));
    }
    // Prefixes, as supervisord has them.
    signed(if path.starts_with("/RPC2") {
        supervisord::call(dispatch, peer, body_time, request).await
    } else if let Some(of) = path.strip_prefix("/logtail/") {
        supervisord::tail(dispatch, &request, &decoded(of))
    } else if path.starts_with("/mainlogtail") {
        supervisord::tail_own(dispatch, &request)
    } else {
        failed(&Failure::Unknown(format!("the path `{path}`")))
    })
}

/// The response with our name on it.
pub(crate) fn signed(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(SERVER, HeaderValue::from_static(concat!("qfleet/", env!("CARGO_PKG_VERSION"))));
    response
}

/// One request of the JSON door.
struct Asked<'a> {
    dispatch: &'a Dispatch,
    peer: &'a Peer,
    body_time: Duration,
    request: Request<Incoming>,
}

impl Asked<'_> {
    /// Chooses by resource, then by method.
    async fn answer(self, resource: &str) -> Result<Response<Body>, Failure> {
        let (dispatch, peer) = (self.dispatch, self.peer);
        let (first, rest) = resource.split_once('/').unwrap_or((resource, ""));
        let get = matches!(*self.request.method(), Method::GET | Method::HEAD);
        let post = self.request.method() == Method::POST;
        match (first, rest) {
            ("status", "") if get => Ok(json(&dispatch.status())),
            ("pid", "") if get => Ok(json(&Pid { pid: dispatch.status().pid })),
            ("version", "") if get => Ok(json(&dispatch.version())),
            ("queues", "") if get => Ok(json(&dispatch.queues(&self.queries("name")).await?)),
            ("jobs", queue) if get && !queue.is_empty() => {
                let state = self.query("state").map(|state| job_state(&state)).transpose()?;
                let (from, limit) = self.window()?;
                Ok(json(&dispatch.jobs(&decoded(queue), state, from, limit).await?))
            }
            ("failed", "") if get => {
                let (from, limit) = self.window()?;
                Ok(json(&dispatch.failed(self.query("queue").as_deref(), from, limit).await?))
            }
            ("logs", of) if get && !of.is_empty() => self.logs(of).await,
            ("command", "") if post => {
                let command: Command = self.body().await?;
                Ok(json(&dispatch.command(peer, command).await?))
            }
            ("pause" | "resume", "") if post => {
                let paused = first == "pause";
                let names: QueueNames = self.body().await?;
                Ok(json(&dispatch.set_paused(peer, &names.queues, paused).await?))
            }
            ("push", "") if post => self.push().await,
            ("failed", "retry") if post => {
                let which: Which = self.body().await?;
                Ok(json(&dispatch.failed_retry(peer, &which).await?))
            }
            ("failed", "forget") if post => {
                let which: Which = self.body().await?;
                Ok(json(&dispatch.failed_forget(peer, &which).await?))
            }
            ("failed", "flush") if post => {
                let flush: Flush = self.body().await?;
                Ok(json(&dispatch.failed_flush(peer, &flush).await?))
            }
            ("failed", "retry" | "forget" | "flush") => Ok(wrong_method("POST")),
            ("failed", id) if get => Ok(json(&dispatch.failed_show(&decoded(id)).await?)),
            ("status" | "pid" | "version" | "queues" | "jobs" | "failed" | "logs", _) if !get => {
                Ok(wrong_method("GET"))
            }
            ("command" | "pause" | "resume" | "push", "") => Ok(wrong_method("POST")),
            _ => Err(Failure::Unknown(format!("`{BASE}{resource}`"))),
        }
    }

    /// A job by name and data as JSON, or a whole payload byte for byte.
    async fn push(self) -> Result<Response<Body>, Failure> {
        let (dispatch, peer) = (self.dispatch, self.peer);
        let raw =
            self.request.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/octet-stream");
        if !raw {
            let push: Push = self.body().await?;
            return Ok(json(&dispatch.push(peer, &push).await?));
        }
        let queue =
            self.query("queue").ok_or_else(|| Failure::BadRequest("`queue` is missing".to_owned()))?;
        let delay_ms = self.number("delay-ms")?.unwrap_or(0);
        let payload = self.bytes(MOST_PAYLOAD).await?;
        Ok(json(&dispatch.push_raw(peer, &queue, payload, delay_ms).await?))
    }

    /// `logs/PROCESS/stdout`: the end of the output, and what follows.
    async fn logs(&self, of: &str) -> Result<Response<Body>, Failure> {
        let (name, channel) = of.rsplit_once('/').unwrap_or((of, "stdout"));
        let channel = match channel {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            other => return Err(Failure::BadRequest(format!("`{other}` is neither `stdout` nor `stderr`"))),
        };
        let name = decoded(name);
        let most = if self.query("lines").is_some() { usize::MAX } else { TAIL };
        let bytes = self.number("bytes")?.map_or(most, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let mut reader = self.dispatch.logs(&name, channel)?;
        let (end, at) = match self.number("from")? {
            Some(from) => {
                let chunk = reader.since(from);
                (with_gap(chunk.clone()), chunk.at)
            }
            None => {
                let mut chunk = reader.tail(bytes);
                if let Some(lines) = self.number("lines")? {
                    if before_last_lines(&chunk.bytes, lines) == 0
                        && let kept = chunk.bytes.clone()
                        && let Some(further_back) =
                            file_tail::last_lines(self.dispatch, &reader, lines, kept).await
                    {
                        // Whoever comes again goes on behind what memory has, whatever is in the file.
                        let end = chunk.at + length(&chunk.bytes);
                        chunk = Chunk {
                            at: end.saturating_sub(length(&further_back)),
                            missed: 0,
                            bytes: further_back,
                        };
                    }
                    let cut = before_last_lines(&chunk.bytes, lines);
                    chunk.bytes.drain(..cut);
                    chunk.at += u64::try_from(cut).unwrap_or(0);
                }
                (Bytes::from(chunk.bytes), chunk.at)
            }
        };
        let body = if self.query("follow").is_some_and(|follow| follow == "1") {
            follow(end, reader, self.dispatch.changes())
        } else {
            Full::new(end).map_err(|never| match never {}).boxed_unsync()
        };
        let mut response = respond(StatusCode::OK, "text/plain; charset=utf-8", body);
        response.headers_mut().insert(LOG_POSITION, HeaderValue::from(at));
        Ok(response)
    }

    /// The whole body, within limits of size and time.
    async fn bytes(self, most: usize) -> Result<Bytes, Failure> {
        whole_body(self.request.into_body(), most, self.body_time).await
    }

    /// The body as JSON.
    async fn body<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let bytes = self.bytes(MOST_JSON).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let version = env!("CARGO_PKG_VERSION");
            Failure::BadRequest(format!(
                "the body is not what this daemon (version {version}) expects: {error}"
            ))
        })
    }

    /// Every value of this name in the query.
    fn queries(&self, name: &str) -> Vec<String> {
        let query = self.request.uri().query().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(value)).collect()
    }

    /// The first value of this name in the query.
    fn query(&self, name: &str) -> Option<String> {
        self.queries(name).into_iter().next()
    }

    /// The first value of this name as a number.
    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.query(name) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Failure::BadRequest(format!("`{name}` must be a number, not `{text}`")))
    }

    /// `from` and `limit` of a listing.
    fn window(&self) -> Result<(u64, u64), Failure> {
        Ok((self.number("from")?.unwrap_or(0), self.number("limit")?.unwrap_or(50).min(MOST_LISTED)))
    }
}

/// A whole body of at most `most` bytes, which has this long to arrive.
pub(crate) async fn whole_body(body: Incoming, most: usize, time: Duration) -> Result<Bytes, Failure> {
    let too_large = || Err(Failure::TooLarge(format!("the body is larger than {most} bytes")));
    // What is announced to be too large is not waited for.
    if body.size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return too_large();
    }
    match tokio::time::timeout(time, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => too_large(),
        Ok(Err(error)) => Err(Failure::BadRequest(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Failure::BadRequest("the body did not arrive in time".to_owned())),
    }
}

/// A response that begins with `end` and goes on with whatever the process writes, over its restarts, until its slot has
/// gone (scaled away, removed by a reload) or the daemon ends.
pub(crate) fn follow(end: Bytes, reader: LogReader, changes: Changes) -> Body {
    let first = stream::once(async move { Ok(Frame::data(end)) });
    let rest = stream::unfold((reader, changes), |(mut reader, mut changes)| async move {
        let ended = async { while changes.next().await {} };
        let chunk = tokio::select! {
            biased;
            chunk = reader.next() => chunk?,
            () = ended => return None,
        };
        Some((Ok(Frame::data(with_gap(chunk))), (reader, changes)))
    });
    StreamBody::new(stream::StreamExt::chain(first, rest)).boxed_unsync()
}

/// Where the last `lines` lines begin; a last one without a line end counts.
fn before_last_lines(text: &[u8], lines: u64) -> usize {
    let Some(lines) = usize::try_from(lines).ok().filter(|lines| *lines > 0) else { return text.len() };
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

/// The bytes, behind a line that says how many a slow reader missed.
fn with_gap(chunk: Chunk) -> Bytes {
    if chunk.missed == 0 {
        return Bytes::from(chunk.bytes);
    }
    let mut bytes = format!("\n==> {} bytes were not kept <==\n", chunk.missed).into_bytes();
    bytes.extend(chunk.bytes);
    Bytes::from(bytes)
}

/// Text of a path or query, its percent signs undone.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Reads `waiting`, `delayed` or `reserved`.
fn job_state(text: &str) -> Result<JobState, Failure> {
    match text {
        "waiting" => Ok(JobState::Waiting),
        "delayed" => Ok(JobState::Delayed),
        "reserved" => Ok(JobState::Reserved),
        other => Err(Failure::BadRequest(format!("`{other}` is none of `waiting`, `delayed`, `reserved`"))),
    }
}

/// A good answer.
fn json(value: &impl Serialize) -> Response<Body> {
    with_json(StatusCode::OK, value)
}

/// A failure with the status that fits it.
fn failed(failure: &Failure) -> Response<Body> {
    let status = match failure {
        Failure::Refused(Refusal::NoMatch { .. }) | Failure::Unknown(_) => StatusCode::NOT_FOUND,
        Failure::Refused(Refusal::RolloutUnderWay { .. } | Refusal::NotUpgraded { .. }) => {
            StatusCode::CONFLICT
        }
        Failure::Refused(Refusal::ShuttingDown | Refusal::Replaced) => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Refused(Refusal::BadManifest { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
        Failure::Refused(
            Refusal::AlreadyActive { .. }
            | Refusal::StillRunning { .. }
            | Refusal::NotRunning { .. }
            | Refusal::NoInput { .. },
        ) => StatusCode::CONFLICT,
        Failure::Refused(Refusal::BadRequest { .. }) | Failure::BadRequest(_) => StatusCode::BAD_REQUEST,
        Failure::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::Desk(error) if error.is_unknown() => StatusCode::NOT_FOUND,
        Failure::Desk(error) if error.is_bad_request() => StatusCode::BAD_REQUEST,
        Failure::Desk(_) => StatusCode::BAD_GATEWAY,
    };
    with_json(status, &failure.body())
}

/// The resource is there, and not for this method.
fn wrong_method(allowed: &'static str) -> Response<Body> {
    let failure = Failure::BadRequest(format!("this is asked with {allowed}"));
    let mut response = with_json(StatusCode::METHOD_NOT_ALLOWED, &failure.body());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Any status with JSON and a line end, which terminals like.
fn with_json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let (status, mut text) = match serde_json::to_vec(value) {
        Ok(text) => (status, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    text.push(b'\n');
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    respond(status, "application/json", body)
}

/// A response with its content type.
pub(crate) fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::before_last_lines;

    #[test]
    fn lines_are_counted_from_the_end() {
        for (text, lines, rest) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\n\n", 1, "\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(&text[before_last_lines(text.as_bytes(), lines)..], rest, "{lines} of {text:?}");
        }
    }
}
