//! Taking back: the link that an act came by takes back its own last act, for an hour. After that
//! coming back is the sender's sign-up, since a forwarded link must not subscribe anybody.

use std::time::Duration;

use crate::ledger::{
    Act, Action, Command, Entry, Event, Frequency, Reason, Source, Standing, Time,
};
use crate::link::{Opened, Scope};

/// How long an act can be taken back.
const FOR: Duration = Duration::from_secs(60 * 60);

/// How many of a recipient's events are looked at for what stood before.
pub(super) const LOOKBACK: usize = 200;

/// What can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undoable {
    /// The newest of its events, by which a form names it.
    pub(super) event: u64,
    /// Until when it can.
    pub(super) until: Time,
    /// What takes it back.
    acts: Vec<Act>,
}

impl Undoable {
    /// The last act by this link among the recipient's events, newest first, at the time `at`.
    pub(super) fn of(
        entries: &[Entry],
        standing: &Standing,
        opened: &Opened,
        at: Time,
    ) -> Option<Self> {
        let events: Vec<&Event> = entries
            .iter()
            .map(|entry| &entry.event)
            // Saying why takes nothing away from it.
            .filter(|event| event.action != Action::Feedback)
            .collect();
        let newest = *events.first()?;
        let until = newest.at.plus(FOR);
        if at >= until {
            return None;
        }
        // A form that leaves several lists is recorded at once.
        let together = events
            .iter()
            .take_while(|event| event.at == newest.at && is_own(event, opened))
            .count();
        let (own, before) = events.split_at(together);
        let take_back = |event: &&Event| take_back(event, before, standing, at);
        let acts: Vec<Act> = own.iter().filter_map(take_back).collect();
        (!acts.is_empty()).then_some(Self { event: newest.number, until, acts })
    }

    /// The commands that take it back.
    pub(super) fn commands(self, click: &Command) -> Vec<Command> {
        let command = |act| Command { act, ..click.clone() };
        self.acts.into_iter().map(command).collect()
    }
}

/// Whether an event came by this link, and changed something.
fn is_own(event: &Event, opened: &Opened) -> bool {
    let campaign = event.campaign.as_deref().unwrap_or_default();
    let by_link = matches!(event.source, Source::OneClick | Source::Page | Source::Mailto);
    by_link && event.changed && event.key == Some(opened.key) && campaign == opened.link.campaign()
}

/// What takes one event back, to what stood before it; `before` are the older ones, newest first.
fn take_back(event: &Event, before: &[&Event], standing: &Standing, at: Time) -> Option<Act> {
    let scope = event.scope.clone()?;
    // What stood before the act, which only ended an exception from it, stays.
    let made = |reason| {
        standing
            .active(at)
            .any(|own| own.scope == scope && own.reason == reason && own.event == event.number)
    };
    match (event.action, scope.clone()) {
        (Action::OptOut, scope) if made(Reason::Unsubscribe) => {
            Some(Act::TakeBack { scope, reason: Reason::Unsubscribe, until: None })
        }
        (Action::Pause, scope) if made(Reason::Pause) => {
            let until = pause_before(&scope, before, at);
            Some(Act::TakeBack { scope, reason: Reason::Pause, until })
        }
        (Action::Preference, Scope::List(list)) => {
            let chosen =
                |older: &&&Event| older.action == Action::Preference && older.scope == event.scope;
            let value = before.iter().find(chosen).and_then(|older| older.value.as_deref());
            let frequency = value.and_then(|value| value.parse().ok()).unwrap_or(Frequency::Every);
            Some(Act::Prefer { list, frequency })
        }
        _ => None,
    }
}

/// When the pause of a scope would have ended, had it not been extended.
fn pause_before(scope: &Scope, before: &[&Event], at: Time) -> Option<Time> {
    // Whatever ended it ended it, and what came earlier does not matter.
    let ends = |older: &&&Event| matches!(older.action, Action::OptIn | Action::Release);
    let since = before.iter().take_while(|older| !ends(older));
    since
        .filter(|older| older.action == Action::Pause && older.scope.as_ref() == Some(scope))
        .filter_map(|older| older.until)
        .filter(|until| *until > at)
        .max()
}
