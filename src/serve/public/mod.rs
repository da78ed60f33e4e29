//! The public listener: links, and what a probe or a robot may ask. Nothing else is on it.

mod form;
mod page;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, REFERRER_POLICY};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::click;
use super::now;
use super::recent::LinkKey;
use super::reply::{BodyError, Reply, allowing, read_body, reply, retry_later, set};
use super::shared::{Health, Shared};
use crate::ledger::{Kept, Outcome, Reason, Recipient, Standing, StoreError};
use crate::link::{OpenError, Opened, Scope};
use form::Asked;
pub(crate) use form::is_the_pages_form;
use page::{Format, Page, Stop};

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
    let format = Format::accepted(request.headers());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut reply = match route {
        Route::Link(_) if !is_read && request.method() != Method::POST => {
            allowing(page::not_allowed(format), LINK_METHODS)
        }
        Route::Link(token) => link(&shared, peer, token, format, request).await,
        Route::Health if is_read => health(&shared).await,
        Route::Robots if is_read => plain(StatusCode::OK, "User-agent: *\nDisallow: /\n"),
        Route::Health | Route::Robots => allowing(page::not_allowed(format), "GET, HEAD"),
        Route::Elsewhere => page::not_found(format),
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
    shared: &Shared,
    peer: SocketAddr,
    token: &str,
    format: Format,
    request: Request<Incoming>,
) -> Reply {
    let client = shared.client(peer, request.headers());
    // RFC 3986 section 6.2.2.2: an encoded unreserved character is the same character. What is
    // not UTF-8 opens nothing.
    let token = &*match token.contains('%') {
        true => percent_decode_str(token).decode_utf8_lossy(),
        false => token.into(),
    };
    // Before the link is opened, so that a change of the keys in between counts.
    let key = shared.link_key(token);
    if request.method() != Method::POST {
        return match open(shared, token, client) {
            Ok(opened) => show(shared, opened, format).await,
            Err(_) => page::not_found(format),
        };
    }
    // Whether the link opens or not, so that nobody can tell unknown keys from wrong tags.
    let asked = match read_asked(shared, format, request).await {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    // A link that was used lately has opened before.
    let may_repeat = format == Format::Plain && asked == Asked::OneClick && shared.may_repeat(key);
    if may_repeat && shared.is_repeat(key).await {
        return page::done();
    }
    match open(shared, token, client) {
        Ok(opened) => opt_out(shared, (token, key), opened, asked, format).await,
        Err(error) => {
            if let OpenError::UnknownKey(id) = error {
                shared.unclaimed().keep(id, asked.source(), token);
            }
            page::not_found(format)
        }
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

/// The page for a person; changes nothing.
async fn show(shared: &Shared, opened: Opened, format: Format) -> Reply {
    let recipient = Recipient::of_link(opened.link.recipient());
    let list = opened.link.list().clone();
    let asked = recipient.clone();
    let read = shared.read(move |store| Ok((store.moment(now())?, store.standings(&[asked])?)));
    match read.await {
        Ok((at, standings)) => {
            let standing = standings.into_iter().next().unwrap_or_default();
            let waiting = shared.waiting().covering(&recipient, &list);
            let stands = standing.unsubscribed_from(&list, at).or(waiting.as_ref());
            let stop = stands.map(|stands| Stop { since: stands.since, scope: &stands.scope });
            page::show(format, &Page { recipient: &recipient, list: &list, stop, done: false })
        }
        Err(error) => unavailable(&error, format),
    }
}

async fn read_asked(
    shared: &Shared,
    format: Format,
    request: Request<Incoming>,
) -> Result<Asked, Reply> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    match read_body(request, MAX_BODY, shared.settings.public.limits.body).await {
        Ok(body) => Ok(Asked::read(content_type.as_ref(), body).await),
        Err(BodyError::TooLarge) => Err(page::too_large(format)),
        Err(BodyError::TooSlow) => Err(page::incomplete(format, StatusCode::REQUEST_TIMEOUT)),
        Err(BodyError::Broken) => Err(page::incomplete(format, StatusCode::BAD_REQUEST)),
    }
}

/// Opts the recipient out of the link's list. The token is the authority: what the body holds
/// only says whether it was the page's own form.
async fn opt_out(
    shared: &Shared,
    (token, link_key): (&str, LinkKey),
    opened: Opened,
    asked: Asked,
    format: Format,
) -> Reply {
    let command = click::opt_out(&opened, asked.source());
    let recipient_key = shared.recipient_key(&command.recipient);
    let limit = shared.settings.public.limits.record;
    let kept = match shared.record_click(command, token, limit).await {
        Ok(kept) => kept,
        Err(error) => return unavailable(&error, format),
    };
    if let Kept::Recorded(outcome) = &kept {
        let (list, key, changed) = (opened.link.list(), opened.key, outcome.changed);
        tracing::debug!(event = outcome.event, changed, %list, %key, "opted out");
        if asked == Asked::OneClick {
            shared.remember(link_key, recipient_key, outcome);
        }
    }
    match format {
        Format::Html => show_done(&opened, &kept),
        Format::Plain => page::done(),
    }
}

/// The page for a person who has just left.
fn show_done(opened: &Opened, kept: &Kept) -> Reply {
    let recipient = Recipient::of_link(opened.link.recipient());
    let list = opened.link.list();
    let scope = Scope::from(list.clone());
    let since = match kept {
        Kept::Recorded(outcome) => unsubscribed_since(&outcome.standing, &scope, outcome),
        Kept::Spooled(since) => *since,
    };
    let stop = Some(Stop { since, scope: &scope });
    page::show(Format::Html, &Page { recipient: &recipient, list, stop, done: true })
}

/// Since when the opt-out that was just asked for stands: from now, or from an earlier time.
fn unsubscribed_since(
    standing: &Standing,
    scope: &Scope,
    outcome: &Outcome,
) -> crate::ledger::Time {
    let own = standing
        .active(outcome.at)
        .find(|stands| stands.scope == *scope && stands.reason == Reason::Unsubscribe);
    own.map_or(outcome.at, |stands| stands.since)
}

fn unavailable(error: &StoreError, format: Format) -> Reply {
    tracing::debug!(%error, "answered 503");
    retry_later(page::unavailable(format))
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
