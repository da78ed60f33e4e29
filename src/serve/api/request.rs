//! Reading requests: queries and JSON bodies, and what their fields have to be.

use hyper::body::{Body as _, Incoming};
use hyper::{Request, StatusCode};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::super::reply::{BodyError, read_body};
use super::super::shared::Shared;
use super::Problem;
use crate::ledger::{Note, Recipient, Store};

/// Ten thousand recipients of the greatest length, with room for how JSON may write them.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// A body up to this needs no place among the large ones.
const SMALL_BODY: u64 = 64 * 1024;

/// The parameters of a query, each at most once.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(query: Option<&str>) -> Result<Self, Problem> {
        let query = query.unwrap_or_default();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Not as in forms: a plus sign is one, since addresses hold them.
            let decode = |text| percent_decode_str(text).decode_utf8().map(String::from);
            let (Ok(name), Ok(value)) = (decode(name), decode(value)) else {
                return Err(Problem::field(name, "this parameter is not UTF-8"));
            };
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(Problem::field(name, "this parameter is there twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Takes the parameter `name`, if it is there.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.remove(at).1)
    }

    /// Takes the parameter `name`, which has to be there.
    pub(super) fn require(&mut self, name: &str) -> Result<String, Problem> {
        self.take(name).ok_or_else(|| Problem::field(name, "this parameter is missing"))
    }

    /// Refuses parameters that nobody took.
    pub(super) fn end(self) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Problem::field(name, "there is no such parameter")),
            None => Ok(()),
        }
    }
}

/// Reads a JSON body, whatever type it claims to have; what has a body takes no parameters.
/// Errors name the place in it.
pub(super) async fn json_body<T: DeserializeOwned>(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<T, Problem> {
    Parameters::of(request.uri().query())?.end()?;
    let is_small = request.body().size_hint().upper().is_some_and(|length| length <= SMALL_BODY);
    let _place = match is_small {
        true => None,
        false => Some(shared.place_for_large_body().await.ok_or_else(|| {
            let detail = "too many large bodies are being read: try again later";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?),
    };
    let body = read_body(request, MAX_BODY, shared.settings.api.limits.body).await;
    let body = body.map_err(|error| match error {
        BodyError::TooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body has more than 8 MiB: send it in parts",
        ),
        BodyError::TooSlow => {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")
        }
        BodyError::Broken => Problem::new(StatusCode::BAD_REQUEST, "the body did not arrive whole"),
    })?;
    // A list could stand for an object whose fields it has in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "the body is not a JSON object in UTF-8",
        ));
    }
    // What is wrong, and where, is looked for only when something is.
    serde_json::from_slice(&body).map_err(|_| what_is_wrong_with::<T>(&body))
}

fn what_is_wrong_with<T: DeserializeOwned>(body: &[u8]) -> Problem {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    if let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) {
        let path = error.path().to_string();
        let detail = error.into_inner().to_string();
        return match (path.as_str(), named_in(&detail)) {
            ("." | "?", Some(field)) => Problem::field(field, &detail),
            ("." | "?", None) => wrong(format!("the body is not what this path takes: {detail}")),
            _ => Problem::field(path, detail),
        };
    }
    match reader.end() {
        Err(error) => wrong(format!("the body is not JSON alone: {error}")),
        Ok(()) => Problem::internal(&"the body could be read the second time"),
    }
}

/// The field that an error of serde's names, which lies at no place since it is missing, or there
/// twice.
fn named_in(detail: &str) -> Option<&str> {
    let mut starts = ["missing field `", "duplicate field `"].into_iter();
    starts.find_map(|start| detail.strip_prefix(start)?.split('`').next())
}

/// Reads a field's text as what it has to be.
pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: &str,
) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::field(field, error))
}

/// Reads the field `recipient`, as something new may be recorded under it.
pub(super) fn recipient(text: &str) -> Result<Recipient, Problem> {
    Recipient::parse(text).map_err(|error| Problem::field("recipient", error))
}

/// Reads the field `recipient`, as something may be on record under it.
pub(super) fn known_recipient(text: &str, store: &dyn Store) -> Result<Recipient, Problem> {
    store.find(text)?.map_err(|error| Problem::field("recipient", error))
}

/// Reads a field that holds a text about the recipient.
pub(super) fn note(field: &str, text: Option<&str>) -> Result<Option<Note>, Problem> {
    let note = Note::parse(text.unwrap_or_default());
    note.map_err(|what| Problem::field(field, format!("the {field} {what}")))
}

/// As [`note`], where there has to be one.
pub(super) fn required_note(field: &str, text: &str) -> Result<Option<Note>, Problem> {
    match note(field, Some(text))? {
        None => Err(Problem::field(field, format!("the {field} is empty: it goes on the record"))),
        some => Ok(some),
    }
}
