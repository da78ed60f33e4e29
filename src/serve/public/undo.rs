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
        let mark = store.link_mark(recipient, &tell_apart(opened));
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
        if let Some(mark) = event.link {
            return mark == self.mark;
        }
        let (link, campaign) = (&self.opened.link, self.opened.link.campaign());
        matches!(event.source, Source::OneClick | Source::Mailto)
            && !campaign.is_empty()
            && event.campaign.as_deref() == Some(campaign)
            && event.scope == Some(link.list().clone().into())
            && event.key == Some(self.opened.key)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Command, DataDir, SqliteStore};
    use crate::link::{Keyring, Link, SigningKey};
    use crate::serve::click;

    const WEEKLY: &str = "weekly.shop.example";
    const DAILY: &str = "daily.shop.example";
    const HOUR: i64 = 60 * 60 * 1000;

    fn at(millis: i64) -> Time {
        Time::from_millis(1_800_000_000_000 + millis).expect("in range")
    }

    fn scope(text: &str) -> Scope {
        text.parse().expect("a scope")
    }

    fn link(list: &str, campaign: &str, issued: u32) -> Opened {
        let key = SigningKey::from_bytes([3; 32]);
        let list = list.parse().expect("a list");
        let link = Link::new(issued, list, campaign, "alice@example.org").expect("a link");
        let token = link.seal(&key);
        Keyring::of(key).open(token.as_str()).expect("it opens")
    }

    fn opt_out(of: &str) -> Act {
        Act::OptOut { scope: scope(of) }
    }

    fn pause(until: i64) -> Act {
        Act::Pause { scope: scope(WEEKLY), until: at(until) }
    }

    fn prefer(frequency: Frequency) -> Act {
        Act::Prefer { list: WEEKLY.parse().expect("a list"), frequency, undoes: None }
    }

    struct Tried {
        _dir: tempfile::TempDir,
        store: SqliteStore,
        who: Recipient,
    }

    impl Tried {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let store = SqliteStore::create(&DataDir::new(dir.path())).expect("a store");
            let who = Recipient::parse("alice@example.org").expect("a recipient");
            Self { _dir: dir, store, who }
        }

        /// Acts of one form.
        fn by(&self, link: &Opened, source: Source, acts: &[Act], now: i64) {
            let click = click::opt_out(link, source);
            let commands: Vec<Command> =
                acts.iter().map(|act| Command { act: act.clone(), ..click.clone() }).collect();
            self.store.record(&commands, at(now)).expect("recorded");
        }

        fn by_api(&self, act: Act, now: i64) {
            let command = Command::new(self.who.clone(), act, Source::Api);
            self.store.record(&[command], at(now)).expect("recorded");
        }

        fn standing(&self) -> Standing {
            let mut all = self.store.standings(std::slice::from_ref(&self.who)).expect("read");
            all.pop().unwrap_or_default()
        }

        fn deeds(&self, link: &Opened, now: i64) -> Deeds {
            let standing = self.standing();
            Deeds::read(&self.store, &self.who, link, &standing, at(now)).expect("read")
        }

        /// Whether the link can take something back; does it then.
        fn undo(&self, link: &Opened, now: i64) -> bool {
            let Some(undo) = self.deeds(link, now).undo else { return false };
            self.by(link, Source::Page, &undo.acts, now);
            true
        }

        fn stands(&self, now: i64) -> Vec<(String, Reason, Option<Time>)> {
            let standing = self.standing();
            standing
                .active(at(now))
                .map(|own| (own.scope.to_string(), own.reason, own.until))
                .collect()
        }
    }

    #[test]
    fn it_takes_an_hour_and_the_same_link() {
        let tried = Tried::new();
        let own = link(WEEKLY, "c", 1);
        tried.by(&own, Source::Page, &[opt_out(WEEKLY)], 0);
        for other in [link(DAILY, "c", 1), link(WEEKLY, "d", 1), link(WEEKLY, "c", 2)] {
            assert!(tried.deeds(&other, 1).undo.is_none());
        }
        assert!(tried.deeds(&own, HOUR).undo.is_none());
        assert!(tried.undo(&own, HOUR - 1));
        assert_eq!(tried.stands(HOUR), []);
        assert_eq!(tried.deeds(&own, HOUR).undone, [1]);
        assert!(tried.deeds(&own, HOUR).undo.is_none(), "what is undone is not redone");
    }

    #[test]
    fn a_providers_click_is_taken_back_by_a_link_of_its_mailing_alone() {
        for (campaign, can) in [("c", true), ("", false)] {
            let tried = Tried::new();
            tried.by(&link(WEEKLY, campaign, 1), Source::OneClick, &[opt_out(WEEKLY)], 0);
            assert!(!tried.undo(&link(DAILY, campaign, 1), 1));
            assert_eq!(tried.undo(&link(WEEKLY, campaign, 1), 1), can, "{campaign}");
        }
    }

    #[test]
    fn whoever_decides_again_keeps_it_from_being_taken_back() {
        let (own, other) = (link(WEEKLY, "c", 1), link(WEEKLY, "d", 1));
        let tried = Tried::new();
        tried.by(&own, Source::Page, &[opt_out(WEEKLY)], 0);
        tried.by(&link(DAILY, "c", 1), Source::Page, &[opt_out(DAILY)], 1);
        assert!(tried.deeds(&own, 2).undo.is_some(), "another list is another matter");
        tried.by(&own, Source::OneClick, &[opt_out(WEEKLY)], 3);
        assert!(tried.deeds(&own, 4).undo.is_some(), "its own click says the same");
        tried.by(&other, Source::Page, &[opt_out(WEEKLY)], 5);
        assert!(tried.deeds(&own, 6).undo.is_none(), "another message's link says so too");

        let tried = Tried::new();
        tried.by(&own, Source::Page, &[pause(HOUR * 48)], 0);
        tried.by_api(pause(HOUR * 96), 1);
        assert!(tried.deeds(&own, 2).undo.is_none());

        // A form that names an event whose doing stands no more changes nothing.
        let tried = Tried::new();
        tried.by(&own, Source::Page, &[opt_out(WEEKLY)], 0);
        let undo = tried.deeds(&own, 1).undo.expect("it can be");
        tried.by_api(Act::OptIn { list: WEEKLY.parse().expect("a list") }, 2);
        tried.by_api(opt_out(WEEKLY), 3);
        tried.by(&own, Source::Page, &undo.acts, 4);
        assert_eq!(tried.stands(5).len(), 1);
    }

    #[test]
    fn a_pause_that_was_extended_ends_as_it_did_before_however_often() {
        let tried = Tried::new();
        let own = link(WEEKLY, "c", 1);
        let earlier = HOUR * 48;
        tried.by(&own, Source::Page, &[pause(earlier)], 0);
        tried.by(&link(DAILY, "c", 1), Source::Page, &[opt_out(DAILY)], 1);
        tried.by_api(Act::OptIn { list: DAILY.parse().expect("a list") }, 2);
        for n in 1..4 {
            tried.by(&own, Source::Page, &[pause(earlier + HOUR * n)], 10 * n);
            assert!(tried.undo(&own, 10 * n + 1));
            let pause = (WEEKLY.to_owned(), Reason::Pause, Some(at(earlier)));
            assert_eq!(tried.stands(50), [pause], "{n}");
        }
    }

    #[test]
    fn a_choice_of_several_lists_is_one_act_and_what_was_left_before_stays() {
        let tried = Tried::new();
        let own = link(WEEKLY, "c", 1);
        tried.by(&own, Source::Page, &[opt_out("old.shop.example")], 0);
        tried.by(&own, Source::Page, &[opt_out(DAILY), opt_out(WEEKLY)], 1);
        let deeds = tried.deeds(&own, 2);
        assert_eq!(deeds.left, [scope(WEEKLY), scope(DAILY)]);
        assert!(tried.undo(&own, 2));
        let left = ("old.shop.example".to_owned(), Reason::Unsubscribe, None);
        assert_eq!(tried.stands(3), [left]);
    }

    /// While the clock is behind, all is recorded at one time.
    #[test]
    fn forms_are_told_apart_though_the_clock_stands_still() {
        let tried = Tried::new();
        let own = link(WEEKLY, "c", 1);
        tried.by(&own, Source::Page, &[opt_out("shop.example")], 0);
        tried.by(&own, Source::Page, &[opt_out(WEEKLY)], 0);
        tried.by(&own, Source::Page, &[pause(HOUR * 48)], 0);
        assert!(tried.undo(&own, 0));
        let reasons = |now| tried.stands(now).into_iter().map(|own| own.1).collect::<Vec<_>>();
        assert_eq!(reasons(1), [Reason::Unsubscribe; 2]);
    }

    #[test]
    fn lists_that_were_come_back_to_are_had_again() {
        let tried = Tried::new();
        let own = link(WEEKLY, "c", 1);
        tried.by_api(opt_out("shop.example"), 0);
        tried.by_api(Act::OptIn { list: WEEKLY.parse().expect("a list") }, 1);
        let before = tried.standing();
        for act in [opt_out(WEEKLY), pause(HOUR * 48), opt_out("shop.example")] {
            tried.by(&own, Source::Page, std::slice::from_ref(&act), 2);
            assert_eq!(tried.standing().exceptions(), []);
            assert!(tried.undo(&own, 3), "{act:?}");
            assert_eq!(tried.standing(), before, "{act:?}");
        }
    }

    #[test]
    fn a_frequency_goes_back_to_the_one_before() {
        let tried = Tried::new();
        let own = link(WEEKLY, "c", 1);
        let chosen = || chosen(&tried.standing(), &WEEKLY.parse().expect("a list"));
        tried.by(&own, Source::Page, &[prefer(Frequency::Weekly)], 0);
        tried.by(&own, Source::Page, &[prefer(Frequency::Monthly)], 1);
        assert!(tried.undo(&own, 2));
        assert_eq!(chosen(), Frequency::Weekly);
        assert!(!tried.undo(&own, 3), "what is undone is not redone");
        let found = tried.store.verify(None, &mut |_| ()).expect("read");
        assert_eq!(found.faults, Vec::<String>::new());
    }
}
