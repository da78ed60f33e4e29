//! What a POST's body asks for. Only the page's own form fields select anything; every other
//! body, a broken or an empty one too, is a provider's click.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyDataStream, Full};
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use multer::{Constraints, Multipart, SizeLimit};

use crate::ledger::{Frequency, Note, Source, Why};
use crate::link::{ListId, ONE_CLICK};

/// The pauses that the page offers, in days.
pub(super) const PAUSES: [u16; 3] = [30, 60, 90];

/// Characters of the text that may say why.
pub(super) const MAX_TEXT: usize = 500;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Leave the link's list: a provider's click (RFC 8058 section 3.2) or anything that is not
    /// the page's form, or the page's button.
    Leave(Source),
    /// Another of the page's forms.
    Form(Form),
    /// Take the act of this event back.
    Undo(u64),
    /// Why the recipient left.
    Why { why: Why, text: Option<Note> },
    /// The question why, sent without an answer.
    Silence,
    /// A field of ours with a value that none of our pages sends.
    Wrong(Wrong),
}

/// What can be had instead of leaving the link's list, or beyond that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Leave all that this sender sends.
    Everything,
    /// Nothing of the link's list for so many days.
    Pause(u16),
    /// The link's list, so often at most.
    Frequency(Frequency),
    /// Leave those of the lists that were shown that are not to be kept.
    Choose { shown: Vec<ListId>, keep: Vec<ListId> },
}

/// What is wrong with a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A choice that there is not.
    Choice,
    /// The text that says why is too long; as it was written.
    Text { why: Why, written: String },
}

impl Asked {
    /// Reads the body by its content type.
    pub(super) async fn read(content_type: Option<&HeaderValue>, body: Bytes) -> Self {
        // What every provider sends needs no parser.
        if body == ONE_CLICK {
            return Self::Leave(Source::OneClick);
        }
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fields = match multer::parse_boundary(content_type) {
            // Boxed, since it is large and rare.
            Ok(boundary) => Box::pin(multipart_fields(body, boundary)).await,
            Err(_) => form_urlencoded::parse(&body).into_owned().collect(),
        };
        Self::of(&Fields(fields))
    }

    fn of(fields: &Fields) -> Self {
        // Whatever else a body holds.
        let is_one_click =
            ONE_CLICK.split_once('=').is_some_and(|(name, value)| fields.has(name, value));
        let act = fields.first("act").filter(|_| !is_one_click);
        let asked = match act {
            Some("opt_out") => Some(Self::Leave(Source::Page)),
            Some("undo") => fields.parsed("event").map(Self::Undo),
            Some("why") => Self::why(fields),
            Some("everything") => Some(Self::Form(Form::Everything)),
            Some("pause") => {
                fields.parsed("days").filter(is_offered).map(Form::Pause).map(Self::Form)
            }
            Some("frequency") => fields.parsed("frequency").map(Form::Frequency).map(Self::Form),
            Some("choose") => Self::choose(fields),
            _ => Some(Self::Leave(Source::OneClick)),
        };
        asked.unwrap_or(Self::Wrong(Wrong::Choice))
    }

    fn choose(fields: &Fields) -> Option<Self> {
        let (shown, keep) = (fields.all_parsed("shown")?, fields.all_parsed("keep")?);
        Some(Self::Form(Form::Choose { shown, keep }))
    }

    /// A text without a reason stands for another reason.
    fn why(fields: &Fields) -> Option<Self> {
        // Browsers send two characters for a line's end, and count one.
        let written = fields.first("text").unwrap_or_default().replace("\r\n", "\n");
        let why = match fields.first("why") {
            None if written.trim().is_empty() => return Some(Self::Silence),
            None => Why::Other,
            Some(why) => why.parse().ok()?,
        };
        if written.trim().chars().count() > MAX_TEXT {
            let written = written.chars().take(2 * MAX_TEXT).collect();
            return Some(Self::Wrong(Wrong::Text { why, written }));
        }
        // A browser sends no other control characters than line ends.
        let is_kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
        let text: String = written.chars().filter(is_kept).collect();
        Note::parse(&text).ok().map(|text| Self::Why { why, text })
    }
}

fn is_offered(days: &u16) -> bool {
    PAUSES.contains(days)
}

/// A form's fields in their order.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).any(|own| own == value)
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.first(name)?.parse().ok()
    }

    /// `None` when one of them is none.
    fn all_parsed<T: std::str::FromStr>(&self, name: &str) -> Option<Vec<T>> {
        self.all(name).map(|value| value.parse().ok()).collect()
    }
}

/// For [`crate::fuzzing`]: whether a body selects something on the page. All of it is at hand, so
/// reading it never waits.
pub(crate) fn is_the_pages_form(content_type: &[u8], body: &[u8]) -> bool {
    let content_type = HeaderValue::from_bytes(content_type).ok();
    let read = pin!(Asked::read(content_type.as_ref(), Bytes::copy_from_slice(body)));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(asked) => asked != Asked::Leave(Source::OneClick),
        Poll::Pending => panic!("reading a body that is at hand waited"),
    }
}

