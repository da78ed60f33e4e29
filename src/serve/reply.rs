//! Answers that both listeners give, and reading bodies within bounds.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use tokio::time::error::Elapsed;

/// Header fields that an answer may get, so that room is made once.
const FIELDS: usize = 8;

/// The only kind of body that answers have.
pub(super) type Reply = Response<Full<Bytes>>;

/// An answer that no cache keeps and no browser guesses the type of.
pub(super) fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().reserve(FIELDS);
    set(&mut reply, CONTENT_TYPE, content_type);
    set(&mut reply, CACHE_CONTROL, "no-store");
    set(&mut reply, X_CONTENT_TYPE_OPTIONS, "nosniff");
    reply
}

/// An answer that has no body.
pub(super) fn nothing() -> Reply {
    let mut reply = reply(StatusCode::NO_CONTENT, "", "");
    reply.headers_mut().remove(CONTENT_TYPE);
    reply
}

/// Sets a header field to a fixed value.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &'static str) {
    reply.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// Adds the `Allow` that 405 needs (RFC 9110 section 15.5.6).
pub(super) fn allowing(mut reply: Reply, methods: &'static str) -> Reply {
    set(&mut reply, ALLOW, methods);
    reply
}

/// Adds a `Retry-After` that spreads those who come back.
pub(super) fn retry_later(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_seconds()));
    reply
}

/// Between 5 and 20 seconds.
pub(super) fn retry_after_seconds() -> u32 {
    let mut random = [0];
    // Without random numbers everybody comes back at once, which is no reason to fail.
    let _ = getrandom::fill(&mut random);
    5 + u32::from(random[0] % 16)
}

/// The future's output, if it comes in time. Most come at once, and cost no timer.
pub(super) async fn within<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let at_once = poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    });
    match at_once.await {
        Some(output) => Ok(output),
        None => tokio::time::timeout(time, future).await,
    }
}

/// Why a body could not be read whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    TooLarge,
    TooSlow,
    /// The client went away, or broke the framing.
    Broken,
}

/// Reads a body of at most `limit` octets within `time`.
pub(super) async fn read_body(
    request: Request<Incoming>,
    limit: usize,
    time: Duration,
) -> Result<Bytes, BodyError> {
    let body = request.into_body();
    // An announced length is believed, so that a body too large is not even begun.
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    match within(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}
