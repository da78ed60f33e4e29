//! What a person sees: one page with one button, and the same in a line of plain text.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_SECURITY_POLICY, HeaderMap, HeaderValue};
use minijinja::{Environment, context};
use sha2::{Digest, Sha256};

use super::super::reply::{Reply, reply};
use crate::ledger::{Recipient, Time};
use crate::link::{ListId, Scope};

const PLAIN: &str = "text/plain; charset=utf-8";

const STYLE: &str = include_str!("../templates/style.css");

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates
        .add_template("page.html", include_str!("../templates/page.html"))
        .expect("the template is compiled in, and every test of the page renders it");
    templates
});

/// Nothing may load, run or frame; the one style sheet is known by its hash, and the form goes
/// back to where it came from.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("base64 is ASCII")
});

/// How somebody wants an answer written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Html,
    Plain,
}

impl Format {
    /// HTML for those who say that they accept it; mailbox providers and scripts do not.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let mut accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        match accepts.any(|value| value.to_ascii_lowercase().contains("text/html")) {
            true => Self::Html,
            false => Self::Plain,
        }
    }
}

/// What the page of a link says.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) recipient: &'a Recipient,
    pub(super) list: &'a ListId,
    /// The opt-out that covers this list, if there is one.
    pub(super) stop: Option<Stop<'a>>,
    /// Whether the recipient has just asked for it.
    pub(super) done: bool,
}

/// An opt-out that covers the link's list.
#[derive(Debug)]
pub(super) struct Stop<'a> {
    pub(super) since: Time,
    pub(super) scope: &'a Scope,
}

/// The page of a link: the offer to leave, or what was left and since when.
pub(super) fn show(format: Format, page: &Page<'_>) -> Reply {
    let Content { title, lines, button } = content(page);
    render(format, StatusCode::OK, &title, &lines, button)
}

/// The answer to a provider, or to whoever reads plain text, after an opt-out. It names neither
/// list nor recipient: providers do not read it, and a script knows what it sent.
pub(super) fn done() -> Reply {
    const DONE: &str = "You have unsubscribed. It takes effect at once: the next message is not \
                        sent. You need do nothing else.\n";
    reply(StatusCode::OK, PLAIN, DONE)
}

struct Content {
    title: String,
    lines: [String; 2],
    button: Option<&'static str>,
}

fn content(page: &Page<'_>) -> Content {
    let list = page.list.as_str();
    let masked = page.recipient.masked();
    let Some(stop) = &page.stop else {
        let lines = [
            format!("{masked} gets mail of the list {list}."),
            "After you leave, nothing more of this list is sent to you, from that moment on. Other \
             mail is not affected."
                .to_owned(),
        ];
        return Content { title: format!("Leave {list}?"), lines, button: Some("Unsubscribe") };
    };
    let since = moment(stop.since);
    let covered = match stop.scope {
        Scope::Everything => "all mail that is sent with this service".to_owned(),
        Scope::List(scope) => format!("mail of {scope}"),
    };
    let title = if page.done { "You have unsubscribed" } else { "You are unsubscribed" };
    let lines = [
        format!("{masked} gets no more {covered}, since {since}."),
        "It takes effect at once: the next message is not sent. You need do nothing else."
            .to_owned(),
    ];
    Content { title: title.to_owned(), lines, button: None }
}

/// `21 November 2026, 20:15 UTC` would need a language; this reads the same in all.
fn moment(time: Time) -> String {
    let mut text = time.to_string();
    text.truncate("2026-11-21T20:15".len());
    text.replace_range(10..11, " ");
    text.push_str(" UTC");
    text
}

/// One answer for every link that does not open, and for everything that is not here.
pub(super) fn not_found(format: Format) -> Reply {
    let lines = ["This link does not work. If it came with a message, open it from there again, \
                  whole, or ask the sender of the message to take you off the list."
        .to_owned()];
    render(format, StatusCode::NOT_FOUND, "Nothing found here", &lines, None)
}

pub(super) fn not_allowed(format: Format) -> Reply {
    let lines = ["This address cannot be used in this way.".to_owned()];
    render(format, StatusCode::METHOD_NOT_ALLOWED, "Not possible", &lines, None)
}

pub(super) fn too_large(format: Format) -> Reply {
    let lines = ["The request is too large; nothing was changed.".to_owned()];
    render(format, StatusCode::PAYLOAD_TOO_LARGE, "Too large", &lines, None)
}

pub(super) fn incomplete(format: Format, status: StatusCode) -> Reply {
    let lines =
        ["The request did not arrive whole; nothing was changed. Please try again.".to_owned()];
    render(format, status, "Not complete", &lines, None)
}

pub(super) fn unavailable(format: Format) -> Reply {
    let lines = ["You are not unsubscribed yet: this cannot be stored at the moment. Please try \
                  again in a minute."
        .to_owned()];
    render(format, StatusCode::SERVICE_UNAVAILABLE, "Please try again", &lines, None)
}

fn text(title: &str, lines: &[String]) -> String {
    let mut text = String::with_capacity(512);
    text.push_str(title);
    text.push('.');
    for line in lines {
        text.push(' ');
        text.push_str(line);
    }
    text.push('\n');
    text
}

fn render(
    format: Format,
    status: StatusCode,
    title: &str,
    lines: &[String],
    button: Option<&str>,
) -> Reply {
    if format == Format::Plain {
        return reply(status, PLAIN, text(title, lines));
    }
    let page = TEMPLATES
        .get_template("page.html")
        .and_then(|template| {
            template.render(context! { title, lines => lines.to_vec(), button, style => STYLE })
        })
        .expect("the template uses what it is given alone, and every test of the page renders it");
    let mut reply = reply(status, "text/html; charset=utf-8", page);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    reply
}
