//! Asking before sending, and what stands for one recipient.

use std::collections::HashMap;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::now;
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::{Caller, Need};
use super::request::{Parameters, json_body, known_recipient, parse};
use super::{Problem, json};
use crate::ledger::{
    Frequency, Preference, Recipient, Standing, Store, StoreError, Suppression, SuppressionView,
    as_text,
};
use crate::link::{ListId, Scope};

const MAX_RECIPIENTS: usize = 10_000;

/// As long as a line of a message's header may be, in octets (RFC 5322 section 2.1.1).
const MAX_SENDING: usize = 998;

#[derive(Serialize)]
struct One {
    recipient: String,
    #[serde(serialize_with = "as_text")]
    list: ListId,
    known: bool,
    suppressed: bool,
    suppression: Option<SuppressionView>,
    /// How often the recipient wants the list, if they chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency: Option<Frequency>,
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
        let (known, suppressed, suppression, frequency) = (true, false, None, None);
        let free = One { recipient, list, known, suppressed, suppression, frequency };
        return Ok(json(StatusCode::OK, &free));
    }
    let waiting = waiting_for(shared, std::slice::from_ref(&recipient));
    // The store may be unable to say.
    let covering = waiting.values().flatten().filter(|own| own.scope.covers(&list));
    let alone = covering.max_by_key(|own| own.scope.depth()).map(|own| One {
        recipient: recipient.clone(),
        list: list.clone(),
        known: true,
        suppressed: true,
        suppression: Some(caller.view_waiting(own)),
        frequency: None,
    });
    let asking = Asking::of(shared, caller, &list, waiting);
    let answer = shared.read(move |store| {
        let mut looked_up = look_up(store, &asking, std::slice::from_ref(&recipient))?;
        let frequency = looked_up.chosen.first().map(|(_, _, preference)| preference.frequency);
        Ok(match looked_up.answers.pop() {
            Some(Ok(suppression)) => {
                let (known, suppressed) = (looked_up.known, suppression.is_some());
                Ok(One { recipient, list, known, suppressed, suppression, frequency })
            }
            Some(Err(error)) => Err(Problem::field("recipient", error)),
            None => Err(Problem::internal(&"no answer for a recipient")),
        })
    });
    let answer = match (answer.await, alone) {
        (Err(_), Some(alone)) => alone,
        (answer, _) => answer??,
    };
    Ok(json(StatusCode::OK, &answer))
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
    /// The sender's name for what is about to be sent.
    sending: Option<String>,
}

#[derive(Serialize)]
struct Many {
    #[serde(serialize_with = "as_text")]
    list: ListId,
    known: bool,
    checked: usize,
    suppressed: Vec<Suppressed>,
    /// Of those who chose and are not suppressed by anything else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frequencies: Vec<Chosen>,
    errors: Vec<Refused>,
}

