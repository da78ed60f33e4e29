//! Counting what recipients and senders did.

use std::collections::BTreeMap;

use serde::Serialize;

use super::codes::{Action, Reason};
use super::error::StoreError;
use super::event::Event;
use super::store::{Page, Store};
use super::time::Time;
use crate::link::Scope;

/// Events that are read at a time.
const PAGE: usize = 1000;

/// What counts are kept apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    /// The day in UTC, as `2026-01-31`.
    pub day: String,
    /// The list or wider scope.
    pub scope: Option<String>,
    /// The sender's name for what was sent.
    pub campaign: Option<String>,
    /// An action's name, or `undo` where a recipient took back what they had just done.
    pub action: &'static str,
    /// The reason that was given, ended or recorded.
    pub reason: Option<Reason>,
    /// What was chosen: a frequency, or why somebody left.
    pub value: Option<String>,
}

/// How many events there are in each cell.
pub type Counts = BTreeMap<Cell, u64>;

/// Which events are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Those recorded at this time or later.
    pub since: Option<Time>,
    /// Those recorded before this time.
    pub until: Option<Time>,
}

impl Span {
    /// Whether a time is in it.
    pub fn holds(&self, time: Time) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}

/// Counts events that changed something or say why somebody left, so that repeats do not weigh;
/// of those whose scope `is_seen`. `None` when it `is_enough` before all are counted.
///
/// # Errors
///
/// When the store cannot be read.
pub fn count(
    store: &dyn Store,
    span: &Span,
    is_seen: &dyn Fn(Option<&Scope>) -> bool,
    is_enough: &dyn Fn() -> bool,
) -> Result<Option<Counts>, StoreError> {
    let mut counts = Counts::new();
    let is_whole = visit(store, span, &mut |events| {
        if is_enough() {
            return false;
        }
        for event in events {
            if weighs(&event) && is_seen(event.scope.as_ref()) {
                *counts.entry(cell(event)).or_default() += 1;
            }
        }
        true
    })?;
    Ok(is_whole.then_some(counts))
}

/// Whether an event is counted: it changed something, or says why somebody left.
pub(super) fn weighs(event: &Event) -> bool {
    event.changed || event.action == Action::Feedback
}

/// Shows the events of a span, some at a time, until there are no more or it is told to stop;
/// whether it showed all.
pub(super) fn visit(
    store: &dyn Store,
    span: &Span,
    visitor: &mut dyn FnMut(Vec<Event>) -> bool,
) -> Result<bool, StoreError> {
    let mut after = span.since.map_or(Ok(0), |since| last_before(store, since))?;
    loop {
        let mut events = store.events(Page::After(after), PAGE)?;
        let Some(last) = events.last() else { return Ok(true) };
        after = last.number;
        let is_over = span.until.is_some_and(|until| last.at >= until);
        events.retain(|event| span.holds(event.at));
        if !visitor(events) {
            return Ok(false);
        }
        if is_over {
            return Ok(true);
        }
    }
}

/// The last event before a time; times never run backwards.
fn last_before(store: &dyn Store, time: Time) -> Result<u64, StoreError> {
    let (mut before, mut from) = (0, store.look()?.last_event + 1);
    while before + 1 < from {
        let middle = before + (from - before) / 2;
        match store.event(middle)?.is_some_and(|event| event.at < time) {
            true => before = middle,
            false => from = middle,
        }
    }
    Ok(before)
}

fn cell(event: Event) -> Cell {
    Cell {
        day: event.at.day(),
        scope: event.scope.map(|scope| scope.to_string()),
        campaign: event.campaign,
        action: event.undoes.map_or(event.action.name(), |_| "undo"),
        reason: event.reason,
        value: event.value,
    }
}
