//! What a POST's body asks for. Only the page's own form fields select anything; every other
//! body, a broken or an empty one too, is a provider's click.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyDataStream, Full};
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use multer::{Constraints, Multipart, SizeLimit};

use crate::ledger::Source;
use crate::link::ONE_CLICK;

/// A form with more fields than this is not ours; what comes after them is not looked at.
const MAX_FIELDS: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A provider's click (RFC 8058 section 3.2), or anything that is not the page's form.
    OneClick,
    /// The page's button.
    Page,
}

impl Asked {
    /// Reads the body by its content type.
    pub(super) async fn read(content_type: Option<&HeaderValue>, body: Bytes) -> Self {
        // What every provider sends needs no parser.
        if body == ONE_CLICK {
            return Self::OneClick;
        }
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let fields = match multer::parse_boundary(content_type) {
            // Boxed, since it is large and rare.
            Ok(boundary) => Box::pin(multipart_fields(body, boundary)).await,
            Err(_) => form_urlencoded::parse(&body).into_owned().take(MAX_FIELDS).collect(),
        };
        Self::of(&fields)
    }

    /// The way by which it came.
    pub(super) fn source(self) -> Source {
        match self {
            Self::OneClick => Source::OneClick,
            Self::Page => Source::Page,
        }
    }

    fn of(fields: &[(String, String)]) -> Self {
        let has = |name: &str, value: &str| fields.iter().any(|(n, v)| n == name && v == value);
        let one_click = ONE_CLICK.split_once('=').is_some_and(|(name, value)| has(name, value));
        match has("act", "opt_out") && !one_click {
            true => Self::Page,
            false => Self::OneClick,
        }
    }
}

/// For [`crate::fuzzing`]: whether a body selects the page. All of it is at hand, so reading it
/// never waits.
pub(crate) fn is_the_pages_form(content_type: &[u8], body: &[u8]) -> bool {
    let content_type = HeaderValue::from_bytes(content_type).ok();
    let read = pin!(Asked::read(content_type.as_ref(), Bytes::copy_from_slice(body)));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(asked) => asked == Asked::Page,
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
        let Ok(value) = field.text().await else { break };
        fields.push((name, value));
        if fields.len() == MAX_FIELDS {
            break;
        }
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
        let rows = [
            (urlencoded, "List-Unsubscribe=One-Click", Asked::OneClick),
            (urlencoded, "act=opt_out", Asked::Page),
            (None, "act=opt_out", Asked::Page),
            (urlencoded, "act=opt_out&List-Unsubscribe=One-Click", Asked::OneClick),
            (urlencoded, "act=other", Asked::OneClick),
            (None, "", Asked::OneClick),
            (None, "\0%%%&&==", Asked::OneClick),
            (Some("text/plain"), "hello", Asked::OneClick),
            (
                multipart,
                "--b\r\nContent-Disposition: form-data; name=\"act\"\r\n\r\nopt_out\r\n--b--\r\n",
                Asked::Page,
            ),
            (
                multipart,
                "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--\r\n",
                Asked::OneClick,
            ),
            (multipart, "--b\r\nbroken", Asked::OneClick),
            (multipart, "", Asked::OneClick),
            (Some("multipart/form-data"), "--b\r\n", Asked::OneClick),
        ];
        for (content_type, body, expected) in rows {
            assert_eq!(asked(content_type, body).await, expected, "{content_type:?} {body}");
        }
    }
}
