//! Counting what recipients and senders did.

use std::collections::BTreeMap;

use serde::Serialize;

use super::codes::{Action, Reason, Source};
use super::error::StoreError;
use super::event::Event;
use super::recipient::RecipientId;
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

/// Counts events that changed something or say why somebody left, so that repeats do not weigh, and
/// what was taken back once; of those whose scope `is_seen`. `None` when it `is_enough` before all are counted.
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
    let (mut counts, mut weighing) = (Counts::new(), Weighing::default());
    let is_whole = visit(store, span, u64::MAX, &mut |events| {
        if is_enough() {
            return false;
        }
        for event in events {
            if weighing.weighs(&event) && is_seen(event.scope.as_ref()) {
                *counts.entry(cell(event)).or_default() += 1;
            }
        }
        true
    })?;
    Ok(is_whole.then_some(counts))
}

/// Tells which events are counted, of those of a span in their order: those that changed something or
/// say why somebody left.
#[derive(Default)]
pub(super) struct Weighing {
    /// Where and whose the event before was, if something was taken back by it.
    undo: Option<(u64, Time, Option<RecipientId>)>,
}

impl Weighing {
    pub(super) fn weighs(&mut self, event: &Event) -> bool {
        let goes_on = event.undoes.is_none()
            && is_undo(event)
            && self.undo == Some((event.number - 1, event.at, event.recipient));
        self.undo = is_undo(event).then_some((event.number, event.at, event.recipient));
        // What an act had ended beneath its scope comes back with it, in events of their own.
        !goes_on && (event.changed || event.action == Action::Feedback)
    }
}

/// Whether a recipient took back what they had just done: nothing else on the page is an opt-in.
pub(super) fn is_undo(event: &Event) -> bool {
    event.undoes.is_some() || (event.action == Action::OptIn && event.source == Source::Page)
}

/// Shows the events of a span that are none after `upto`, some at a time, until there are no more or
/// it is told to stop; whether it showed all.
pub(super) fn visit(
    store: &dyn Store,
    span: &Span,
    upto: u64,
    visitor: &mut dyn FnMut(Vec<Event>) -> bool,
) -> Result<bool, StoreError> {
    let mut after = match span.since.and_then(Time::just_before) {
        Some(before) => store.last_event_at(before)?,
        None => 0,
    };
    loop {
        let mut events = store.events(Page::After(after), PAGE)?;
        let Some(last) = events.last() else { return Ok(true) };
        after = last.number;
        let is_over = after >= upto || span.until.is_some_and(|until| last.at >= until);
        events.retain(|event| event.number <= upto && span.holds(event.at));
        if !visitor(events) {
            return Ok(false);
        }
        if is_over {
            return Ok(true);
        }
    }
}

fn cell(event: Event) -> Cell {
    let action = if is_undo(&event) { "undo" } else { event.action.name() };
    Cell {
        day: event.at.day(),
        scope: event.scope.map(|scope| scope.to_string()),
        campaign: event.campaign,
        action,
        reason: event.reason,
        value: event.value,
    }
}
