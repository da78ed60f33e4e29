//! The public listener: links, and what a probe or a robot may ask. Nothing else is on it.

mod acts;
mod form;
mod language;
mod page;
mod states;
mod undo;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, REFERRER_POLICY};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::click;
use super::now;
use super::recent::LinkKey;
use super::reply::{BodyError, Reply, allowing, read_body, reply, retry_later, set};
use super::shared::{Health, Shared};
use crate::ledger::{Act, Essential, Kept, Recipient, Standing, StoreError, Suppression, Time};
use crate::link::{OpenError, Opened};
pub(crate) use form::is_the_pages_form;
use form::{Asked, Wrong};
use language::Language;
use page::Format;
pub use page::Pages;
use page::View;
use states::Subject;
use undo::Undoable;

/// A provider's body has 26 octets and the page's form a few more.
const MAX_BODY: usize = 16 * 1024;

/// Parameters of a link's address that are looked at.
const MAX_PARAMETERS: usize = 16;

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

/// How somebody is answered.
#[derive(Clone, Copy)]
struct Visit<'a> {
    shared: &'a Shared,
    format: Format,
    language: &'a Language,
}

impl<'a> Visit<'a> {
    fn of(shared: &'a Shared, uri: &Uri, headers: &HeaderMap) -> Self {
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let chosen = query.take(MAX_PARAMETERS).find(|(name, _)| name == "lang");
        let languages = &shared.settings.pages.languages;
        let language = languages.choose(chosen.as_ref().map(|(_, tag)| &**tag), headers);
        Self { shared, format: Format::accepted(headers), language }
    }

    /// A page that says one thing.
    fn message(self, status: StatusCode, key: &str) -> Reply {
        self.shared.settings.pages.message(self.format, status, self.language, key)
    }

    fn not_found(self) -> Reply {
        self.message(StatusCode::NOT_FOUND, "not_found")
    }

    fn not_allowed(self, methods: &'static str) -> Reply {
        allowing(self.message(StatusCode::METHOD_NOT_ALLOWED, "not_possible"), methods)
    }

    fn unavailable(self, error: &StoreError) -> Reply {
        tracing::debug!(%error, "answered 503");
        retry_later(self.message(StatusCode::SERVICE_UNAVAILABLE, "unavailable"))
    }

    fn show(self, subject: &Subject<'_>, view: &View) -> Reply {
        self.show_with(StatusCode::OK, subject, view)
    }

    fn show_with(self, status: StatusCode, subject: &Subject<'_>, view: &View) -> Reply {
        let pages = &self.shared.settings.pages;
        pages.render(self.format, status, self.language, subject.sender(), view)
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
            Ok(opened) => Box::pin(offer(visit, opened)).await,
            Err(_) => visit.not_found(),
        };
    }
    // Whether the link opens or not, so that nobody can tell unknown keys from wrong tags.
    let asked = match read_asked(visit, request).await {
        Ok(asked) => asked,
        Err(reply) => return reply,
    };
    // A link that was used lately has opened before.
    let is_plain = visit.format == Format::Plain && asked == Asked::OneClick;
    if is_plain && shared.may_repeat(key) && shared.is_repeat(key).await {
        return page::done();
    }
    match open(shared, &token, client) {
        Ok(opened) if matches!(asked, Asked::OneClick | Asked::OptOut) => {
            opt_out(visit, (&token, key), opened, asked).await
        }
        Ok(opened) => Box::pin(act(visit, opened, asked)).await,
        Err(error) => {
            // Only opt-outs from the link's list are kept.
            if let (OpenError::UnknownKey(id), Asked::OneClick | Asked::OptOut) = (error, &asked) {
                shared.unclaimed().keep(id, asked.source(), &token);
            }
            visit.not_found()
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

async fn read_asked(visit: Visit<'_>, request: Request<Incoming>) -> Result<Asked, Reply> {
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    match read_body(request, MAX_BODY, visit.shared.settings.public.limits.body).await {
        Ok(body) => Ok(Asked::read(content_type.as_ref(), body).await),
        Err(BodyError::TooLarge) => Err(visit.message(StatusCode::PAYLOAD_TOO_LARGE, "too_large")),
        Err(BodyError::TooSlow) => Err(visit.message(StatusCode::REQUEST_TIMEOUT, "incomplete")),
        Err(BodyError::Broken) => Err(visit.message(StatusCode::BAD_REQUEST, "incomplete")),
    }
}

/// What a page has to know of the recipient.
struct Seen {
    recipient: Recipient,
    at: Time,
    standing: Standing,
    essential: Essential,
    undo: Option<Undoable>,
}

impl Seen {
    async fn of(shared: &Shared, opened: &Opened) -> Result<Self, StoreError> {
        let recipient = Recipient::of_link(opened.link.recipient());
        let (asked, list) = (recipient.clone(), opened.link.list().clone());
        let waiting = shared.waiting().covering(&recipient, &list);
        let opened = opened.clone();
        let seen = shared.read(move |store| {
            let at = store.moment(now())?;
            let mut standing = store.standings(std::slice::from_ref(&asked))?;
            let standing = standing.pop().unwrap_or_default();
            let entries = store.entries_about(&asked, u64::MAX, undo::LOOKBACK)?;
            let undo = Undoable::of(&entries, &standing, &opened, at);
            Ok(Self { recipient: asked, at, standing, essential: store.essential()?, undo })
        });
        match (seen.await, waiting) {
            // The store may be unable to say: what waits for it is known all the same.
            (Err(_), Some(waiting)) => Ok(Self::waiting(recipient, waiting)),
            (Ok(seen), Some(waiting)) if seen.stands_not(&list) => {
                Ok(Self::waiting(recipient, waiting))
            }
            (seen, _) => seen,
        }
    }

    fn stands_not(&self, list: &crate::link::ListId) -> bool {
        self.standing.applying(list, self.at, &self.essential).next().is_none()
    }

    /// Of an opt-out in the spool.
    fn waiting(recipient: Recipient, waiting: Suppression) -> Self {
        let at = waiting.since;
        let standing = Standing::of(waiting);
        Self { recipient, at, standing, essential: Essential::default(), undo: None }
    }

    fn subject<'a>(&'a self, visit: Visit<'a>, opened: &'a Opened) -> Subject<'a> {
        Subject {
            language: visit.language,
            catalogue: &visit.shared.settings.catalogue,
            recipient: &self.recipient,
            list: opened.link.list(),
            standing: &self.standing,
            essential: &self.essential,
            at: self.at,
        }
    }
}

