//! The public listener: links, and what a probe or a robot may ask. Nothing else is on it.

mod acts;
mod form;
mod language;
mod page;
mod states;
mod undo;
mod visit;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, REFERRER_POLICY};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::reply::{BodyError, Reply, read_body, reply, retry_later, set};
use super::shared::{Health, Shared};
use crate::ledger::Source;
use crate::link::{OpenError, Opened};
use form::Asked;
pub(crate) use form::is_the_pages_form;
use page::Format;
pub use page::Pages;
use visit::Visit;

/// A provider's body has 26 octets and the page's form a few more.
const MAX_BODY: usize = 16 * 1024;

const LINK_METHODS: &str = "GET, HEAD, POST";

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'p> {
    Link(&'p str),
    Health,
    Robots,
    Elsewhere,
}

impl<'p> Route<'p> {
    /// `base` is the path of the base URL, which a proxy may or may not have taken off.
    fn of(path: &'p str, base: &str) -> Self {
        let path = path.strip_prefix(base).filter(|rest| rest.starts_with('/')).unwrap_or(path);
        match path {
            "/healthz" => Self::Health,
            "/robots.txt" => Self::Robots,
            _ => match path.strip_prefix("/u/") {
                Some(token) if !token.contains('/') => Self::Link(token),
                _ => Self::Elsewhere,
            },
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Link(_) => "link",
            Self::Health => "healthz",
            Self::Robots => "robots",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// Answers one request.
pub(super) async fn answer(
    shared: Arc<Shared>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Reply {
    let began = Instant::now();
    let uri = request.uri().clone();
    let route = Route::of(uri.path(), shared.settings.base_url.path());
    let visit = Visit::of(&shared, &uri, request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut reply = match route {
        Route::Link(_) if !is_read && request.method() != Method::POST => {
            visit.not_allowed(LINK_METHODS)
        }
        Route::Link(token) => link(visit, peer, token, request).await,
        Route::Health if is_read => health(&shared).await,
        Route::Robots if is_read => plain(StatusCode::OK, "User-agent: *\nDisallow: /\n"),
        Route::Health | Route::Robots => visit.not_allowed("GET, HEAD"),
        Route::Elsewhere => visit.not_found(),
    };
    set(&mut reply, REFERRER_POLICY, "no-referrer");
    set(&mut reply, HeaderName::from_static("x-robots-tag"), "noindex");
    shared.metrics.request("public", route.name(), reply.status().as_u16(), began.elapsed());
    reply
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    reply(status, "text/plain; charset=utf-8", text)
}

async fn health(shared: &Shared) -> Reply {
    match shared.health().await {
        Health::Good => plain(StatusCode::OK, "ok\n"),
        Health::Degraded => plain(StatusCode::OK, "degraded\n"),
        Health::Failing => {
            retry_later(plain(StatusCode::SERVICE_UNAVAILABLE, "opt-outs cannot be stored\n"))
        }
    }
}

/// A link: whatever is wrong with its token, the answer is the same.
async fn link(
    visit: Visit<'_>,
    peer: SocketAddr,
    token: &str,
    request: Request<Incoming>,
) -> Reply {
    let shared = visit.shared;
    let client = shared.client(peer, request.headers());
    // RFC 3986 section 6.2.2.2: an encoded unreserved character is the same character. What is
    // not UTF-8 opens nothing.
    let token = match token.contains('%') {
        true => percent_decode_str(token).decode_utf8_lossy(),
        false => Cow::Borrowed(token),
    };
    // Before the link is opened, so that a change of the keys in between counts.
    let key = shared.link_key(&token);
    if request.method() != Method::POST {
        return match open(shared, &token, client) {
            Ok(opened) => Box::pin(visit.offer(opened)).await,
            Err(_) => visit.not_found(),
        };
    }
    // Whether the link opens or not, so that nobody can tell unknown keys from wrong tags.
    let asked = match read_asked(visit, request).await {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    // A link that was used lately has opened before.
    let is_plain = visit.format == Format::Plain && asked == Asked::Leave(Source::OneClick);
    if is_plain && shared.may_repeat(key) && shared.is_repeat(key).await {
        return page::done();
    }
    match (open(shared, &token, client), asked) {
        (Ok(opened), Asked::Leave(source)) => visit.opt_out((&token, key), opened, source).await,
        (Ok(opened), asked) => Box::pin(visit.act(opened, asked)).await,
        (Err(OpenError::UnknownKey(id)), Asked::Leave(source)) => {
            shared.unclaimed().keep(id, source, &token);
            visit.not_found()
        }
        // Only opt-outs from the link's list are kept.
        (Err(_), _) => visit.not_found(),
    }
}

fn open(shared: &Shared, token: &str, client: IpAddr) -> Result<Opened, OpenError> {
    let opened = shared.keyring().open(token);
    opened.inspect_err(|error| log_refusal(shared, error, client))
}

fn log_refusal(shared: &Shared, error: &OpenError, client: IpAddr) {
    let why = match error {
        OpenError::Encoding => "encoding",
        OpenError::Version(_) => "version",
        OpenError::UnknownKey(_) => "unknown_key",
        OpenError::Tag => "tag",
        OpenError::NotPermitted(_) => "not_permitted",
        _ => "fields",
    };
    shared.metrics.link_refused(why);
    if let Some(unsaid) = shared.may_log_refusal() {
        tracing::warn!(%client, why, unsaid, "a link did not open: {error}");
    }
}

async fn read_asked(visit: Visit<'_>, request: Request<Incoming>) -> Result<Asked, Reply> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    match read_body(request, MAX_BODY, visit.shared.settings.public.limits.body).await {
        Ok(body) => Ok(Asked::read(content_type.as_ref(), body).await),
        Err(BodyError::TooLarge) => Err(visit.message(StatusCode::PAYLOAD_TOO_LARGE, "too_large")),
        Err(BodyError::TooSlow) => Err(visit.message(StatusCode::REQUEST_TIMEOUT, "incomplete")),
        Err(BodyError::Broken) => Err(visit.message(StatusCode::BAD_REQUEST, "incomplete")),
    }
}

#[cfg(test)]
mod tests {
    use super::Route;

    #[test]
    fn finds_the_token_with_and_without_the_bases_path() {
        for (path, base, route) in [
            ("/u/abc", "", Route::Link("abc")),
            ("/u/", "", Route::Link("")),
            ("/mail/u/abc", "/mail", Route::Link("abc")),
            ("/u/abc", "/mail", Route::Link("abc")),
            ("/mailu/abc", "/mail", Route::Elsewhere),
            ("/u/a/b", "", Route::Elsewhere),
            ("/u", "", Route::Elsewhere),
            ("/v1/check", "", Route::Elsewhere),
            ("/healthz", "", Route::Health),
            ("/robots.txt", "/mail", Route::Robots),
        ] {
            assert_eq!(Route::of(path, base), route, "{path}");
        }
    }
}
