//! Taking back: the link that an act came by takes back its own last act, for an hour. After that
//! coming back is the sender's sign-up, since a forwarded link must not subscribe anybody.

use std::time::Duration;

use super::super::click::tell_apart;
use crate::ledger::{
    Act, Action, Event, Frequency, LinkMark, Preference, Reason, Recipient, Source, Standing,
    Store, StoreError, Time, decide,
};
use crate::link::{ListId, Opened, Scope};

/// How long an act can be taken back.
const FOR: Duration = Duration::from_secs(60 * 60);

/// Of a recipient with more events than this nothing is taken back: what stood before each is
/// found by going through all.
const LOOKBACK: usize = 500;

/// What one link did, newest first, among all that happened to its recipient.
#[derive(Debug, Default)]
pub(super) struct Deeds {
    /// What can be taken back.
    pub(super) undo: Option<Undoable>,
    /// The events that were taken back.
    pub(super) undone: Vec<u64>,
    /// What was left by one form or click, the last that left anything.
    pub(super) left: Vec<Scope>,
}

/// What can be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undoable {
    /// The newest of its events, by which a form names it.
    pub(super) event: u64,
    /// Until when it can.
    pub(super) until: Time,
    /// What takes it back.
    pub(super) acts: Vec<Act>,
}

impl Deeds {
    /// Reads them, as of `at`, when this stands.
    pub(super) fn read(
        store: &dyn Store,
        recipient: &Recipient,
        opened: &Opened,
        standing: &Standing,
        at: Time,
    ) -> Result<Self, StoreError> {
        let entries = store.entries_about(recipient, u64::MAX, LOOKBACK)?;
        let is_all = entries.len() < LOOKBACK;
        let mark = store.link_mark(recipient, &tell_apart(&opened.link));
        let link = OwnLink { opened, mark };
        let events: Vec<Event> = entries.into_iter().map(|entry| entry.event).collect();
        let left = events.iter().position(|event| link.did(event) && has_left(event));
        let left = left.map_or(&[][..], |newest| form(&events[newest..]));
        Ok(Self {
            undo: if is_all { undoable(&events, &link, standing, at) } else { None },
            undone: events.iter().filter(|e| link.did(e)).filter_map(|e| e.undoes).collect(),
            left: left.iter().filter_map(|event| event.scope.clone()).collect(),
        })
    }
}

/// A link, as events tell it from others.
struct OwnLink<'a> {
    opened: &'a Opened,
    mark: LinkMark,
}

impl OwnLink<'_> {
    /// Whether an event came by this link. A provider's click is not marked, so it is taken for
    /// this link's when it left the list by a link of the same mailing.
    fn did(&self, event: &Event) -> bool {
        let (link, campaign) = (&self.opened.link, self.opened.link.campaign());
        let is_marked = match event.link {
            Some(mark) => mark == self.mark,
            None => !campaign.is_empty() && event.scope == Some(link.list().clone().into()),
        };
        is_marked
            && matches!(event.source, Source::OneClick | Source::Page | Source::Mailto)
            && event.key == Some(self.opened.key)
            && event.campaign.as_deref().unwrap_or_default() == campaign
    }
}

fn has_left(event: &Event) -> bool {
    event.changed && event.action == Action::OptOut
}

/// The first event and those older ones that came by the same form, newest first: a choice among
/// lists leaves several, none within another.
fn form(events: &[Event]) -> &[Event] {
    let Some(newest) = events.first() else { return &[] };
    let belongs = |(older, n): (&Event, usize)| {
        has_left(newest)
            && has_left(older)
            && newest.source == Source::Page
            && (older.at, older.link, older.number + n as u64)
                == (newest.at, newest.link, newest.number)
            && !events[..n].iter().any(|other| overlap(other, older))
    };
    let older = events[1..].iter().zip(1..).take_while(|pair| belongs(*pair)).count();
    &events[..=older]
}

fn overlap(one: &Event, other: &Event) -> bool {
    match (&one.scope, &other.scope) {
        (Some(one), Some(other)) => one.includes(other) || other.includes(one),
        _ => false,
    }
}

/// The last act by the link among the recipient's events, newest first, unless somebody decided
/// on the same since.
fn undoable(
    events: &[Event],
    link: &OwnLink<'_>,
    standing: &Standing,
    at: Time,
) -> Option<Undoable> {
    let is_act = |event: &Event| event.changed && event.action != Action::Feedback;
    let newest = events.iter().position(|event| link.did(event) && is_act(event))?;
    let (later, own) = (&events[..newest], form(&events[newest..]));
    let before = &events[newest + own.len()..];
    let until = own.first()?.at.plus(FOR);
    let is_choice = |event: &Event| event.action == Action::Preference;
    let decides_again = |event: &Event| {
        event.action != Action::Feedback
            && !link.did(event)
            && own.iter().any(|own| overlap(own, event) && is_choice(own) == is_choice(event))
    };
    if at >= until || later.iter().any(decides_again) {
        return None;
    }
    let before = stood_after(before);
    let acts: Vec<Act> =
        own.iter().flat_map(|event| take_back(event, &before, standing, at)).collect();
    (!acts.is_empty()).then(|| Undoable { event: events[newest].number, until, acts })
}

/// What stood after these events, newest first.
fn stood_after(events: &[Event]) -> Standing {
    let mut standing = Standing::default();
    for event in events.iter().rev() {
        if let Some(act) = Act::of(event) {
            let since = event.occurred.unwrap_or(event.at);
            standing = decide(&standing, &act, event.at, since, event.number).standing;
        }
    }
    standing
}

/// What brings one event back to what stood before it, as far as that is still its doing.
fn take_back(event: &Event, before: &Standing, now: &Standing, at: Time) -> Vec<Act> {
    let Some(scope) = event.scope.clone().filter(|_| event.undoes.is_none()) else {
        return Vec::new();
    };
    let number = event.number;
    let made = |reason| {
        now.active(at).any(|own| own.scope == scope && own.reason == reason && own.event == number)
    };
    let end = |reason, until| Act::TakeBack { event: number, scope: scope.clone(), reason, until };
    let mut acts = Vec::new();
    match (event.action, &scope) {
        (Action::OptOut, _) if made(Reason::Unsubscribe) => {
            acts.push(end(Reason::Unsubscribe, None));
        }
        (Action::Pause, _) if made(Reason::Pause) => {
            let mut paused = before.active(at).filter(|own| own.reason == Reason::Pause);
            let earlier = paused.find(|own| own.scope == scope);
            acts.push(end(Reason::Pause, earlier.and_then(|own| own.until)));
        }
        (Action::Preference, Scope::List(list)) => {
            let frequency = chosen(before, list);
            if chosen(now, list).name() == event.value.as_deref().unwrap_or_default() {
                acts.push(Act::Prefer { list: list.clone(), frequency, undoes: Some(number) });
            }
        }
        _ => {}
    }
    if matches!(event.action, Action::OptOut | Action::Pause) {
        // Lists that the recipient had come back to, and that the act covered again.
        let lost = before.exceptions().iter().filter(|list| scope.covers(list));
        let lost = lost.filter(|list| !now.exceptions().contains(list));
        acts.extend(lost.map(|list| Act::OptIn { list: list.clone() }));
    }
    acts
}

fn chosen(standing: &Standing, list: &ListId) -> Frequency {
    let chosen = standing.preference_for(list);
    chosen.map_or(Frequency::Every, |Preference { frequency, .. }| *frequency)
}
