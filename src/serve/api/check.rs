//! Asking before sending, and what stands for one recipient.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::now;
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::Caller;
use super::request::{Parameters, json_body, parse, recipient};
use super::{Problem, json};
use crate::ledger::{Recipient, Store, StoreError, Suppression, SuppressionView, as_text};
use crate::link::{ListId, Scope};

const MAX_RECIPIENTS: usize = 10_000;

#[derive(Serialize)]
struct One {
    recipient: String,
    #[serde(serialize_with = "as_text")]
    list: ListId,
    known: bool,
    suppressed: bool,
    suppression: Option<SuppressionView>,
}

/// `GET /v1/check?list=L&recipient=R`.
pub(super) async fn one(
    shared: &Shared,
    caller: &Caller,
    mut query: Parameters,
) -> Result<Reply, Problem> {
    let (list, text) = (query.require("list")?, query.require("recipient")?);
    query.end()?;
    let list: ListId = parse("list", &list)?;
    caller.require_list(&list)?;
    let recipients = vec![recipient(&text)?];
    let (known, mut suppressions, list) = look_up(shared, caller, list, recipients).await?;
    let suppression = suppressions.pop().flatten();
    let suppressed = suppression.is_some();
    Ok(json(StatusCode::OK, &One { recipient: text, list, known, suppressed, suppression }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManyBody {
    list: String,
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct Many<'b> {
    #[serde(serialize_with = "as_text")]
    list: ListId,
    known: bool,
    checked: usize,
    suppressed: Vec<Suppressed<'b>>,
    errors: Vec<Refused<'b>>,
}

#[derive(Serialize)]
struct Suppressed<'b> {
    recipient: &'b str,
    suppression: SuppressionView,
}

#[derive(Serialize)]
struct Refused<'b> {
    index: usize,
    recipient: &'b str,
    detail: String,
}

/// `POST /v1/check`.
pub(super) async fn many(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let body: ManyBody = json_body(shared, request).await?;
    let list: ListId = parse("list", &body.list)?;
    caller.require_list(&list)?;
    if body.recipients.len() > MAX_RECIPIENTS {
        return Err(Problem::field("recipients", "there are more than 10,000: send them in parts"));
    }
    let (mut valid, mut texts, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (index, text) in body.recipients.iter().enumerate() {
        match Recipient::parse(text) {
            Ok(recipient) => {
                valid.push(recipient);
                texts.push(text.as_str());
            }
            Err(error) => {
                errors.push(Refused { index, recipient: text, detail: error.to_string() })
            }
        }
    }
    let checked = valid.len();
    let (known, suppressions, list) = look_up(shared, caller, list, valid).await?;
    let suppressed = texts.into_iter().zip(suppressions);
    let suppressed = suppressed.filter_map(|(recipient, suppression)| {
        suppression.map(|suppression| Suppressed { recipient, suppression })
    });
    let suppressed = suppressed.collect();
    Ok(json(StatusCode::OK, &Many { list, known, checked, suppressed, errors }))
}

/// Whether the list is known, and for each recipient what keeps its mail back.
async fn look_up(
    shared: &Shared,
    caller: &Caller,
    list: ListId,
    recipients: Vec<Recipient>,
) -> Result<(bool, Vec<Option<SuppressionView>>, ListId), Problem> {
    let shown = Shown::to(caller);
    let found = shared.read(move |store| {
        let known = store.knows(&Scope::from(list.clone()))?;
        let at = now();
        let views = store.standings(&recipients)?.into_iter().map(|standing| {
            let stands = standing.suppression_for(&list, at);
            stands.map(|stands| shown.view(stands, store)).transpose()
        });
        Ok((known, views.collect::<Result<_, _>>()?, list))
    });
    Ok(found.await?)
}

/// How much of a suppression a caller may see.
struct Shown {
    reach: Vec<Scope>,
}

impl Shown {
    fn to(caller: &Caller) -> Self {
        match caller {
            Caller::Local => Self { reach: Vec::new() },
            Caller::Key(key) => Self { reach: key.scopes.clone() },
        }
    }

    /// All of it within the caller's scopes, the outline of a wider one.
    fn view(
        &self,
        suppression: &Suppression,
        store: &dyn Store,
    ) -> Result<SuppressionView, StoreError> {
        match self.reach.is_empty() || self.reach.iter().any(|own| own.includes(&suppression.scope))
        {
            true => SuppressionView::of(suppression, store),
            false => Ok(SuppressionView::outline(suppression)),
        }
    }

    /// Whether the caller may know of it at all: it touches one of the caller's scopes.
    fn touches(&self, scope: &Scope) -> bool {
        self.reach.is_empty()
            || self.reach.iter().any(|own| own.includes(scope) || scope.includes(own))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchBody {
    recipient: String,
}

#[derive(Serialize)]
struct All {
    suppressions: Vec<SuppressionView>,
}

/// `POST /v1/suppressions/search`.
pub(super) async fn search(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let body: SearchBody = json_body(shared, request).await?;
    all_standing(shared, caller, &body.recipient).await
}

/// `GET /v1/suppressions?recipient=R`.
pub(super) async fn standing_for(
    shared: &Shared,
    caller: &Caller,
    mut query: Parameters,
) -> Result<Reply, Problem> {
    let text = query.require("recipient")?;
    query.end()?;
    all_standing(shared, caller, &text).await
}

async fn all_standing(shared: &Shared, caller: &Caller, text: &str) -> Result<Reply, Problem> {
    let recipient = recipient(text)?;
    let shown = Shown::to(caller);
    let suppressions = shared.read(move |store| {
        let standing = store.standings(&[recipient])?.pop().unwrap_or_default();
        let active = standing.active(now()).filter(|stands| shown.touches(&stands.scope));
        active.map(|stands| shown.view(stands, store)).collect::<Result<Vec<_>, _>>()
    });
    Ok(json(StatusCode::OK, &All { suppressions: suppressions.await? }))
}
