//! The history in order, from a cursor, and waiting for what comes next.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::filter::EventFilter;
use super::super::phase::{Phase, reached};
use super::super::reply::Reply;
use super::super::shared::Shared;
use super::super::shared_pages::{Part, SharedEntry};
use super::super::watcher::beyond;
use super::access::Caller;
use super::request::{Parameters, parse};
use super::{Problem, json};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;
const MAX_WAIT: u64 = 60;

/// More than there are.
const MAX_ACTIONS: usize = 20;

/// An answer ends early at about so many octets, since slow readers keep it in memory.
const MAX_SIZE: usize = 256 * 1024;

/// Pages that one request reads at most.
const MAX_PAGES: usize = 32;

#[derive(Serialize)]
struct Events<'s> {
    store: &'s str,
    events: Vec<&'s RawValue>,
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
    let end = shared.look().await?.last_event;
    let after = match after.as_str() {
        "latest" => end,
        text => number(text).ok_or_else(|| {
            Problem::field("after", "this is the number of an event, or `latest`")
        })?,
    };
    if after > end {
        let detail = format!(
            "this history ends at {end}: a cursor beyond it belongs to another; begin again with \
             after=0"
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail).of("after"));
    }
    follow(shared, caller, Asked { after, limit, wait, filter }, end).await
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
    let names = || actions.iter().flat_map(|text| text.split(','));
    if names().nth(MAX_ACTIONS).is_some() {
        let detail = format!("these are more than {MAX_ACTIONS} actions");
        return Err(Problem::field("action", detail));
    }
    let actions = names().map(|name| parse("action", name)).collect::<Result<_, _>>()?;
    Ok(EventFilter { scope, actions })
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
/// service stops; `end` is where the history ends. The cursor moves past events that the caller may
/// not or does not want to see, and is given out after so many of them that one has to ask again
/// rather than hold the store up.
async fn follow(
    shared: &Shared,
    caller: &Caller,
    asked: Asked,
    mut end: u64,
) -> Result<Reply, Problem> {
    let store = shared.store()?.name();
    let deadline = tokio::time::Instant::now() + asked.wait;
    let mut last_event = shared.last_event().clone();
    let mut phases = shared.phases.clone();
    let sees_all = caller.is_free() && asked.filter.is_all();
    let most = if sees_all { asked.limit } else { MAX_LIMIT };
    let (mut next, mut pages) = (asked.after, 0);
    loop {
        while next < end {
            let limit = usize::try_from(end - next).unwrap_or(most).min(most);
            let page = shared.pages.read(shared, Part { after: next, limit, end }).await;
            // The wait may have been long, and the key been revoked meanwhile.
            caller.require_current(shared)?;
            let events;
            (events, next) = choose(page.entries()?, caller, &asked, next)?;
            pages += 1;
            if !events.is_empty() || pages == MAX_PAGES {
                return Ok(json(StatusCode::OK, &Events { store, events, next }));
            }
        }
        end = tokio::select! {
            end = beyond(&mut last_event, next) => end,
            () = reached(&mut phases, Phase::Draining) => break,
            () = tokio::time::sleep_until(deadline) => break,
        };
    }
    Ok(json(StatusCode::OK, &Events { store, events: Vec::new(), next }))
}

/// As many of the entries as are for the caller and fit into an answer, as the caller may see
/// them, and the cursor behind those and whatever was passed over.
fn choose<'p>(
    entries: &'p [SharedEntry],
    caller: &Caller,
    asked: &Asked,
    mut next: u64,
) -> Result<(Vec<&'p RawValue>, u64), Problem> {
    let (mut events, mut size) = (Vec::new(), 0);
    for shared in entries {
        if events.len() == asked.limit || size > MAX_SIZE {
            break;
        }
        let event = &shared.entry.event;
        next = event.number;
        if !asked.filter.admits(event) {
            continue;
        }
        // A bound caller gets nothing outside the scopes, and no recipient identifiers.
        let seen = match &event.scope {
            _ if caller.is_free() => shared.whole(),
            Some(scope) if caller.reaches(scope) => shared.without_id(),
            _ => continue,
        };
        let seen = seen.map_err(|error| Problem::internal(error))?;
        size += seen.get().len();
        events.push(seen);
    }
    Ok((events, next))
}
