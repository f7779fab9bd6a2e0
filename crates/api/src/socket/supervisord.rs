//! The paths that supervisord's clients ask for: calls under `/RPC2`, and logs that are followed.
//!
//! The client that follows logs ends when its connection is closed and at nothing else, so these answers close it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};
use qfleet_supervisor::{LogReader, Stream};

use crate::access::Peer;
use crate::dispatch::{Dispatch, Failure};
use crate::socket::routes::{Body, follow, respond, whole_body};
use crate::xmlrpc::{codec, locate};

/// Largest call.
const MOST_XML: usize = 1024 * 1024;

/// How much of a log is shown before what follows.
const FIRST: usize = 1024;

/// Answers a call. A fault is an answer like another; only what is no call gets another status.
pub(crate) async fn call(
    dispatch: &Dispatch,
    peer: &Peer,
    body_time: Duration,
    request: Request<Incoming>,
) -> Response<Body> {
    if request.method() != Method::POST {
        return plain(StatusCode::BAD_REQUEST, "calls are sent with POST");
    }
    if !request.headers().contains_key(CONTENT_LENGTH) && !request.headers().contains_key(TRANSFER_ENCODING) {
        return plain(StatusCode::LENGTH_REQUIRED, "the length of the call is missing");
    }
    let bytes = match whole_body(request.into_body(), MOST_XML, body_time).await {
        Ok(bytes) => bytes,
        Err(Failure::TooLarge(what)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, &what),
        Err(failure) => return plain(StatusCode::BAD_REQUEST, &failure.to_string()),
    };
    match codec::read_call(&bytes) {
        Ok(call) => {
            let answer = crate::xmlrpc::answer(dispatch, peer, &call).await;
            let text = Bytes::from(codec::write_answer(&answer));
            respond(
                StatusCode::OK,
                "text/xml",
                Full::new(text).map_err(|never| match never {}).boxed_unsync(),
            )
        }
        Err(malformed) => plain(StatusCode::BAD_REQUEST, &format!("this is no call: {malformed}")),
    }
}

/// Follows the output of the process `of` names, or that of its stream.
pub(crate) fn tail(dispatch: &Dispatch, request: &Request<Incoming>, of: &str) -> Response<Body> {
    let (name, stream) = match of.split_once('/') {
        None | Some((_, "" | "stdout")) => (of.split('/').next().unwrap_or_default(), Stream::Stdout),
        Some((name, "stderr")) => (name, Stream::Stderr),
        Some(_) => return plain(StatusCode::NOT_FOUND, "there is no such log"),
    };
    match locate(dispatch, name, stream) {
        Some(reader) => followed(dispatch, request, reader),
        None => plain(StatusCode::NOT_FOUND, "there is no such process"),
    }
}

/// Follows the daemon's own log.
pub(crate) fn tail_own(dispatch: &Dispatch, request: &Request<Incoming>) -> Response<Body> {
    match dispatch.own_log() {
        Some(reader) => followed(dispatch, request, reader),
        None => plain(StatusCode::NOT_FOUND, "the daemon's log is not kept"),
    }
}

fn followed(dispatch: &Dispatch, request: &Request<Incoming>, mut reader: LogReader) -> Response<Body> {
    if request.method() != Method::GET {
        return plain(StatusCode::BAD_REQUEST, "logs are asked for with GET");
    }
    let first = Bytes::from(reader.tail(FIRST).bytes);
    let body = follow(first, reader, dispatch.changes());
    let mut response = respond(StatusCode::OK, "text/plain;charset=utf-8", body);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// A short answer for people.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {}).boxed_unsync();
    respond(status, "text/plain;charset=utf-8", body)
}