#[derive(Serialize)]
struct Chosen {
    recipient: String,
    frequency: Frequency,
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
    let is_name = |name: &String| {
        (1..=MAX_SENDING).contains(&name.len()) && !name.chars().any(char::is_control)
    };
    if !body.sending.as_ref().is_none_or(is_name) {
        return Err(Problem::field(
            "sending",
            "has to be 1 to 998 octets without control characters",
        ));
    }
    if body.sending.is_some() {
        // It is on record then that somebody was sent something.
        caller.require_role_for(Need::Record)?;
        caller.require_current(shared)?;
    }
    let asking = Asking::of(shared, caller, &list, waiting_for(shared, &body.recipients));
    let answer = shared.read(move |store| {
        let mut looked_up = look_up(store, &asking, &body.recipients)?;
        if let Some(sending) = &body.sending {
            looked_up.hold_back(store, &list, sending)?;
        }
        let frequencies = looked_up.chosen.iter().map(|(index, _, preference)| Chosen {
            recipient: body.recipients[*index].clone(),
            frequency: preference.frequency,
        });
        let frequencies = frequencies.collect();
        let (known, suppressed, errors) = (looked_up.known, Vec::new(), Vec::new());
        let mut answer = Many { list, known, checked: 0, suppressed, frequencies, errors };
        for (index, (recipient, found)) in
            body.recipients.into_iter().zip(looked_up.answers).enumerate()
        {
            answer.checked += usize::from(found.is_ok());
            match found {
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

/// The opt-outs in the spool of those who have any, by their places.
fn waiting_for(shared: &Shared, recipients: &[String]) -> HashMap<usize, Vec<Suppression>> {
    if shared.waiting().is_empty() {
        return HashMap::new();
    }
    let waiting = |text: &String| shared.waiting().of(&Recipient::of_link(text));
    let each = recipients.iter().map(waiting).enumerate();
    each.filter(|(_, waiting)| !waiting.is_empty()).collect()
}

/// What is asked of all recipients alike.
struct Asking {
    caller: Caller,
    list: ListId,
    /// Whether the configuration describes the list.
    is_described: bool,
    /// Opt-outs that wait to be recorded, by their recipients' places.
    waiting: HashMap<usize, Vec<Suppression>>,
}

impl Asking {
    fn of(
        shared: &Shared,
        caller: &Caller,
        list: &ListId,
        waiting: HashMap<usize, Vec<Suppression>>,
    ) -> Self {
        let is_described = shared.settings.catalogue.list(list).is_some();
        Self { caller: caller.clone(), list: list.clone(), is_described, waiting }
    }
}

/// What [`look_up`] found.
struct LookedUp {
    known: bool,
    /// For each recipient, in their order, what keeps its mail back.
    answers: Vec<Result<Option<SuppressionView>, String>>,
    /// Who chose how often they want the list and is not suppressed, by their places.
    chosen: Vec<(usize, Recipient, Preference)>,
}

impl LookedUp {
    /// Answers that those for whom it is too early are suppressed until it no longer is; the
    /// others are taken to be sent it.
    fn hold_back(
        &mut self,
        store: &dyn Store,
        list: &ListId,
        sending: &str,
    ) -> Result<(), StoreError> {
        if self.chosen.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> =
            self.chosen.iter().map(|(_, who, own)| (who.clone(), own.frequency)).collect();
        let until = store.admit(list, sending, &asked, store.moment(now())?)?;
        for ((index, _, preference), until) in self.chosen.iter().zip(until) {
            if let Some(until) = until {
                self.answers[*index] = Ok(Some(SuppressionView::too_early(preference, until)));
            }
        }
        Ok(())
    }
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

fn look_up(store: &dyn Store, asking: &Asking, texts: &[String]) -> Result<LookedUp, StoreError> {
    let (list, at) = (&asking.list, store.moment(now())?);
    let known = asking.is_described || store.knows(&Scope::from(list.clone()))?;
    let mut recipients = Vec::with_capacity(texts.len());
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts {
        parsed.push(store.find(text)?.map(|recipient| recipients.push(recipient)));
    }
    let essential = store.essential()?;
    let mut standings = standings(store, &recipients)?.into_iter();
    let mut recipients = recipients.into_iter();
    let (mut answers, mut chosen) = (Vec::with_capacity(parsed.len()), Vec::new());
    for (index, one) in parsed.into_iter().enumerate() {
        let found = one.map_err(|error| error.to_string()).and_then(|()| {
            let standing = standings.next().unwrap_or_else(|| Ok(Standing::default()));
            let waiting = asking.waiting.get(&index).cloned().unwrap_or_default();
            Ok((recipients.next(), standing?.with(waiting)))
        });
        let (recipient, standing) = match found {
            Ok(found) => found,
            Err(error) => {
                answers.push(Err(error));
                continue;
            }
        };
        let stands = standing.suppression_for(list, at, &essential);
        answers.push(Ok(stands.map(|stands| asking.caller.view(stands, store)).transpose()?));
        if let (Some(who), None, Some(own)) = (recipient, stands, standing.preference_for(list)) {
            chosen.push((index, who, own.clone()));
        }
    }
    Ok(LookedUp { known, answers, chosen })
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