/// The page for a person; changes nothing.
async fn offer(visit: Visit<'_>, opened: Opened) -> Reply {
    match Seen::of(visit.shared, &opened).await {
        Ok(seen) => {
            let subject = seen.subject(visit, &opened);
            visit.show(&subject, &subject.offer(seen.undo.as_ref()))
        }
        Err(error) => visit.unavailable(&error),
    }
}

/// Opts the recipient out of the link's list. The token is the authority: what the body holds
/// only says whether it was the page's own form.
async fn opt_out(
    visit: Visit<'_>,
    (token, link_key): (&str, LinkKey),
    opened: Opened,
    asked: Asked,
) -> Reply {
    let shared = visit.shared;
    let command = click::opt_out(&opened, asked.source());
    let recipient_key = shared.recipient_key(&command.recipient);
    let limit = shared.settings.public.limits.record;
    let kept = match shared.record_click(command, token, limit).await {
        Ok(kept) => kept,
        Err(error) => return visit.unavailable(&error),
    };
    if let Kept::Recorded(outcome) = &kept {
        let (list, key, changed) = (opened.link.list(), opened.key, outcome.changed);
        tracing::debug!(event = outcome.event, changed, %list, %key, "opted out");
        if asked == Asked::OneClick {
            shared.remember(link_key, recipient_key, outcome);
        }
    }
    match visit.format {
        Format::Html => Box::pin(show_done(visit, &opened, &asked, &[])).await,
        Format::Plain => page::done(),
    }
}

/// The page for a person whose acts were recorded.
async fn show_done(
    visit: Visit<'_>,
    opened: &Opened,
    asked: &Asked,
    left: &[crate::link::ListId],
) -> Reply {
    match Seen::of(visit.shared, opened).await {
        Ok(seen) => {
            let subject = seen.subject(visit, opened);
            visit.show(&subject, &subject.done(asked, left, seen.undo.as_ref()))
        }
        // It is recorded, which is what counts.
        Err(_) => page::done(),
    }
}

/// What the page's other forms ask for, which is never spooled.
async fn act(visit: Visit<'_>, opened: Opened, asked: Asked) -> Reply {
    let shared = visit.shared;
    let seen = match Seen::of(shared, &opened).await {
        Ok(seen) => seen,
        Err(error) => return visit.unavailable(&error),
    };
    let subject = seen.subject(visit, &opened);
    let commands = match &asked {
        Asked::Undo(event) => match seen.undo.clone().filter(|undo| undo.event == *event) {
            Some(undo) => undo.commands(&click::opt_out(&opened, asked.source())),
            None => return visit.show(&subject, &subject.too_late()),
        },
        _ => match acts::commands(&opened, &asked, &shared.settings.catalogue, seen.at) {
            Ok(commands) => commands,
            Err(wrong) => return refuse(visit, &seen, &opened, &wrong),
        },
    };
    let left = states::lists_of(commands.iter().filter_map(|command| match &command.act {
        Act::OptOut { scope } => Some(scope.clone()),
        _ => None,
    }));
    let limit = shared.settings.public.limits.record;
    if let Err(error) = shared.record_together(commands, limit).await {
        return visit.unavailable(&error);
    }
    match asked {
        Asked::Undo(_) | Asked::Why { .. } => {
            let Ok(seen) = Seen::of(shared, &opened).await else { return page::done() };
            let subject = seen.subject(visit, &opened);
            let view = match asked {
                Asked::Undo(_) => subject.undone(),
                _ => subject.thanks(seen.undo.as_ref()),
            };
            visit.show(&subject, &view)
        }
        _ => show_done(visit, &opened, &asked, &left).await,
    }
}

fn refuse(visit: Visit<'_>, seen: &Seen, opened: &Opened, wrong: &Wrong) -> Reply {
    let subject = seen.subject(visit, opened);
    let view = subject.wrong(wrong, seen.undo.as_ref());
    visit.show_with(StatusCode::UNPROCESSABLE_ENTITY, &subject, &view)
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
