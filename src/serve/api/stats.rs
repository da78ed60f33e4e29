//! What recipients and senders did, counted.

use std::time::Instant;

use hyper::StatusCode;
use serde::Serialize;

use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::Caller;
use super::request::{Parameters, parse};
use super::{Problem, json};
use crate::ledger::{Cell, Span, count};
use crate::link::Scope;

#[derive(Serialize)]
struct Stats<'s> {
    store: &'s str,
    counts: Vec<Count>,
}

#[derive(Serialize)]
struct Count {
    #[serde(flatten)]
    cell: Cell,
    events: u64,
}

/// `GET /v1/stats?list=SCOPE&since=TIME&until=TIME`.
pub(super) async fn counts(
    shared: &Shared,
    caller: &Caller,
    mut query: Parameters,
) -> Result<Reply, Problem> {
    let mut time = |name| query.take(name).map(|text| parse(name, &text)).transpose();
    let span = Span { since: time("since")?, until: time("until")? };
    let list: Option<Scope> = query.take("list").map(|text| parse("list", &text)).transpose()?;
    query.end()?;
    let store = shared.store()?.name();
    let (caller, began) = (caller.clone(), Instant::now());
    let limit = shared.settings.api.limits.record;
    let counted = shared.read(move |store| {
        let is_seen = |scope: Option<&Scope>| {
            let is_own = scope.map_or_else(|| caller.is_free(), |scope| caller.reaches(scope));
            is_own && list.as_ref().is_none_or(|list| scope.is_some_and(|own| list.includes(own)))
        };
        count(store, &span, &is_seen, &|| began.elapsed() > limit)
    });
    let counts = counted.await?.ok_or_else(|| {
        let detail = "there is too much to count in one answer: ask for less with since and until";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let counts = counts.into_iter().map(|(cell, events)| Count { cell, events }).collect();
    Ok(json(StatusCode::OK, &Stats { store, counts }))
}
