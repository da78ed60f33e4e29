//! Asking before sending, and what stands for one recipient.

use std::collections::HashMap;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::now;
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::Caller;
use super::request::{Parameters, json_body, known_recipient, parse};
use super::{Problem, json};
use crate::ledger::{
    Recipient, Standing, Store, StoreError, Suppression, SuppressionView, as_text,
};
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
    let (list, recipient) = (query.require("list")?, query.require("recipient")?);
    query.end()?;
    let list: ListId = parse("list", &list)?;
    caller.require_list(&list)?;
    if is_surely_free(shared, &list, &recipient) {
        let free = One { recipient, list, known: true, suppressed: false, suppression: None };
        return Ok(json(StatusCode::OK, &free));
    }
    // The store may be unable to say, or not know yet.
    let waiting = shared.waiting().covering(&Recipient::of_link(&recipient), &list);
    if let Some(waiting) = waiting {
        let suppression = Some(caller.view_waiting(&waiting));
        let one = One { recipient, list, known: true, suppressed: true, suppression };
        return Ok(json(StatusCode::OK, &one));
    }
    let caller = caller.clone();
    let answer = shared.read(move |store| {
        let mut looked_up = look_up(store, &caller, &list, std::slice::from_ref(&recipient))?;
        Ok(match looked_up.answers.pop() {
            Some(Ok(suppression)) => {
                let (known, suppressed) = (looked_up.known, suppression.is_some());
                Ok(One { recipient, list, known, suppressed, suppression })
            }
            Some(Err(error)) => Err(Problem::field("recipient", error)),
            None => Err(Problem::internal(&"no answer for a recipient")),
        })
    });
    Ok(json(StatusCode::OK, &answer.await??))
}

/// From memory alone, so that what is asked most need not wait for the store.
fn is_surely_free(shared: &Shared, list: &ListId, recipient: &str) -> bool {
    let scope = Scope::from(list.clone());
    Recipient::parse(recipient).is_ok_and(|recipient| shared.is_surely_free(&recipient, &scope))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManyBody {
    list: String,
    recipients: Vec<String>,
}

#[derive(Serialize)]
struct Many {
    #[serde(serialize_with = "as_text")]
    list: ListId,
    known: bool,
    checked: usize,
    suppressed: Vec<Suppressed>,
    errors: Vec<Refused>,
}

#[derive(Serialize)]
struct Suppressed {
    recipient: String,
    suppression: SuppressionView,
}

#[derive(Serialize)]
struct Refused {
    index: usize,
    recipient: String,
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
    let mut waiting = waiting_for(shared, &list, &body.recipients);
    let caller = caller.clone();
    let answer = shared.read(move |store| {
        let looked_up = look_up(store, &caller, &list, &body.recipients)?;
        let known = looked_up.known;
        let mut answer =
            Many { list, known, checked: 0, suppressed: Vec::new(), errors: Vec::new() };
        for (index, (recipient, found)) in
            body.recipients.into_iter().zip(looked_up.answers).enumerate()
        {
            answer.checked += usize::from(found.is_ok());
            let waiting = waiting.remove(&index).map(|waiting| caller.view_waiting(&waiting));
            match found.map(|found| found.or(waiting)) {
                Ok(Some(suppression)) => {
                    answer.suppressed.push(Suppressed { recipient, suppression })
                }
                Ok(None) => {}
                Err(error) => {
                    answer.errors.push(Refused { index, recipient, detail: error });
                }
            }
        }
        Ok(json(StatusCode::OK, &answer))
    });
    Ok(answer.await?)
}

/// The opt-outs in the spool that cover the list, by their recipients' places.
fn waiting_for(
    shared: &Shared,
    list: &ListId,
    recipients: &[String],
) -> HashMap<usize, Suppression> {
    if shared.waiting().is_empty() {
        return HashMap::new();
    }
    let waiting = |text: &String| shared.waiting().covering(&Recipient::of_link(text), list);
    let each = recipients.iter().enumerate();
    each.filter_map(|(index, text)| Some((index, waiting(text)?))).collect()
}

/// What [`look_up`] found.
struct LookedUp {
    known: bool,
    /// For each recipient, in their order, what keeps its mail back.
    answers: Vec<Result<Option<SuppressionView>, String>>,
}

/// What stands for each, or, when one of them meets damage, that for this one it cannot be said.
fn standings(
    store: &dyn Store,
    recipients: &[Recipient],
) -> Result<Vec<Result<Standing, String>>, StoreError> {
    match store.standings(recipients) {
        Ok(all) => Ok(all.into_iter().map(Ok).collect()),
        Err(StoreError::Damaged { .. }) if recipients.len() > 1 => {
            let each = recipients.chunks(1).map(|one| standings(store, one));
            Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        Err(error @ StoreError::Damaged { .. }) => {
            tracing::error!(%error, "what stands for a recipient cannot be read");
            Ok(vec![Err("what stands cannot be read: do not send".to_owned())])
        }
        Err(error) => Err(error),
    }
}

fn look_up(
    store: &dyn Store,
    caller: &Caller,
    list: &ListId,
    texts: &[String],
) -> Result<LookedUp, StoreError> {
    let at = store.moment(now())?;
    let known = store.knows(&Scope::from(list.clone()))?;
    let mut recipients = Vec::with_capacity(texts.len());
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts {
        parsed.push(store.find(text)?.map(|recipient| recipients.push(recipient)));
    }
    let mut standings = standings(store, &recipients)?.into_iter();
    let mut answers = Vec::with_capacity(parsed.len());
    for one in parsed {
        let standing = match one {
            Ok(()) => standings.next().unwrap_or_else(|| Ok(Standing::default())),
            Err(error) => Err(error.to_string()),
        };
        answers.push(match standing {
            Ok(standing) => {
                let stands = standing.suppression_for(list, at);
                Ok(stands.map(|stands| caller.view(stands, store)).transpose()?)
            }
            Err(error) => Err(error),
        });
    }
    Ok(LookedUp { known, answers })
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
    let waiting: Vec<_> = shared
        .waiting()
        .of(&Recipient::of_link(text))
        .iter()
        .filter(|waiting| caller.is_touched_by(&waiting.scope))
        .map(|waiting| caller.view_waiting(waiting))
        .collect();
    let (caller, text) = (caller.clone(), text.to_owned());
    let suppressions = shared.read(move |store| {
        let recipient = match known_recipient(&text, store) {
            Ok(recipient) => recipient,
            Err(problem) => return Ok(Err(problem)),
        };
        let standing = store.standings(&[recipient])?.pop().unwrap_or_default();
        let active = standing
            .active(store.moment(now())?)
            .filter(|stands| caller.is_touched_by(&stands.scope));
        active.map(|stands| caller.view(stands, store)).collect::<Result<Vec<_>, _>>().map(Ok)
    });
    let mut suppressions = suppressions.await??;
    suppressions.extend(waiting);
    Ok(json(StatusCode::OK, &All { suppressions }))
}