/// The fields up to the first that is broken.
async fn multipart_fields(body: Bytes, boundary: String) -> Vec<(String, String)> {
    let limits = SizeLimit::new().whole_stream(body.len() as u64);
    let constraints = Constraints::new().size_limit(limits);
    let stream = BodyDataStream::new(Full::new(body));
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let mut fields = Vec::new();
    while let Ok(Some(field)) = form.next_field().await {
        let name = field.name().unwrap_or_default().to_owned();
        // Our page is UTF-8, and what providers send is ASCII: decoding all charsets would add 160 KB.
        let Ok(octets) = field.bytes().await else { break };
        fields.push((name, String::from_utf8_lossy(&octets).into_owned()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(content_type: Option<&'static str>, body: &'static str) -> Asked {
        let content_type = content_type.map(HeaderValue::from_static);
        Asked::read(content_type.as_ref(), Bytes::from_static(body.as_bytes())).await
    }

    #[tokio::test]
    async fn only_the_pages_own_field_selects_something_else() {
        let urlencoded = Some("application/x-www-form-urlencoded");
        let multipart = Some("multipart/form-data; boundary=b");
        let (by_page, one_click) = (Source::Page, Source::OneClick);
        let rows = [
            (urlencoded, "List-Unsubscribe=One-Click", one_click),
            (urlencoded, "act=opt_out", by_page),
            (None, "act=opt_out", by_page),
            (urlencoded, "act=opt_out&List-Unsubscribe=One-Click", one_click),
            (urlencoded, "List-Unsubscribe=One-Click&act=pause&days=x", one_click),
            // The contract: only the page's own form fields select something else.
            (urlencoded, "act=other", one_click),
            (None, "", one_click),
            (None, "\0%%%&&==", one_click),
            (Some("text/plain"), "hello", one_click),
            (
                multipart,
                "--b\r\nContent-Disposition: form-data; name=\"act\"\r\n\r\nopt_out\r\n--b--\r\n",
                by_page,
            ),
            (
                multipart,
                "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n",
                one_click,
            ),
            (multipart, "--b\r\nbroken", one_click),
        ];
        for (content_type, body, source) in rows {
            assert_eq!(asked(content_type, body).await, Asked::Leave(source), "{body}");
        }
        let many = format!("act=pause&days=30&{}List-Unsubscribe=One-Click", "a&".repeat(4000));
        let read = Asked::read(None, Bytes::from(many)).await;
        assert_eq!(read, Asked::Leave(one_click), "whatever else a body holds");
    }

    #[tokio::test]
    async fn each_form_is_read_and_impossible_values_are_wrong() {
        let list = |text: &str| text.parse::<ListId>().expect("a list");
        let wrong = || Asked::Wrong(Wrong::Choice);
        let note = |text| Note::parse(text).expect("a text");
        let rows = [
            ("act=everything", Asked::Form(Form::Everything)),
            ("act=pause&days=60", Asked::Form(Form::Pause(60))),
            ("act=pause&days=61", wrong()),
            ("act=pause", wrong()),
            ("act=frequency&frequency=weekly", Asked::Form(Form::Frequency(Frequency::Weekly))),
            ("act=frequency&frequency=hourly", wrong()),
            ("act=undo&event=7", Asked::Undo(7)),
            ("act=undo&event=-7", wrong()),
            (
                "act=choose&shown=a&shown=b&keep=b",
                Asked::Form(Form::Choose {
                    shown: vec![list("a"), list("b")],
                    keep: vec![list("b")],
                }),
            ),
            ("act=choose&shown=a&keep=C%20!", wrong()),
            ("act=why&why=content", Asked::Why { why: Why::Content, text: None }),
            ("act=why&text=so%0Ait+is", Asked::Why { why: Why::Other, text: note("so\nit is") }),
            ("act=why&why=other&text=a%00b", Asked::Why { why: Why::Other, text: note("ab") }),
            ("act=why&why=because", wrong()),
            ("act=why&text=+", Asked::Silence),
        ];
        for (body, expected) in rows {
            assert_eq!(asked(None, body).await, expected, "{body}");
        }
        let long = Fields(vec![
            ("act".to_owned(), "why".to_owned()),
            ("text".to_owned(), "ü".repeat(MAX_TEXT + 1)),
        ]);
        assert!(matches!(Asked::of(&long), Asked::Wrong(Wrong::Text { .. })));
        let lines = format!("act=why&text={}", "x%0D%0A".repeat(MAX_TEXT / 2));
        let read = Asked::read(None, Bytes::from(lines)).await;
        assert!(matches!(read, Asked::Why { .. }), "a line's end is one character: {read:?}");
    }
}
