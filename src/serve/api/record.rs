//! Recording suppressions, opt-ins and releases.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::now;
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::Caller;
use super::request::{json_body, known_recipient, note, parse, recipient, required_note};
use super::{Problem, json};
use crate::ledger::{
    Act, Command, Note, Outcome, Reason, Recipient, Source, Suppression, SuppressionView, Time,
};
use crate::link::{ListId, Scope};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuppressBody {
    recipient: String,
    scope: String,
    reason: Option<String>,
    note: Option<String>,
    until: Option<String>,
}

#[derive(Serialize)]
struct Suppressed {
    suppression: Option<SuppressionView>,
    changed: bool,
}

/// `POST /v1/suppressions`; with the reason `unsubscribe` it records an opt-out.
pub(super) async fn suppress(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let body: SuppressBody = json_body(shared, request).await?;
    let recipient = recipient(&body.recipient)?;
    let scope: Scope = parse("scope", &body.scope)?;
    caller.require(&scope)?;
    let reason = body.reason.as_deref().map(|text| parse("reason", text)).transpose()?;
    let reason = reason.unwrap_or(Reason::Manual);
    let until = body.until.as_deref().map(|text| parse::<Time>("until", text)).transpose()?;
    let now = shared.read(|store| store.moment(now())).await?;
    if until.is_some_and(|until| until <= now) {
        return Err(Problem::field("until", format!("it is {now}: give a later time")));
    }
    let note = note("note", body.note.as_deref())?;
    let act = Act::for_reason(scope.clone(), reason, until);
    let act = act.map_err(|what| Problem::field("until", what))?;
    let outcome = record(shared, caller, recipient, act, note).await?;
    let made = |stands: &&Suppression| stands.scope == scope && stands.reason == reason;
    let stands = outcome.standing.active(outcome.at).find(made).cloned();
    let changed = outcome.changed;
    let suppression = view_all(shared, caller, stands).await?.pop();
    Ok(json(StatusCode::OK, &Suppressed { suppression, changed }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptInBody {
    recipient: String,
    list: String,
    evidence: String,
}

#[derive(Serialize)]
struct Changed {
    changed: bool,
}

/// `POST /v1/opt-ins`.
pub(super) async fn opt_in(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let body: OptInBody = json_body(shared, request).await?;
    let recipient = recipient(&body.recipient)?;
    let list: ListId = parse("list", &body.list)?;
    caller.require_list(&list)?;
    let evidence = required_note("evidence", &body.evidence)?;
    let outcome = record(shared, caller, recipient, Act::OptIn { list }, evidence).await?;
    let Some(stronger) = outcome.refused else {
        return Ok(json(StatusCode::OK, &Changed { changed: outcome.changed }));
    };
    let detail = format!(
        "a {} stands for {}, which an opt-in does not end: an operator has to release it",
        stronger.reason, stronger.scope
    );
    Err(match view_all(shared, caller, [stronger]).await?.pop() {
        Some(view) => Problem::conflict(detail, view),
        None => Problem::new(StatusCode::CONFLICT, detail),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody {
    recipient: String,
    scope: String,
    reason: String,
    note: String,
}

#[derive(Serialize)]
struct Released {
    changed: bool,
    standing: Vec<SuppressionView>,
}

/// `POST /v1/releases`.
pub(super) async fn release(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Reply, Problem> {
    let body: ReleaseBody = json_body(shared, request).await?;
    let scope: Scope = parse("scope", &body.scope)?;
    caller.require(&scope)?;
    let reason: Reason = parse("reason", &body.reason)?;
    let note = required_note("note", &body.note)?;
    let recipient = body.recipient;
    let recipient = shared.read(move |store| Ok(known_recipient(&recipient, store))).await??;
    let act = Act::Release { scope: scope.clone(), reason };
    let outcome = record(shared, caller, recipient, act, note).await?;
    let covering: Vec<_> = outcome.standing.covering(&scope, outcome.at).cloned().collect();
    let standing = view_all(shared, caller, covering).await?;
    Ok(json(StatusCode::OK, &Released { changed: outcome.changed, standing }))
}

async fn record(
    shared: &Shared,
    caller: &Caller,
    recipient: Recipient,
    act: Act,
    note: Option<Note>,
) -> Result<Outcome, Problem> {
    // The body may have taken its time, and the key been revoked meanwhile.
    caller.require_current(shared)?;
    let command =
        Command { actor: caller.actor(), note, ..Command::new(recipient, act, Source::Api) };
    let recorded = shared.record(command, shared.settings.api.limits.record).await;
    recorded.map_err(|error| Problem::from(&*error))
}

async fn view_all(
    shared: &Shared,
    caller: &Caller,
    suppressions: impl IntoIterator<Item = Suppression>,
) -> Result<Vec<SuppressionView>, Problem> {
    let suppressions: Vec<_> = suppressions.into_iter().collect();
    let caller = caller.clone();
    let views = shared
        .read(move |store| suppressions.iter().map(|stands| caller.view(stands, store)).collect());
    Ok(views.await?)
}
