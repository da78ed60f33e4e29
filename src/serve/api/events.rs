//! The history in order, from a cursor, and waiting for what comes next.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::watch;

use super::super::filter::EventFilter;
use super::super::phase::{Phase, reached};
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::access::Caller;
use super::request::{Parameters, parse};
use super::{Problem, json};
use crate::ledger::{Entry, EventView, Page};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const MAX_WAIT: u64 = 60;

/// An answer ends early at about so many octets, since slow readers keep it in memory.
const MAX_SIZE: usize = 1024 * 1024;

/// About what an event takes without its note.
const EVENT_SIZE: usize = 512;

/// Pages that one request reads at most.
const MAX_PAGES: usize = 32;

#[derive(Serialize)]
struct Events<'s> {
    store: &'s str,
    events: Vec<EventView>,
    next: u64,
}

/// `GET /v1/events?after=N&limit=M&wait=SECONDS&store=NAME&scope=SCOPE&action=A,B`.
pub(super) async fn page(
    shared: &Shared,
    caller: &Caller,
    mut query: Parameters,
) -> Result<Reply, Problem> {
    let store = shared.store()?.name();
    if let Some(asked) = query.take("store").filter(|asked| asked != store) {
        let detail = format!(
            "this history is {store}, not {asked}: the store was restored from a backup; begin \
             again with after=0"
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail).of("store"));
    }
    let after = query.take("after").unwrap_or_else(|| "0".into());
    let limit = bounded(&mut query, "limit", 1, MAX_LIMIT as u64)?;
    let wait = Duration::from_secs(bounded(&mut query, "wait", 0, MAX_WAIT)?.unwrap_or(0));
    let filter = filter(&mut query)?;
    query.end()?;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(DEFAULT_LIMIT);
    let last = shared.read(|store| store.look()).await?.last_event;
    let after = match after.as_str() {
        "latest" => last,
        text => number(text).ok_or_else(|| {
            Problem::field("after", "this is the number of an event, or `latest`")
        })?,
    };
    if after > last {
        let detail = format!(
            "this history ends at {last}: a cursor beyond it belongs to another; begin again with \
             after=0"
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail).of("after"));
    }
    let asked = Asked { after, limit, wait, filter };
    let (events, next) = gather(shared, caller, &asked).await?;
    Ok(json(StatusCode::OK, &Events { store, events, next }))
}

/// What is asked for.
struct Asked {
    after: u64,
    limit: usize,
    wait: Duration,
    filter: EventFilter,
}

fn filter(query: &mut Parameters) -> Result<EventFilter, Problem> {
    let scope = query.take("scope").map(|text| parse("scope", &text)).transpose()?;
    let actions = query.take("action");
    let actions = actions.iter().flat_map(|text| text.split(',')).map(|name| parse("action", name));
    Ok(EventFilter { scope, actions: actions.collect::<Result<_, _>>()? })
}

fn bounded(
    query: &mut Parameters,
    name: &str,
    least: u64,
    most: u64,
) -> Result<Option<u64>, Problem> {
    let Some(text) = query.take(name) else { return Ok(None) };
    match number(&text) {
        Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(Problem::field(name, format!("this is a number from {least} to {most}"))),
    }
}

/// A number in digits alone: a plus sign in a query is as often meant as a space.
fn number(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

/// Reads until there is something for the caller, the history ends and `wait` is over, or the
/// service stops. The cursor moves past events that the caller may not or does not want to see, and
/// is given out after so many of them that one has to ask again rather than hold the store up.
async fn gather(
    shared: &Shared,
    caller: &Caller,
    asked: &Asked,
) -> Result<(Vec<EventView>, u64), Problem> {
    let limit = asked.limit;
    let deadline = tokio::time::Instant::now() + asked.wait;
    let mut last_event = shared.last_event().clone();
    let mut phases = shared.phases.clone();
    let sees_all = caller.is_free() && asked.filter.is_all();
    let page = if sees_all { limit } else { MAX_LIMIT };
    let (mut next, mut pages) = (asked.after, 0);
    loop {
        let from = next;
        let entries = shared.read(move |store| store.entries(Page::After(from), page)).await?;
        let last = entries.last().map_or(next, |entry| entry.event.number);
        let at_end = entries.len() < page;
        pages += 1;
        let (mut events, mut size) = (Vec::new(), 0);
        for entry in entries {
            if events.len() == limit || size > MAX_SIZE {
                break;
            }
            next = entry.event.number;
            if !asked.filter.admits(&entry.event) {
                continue;
            }
            size += entry.note.as_ref().map_or(0, String::len) + EVENT_SIZE;
            events.extend(view(caller, entry));
        }
        // The wait may have been long, and the key been revoked meanwhile.
        caller.require_current(shared)?;
        if !events.is_empty() || pages == MAX_PAGES {
            return Ok((events, next));
        }
        if !at_end || next < last {
            continue;
        }
        tokio::select! {
            () = grown(&mut last_event, next) => {}
            () = reached(&mut phases, Phase::Draining) => return Ok((events, next)),
            () = tokio::time::sleep_until(deadline) => return Ok((events, next)),
        }
    }
}

/// Waits until the history goes beyond `seen`; for ever when nobody looks any more.
async fn grown(last_event: &mut watch::Receiver<u64>, seen: u64) {
    if last_event.wait_for(|&last| last > seen).await.is_err() {
        std::future::pending().await
    }
}

/// The event as the caller may see it; `None` for one outside the caller's scopes. A bound
/// caller gets no recipient identifiers, which would tie events of different scopes together.
fn view(caller: &Caller, entry: Entry) -> Option<EventView> {
    if caller.is_free() {
        return Some(entry.into());
    }
    let scope = entry.event.scope.as_ref()?;
    caller.reaches(scope).then(|| EventView { recipient_id: None, ..entry.into() })
}
