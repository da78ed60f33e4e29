//! The policy: from what stands for a recipient and what is asked to what stands then. Pure; the
//! store calls it inside its transaction, and `verify` calls it again over the history.
//!
//! Reasons stand side by side: a recipient has at most one suppression for each scope and
//! reason, each with its own end, and none replaces another. [`decide`] has the table.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::str::FromStr;

use super::codes::{Action, Frequency, Reason, Why};
use super::essential::Essential;
use super::event::Event;
use super::standing::{Standing, Suppression};
use super::time::Time;
use crate::link::{ListId, Scope};

/// What is asked for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The recipient leaves a scope.
    OptOut {
        /// What is left.
        scope: Scope,
    },
    /// The recipient came back to a list by their own act.
    OptIn {
        /// The list alone, nothing beneath it.
        list: ListId,
    },
    /// The recipient wants nothing for a while.
    Pause {
        /// What is paused.
        scope: Scope,
        /// When the pause ends.
        until: Time,
    },
    /// A sender or operator stops mail, for a reason that outlasts an opt-in.
    Suppress {
        /// What is stopped.
        scope: Scope,
        /// [`Reason::Complaint`], [`Reason::Bounce`] or [`Reason::Manual`].
        reason: Reason,
        /// When it ends by itself, if it does.
        until: Option<Time>,
    },
    /// Another system's list says that nothing is to be sent.
    Import {
        /// The number of the import.
        import: u64,
        /// What is stopped.
        scope: Scope,
        /// Why, by that list.
        reason: Reason,
        /// When it ends by itself, if it does; a pause does.
        until: Option<Time>,
    },
    /// An operator ends a suppression.
    Release {
        /// Exactly the suppression's scope.
        scope: Scope,
        /// Exactly its reason.
        reason: Reason,
    },
    /// An operator takes back what an import recorded ([`withdrawal`]).
    Withdraw {
        /// The event that recorded it; what another one made or extended since stays.
        event: u64,
        /// Exactly the suppression's scope.
        scope: Scope,
        /// Exactly its reason.
        reason: Reason,
        /// The end that it would have without the import; none, it ends now.
        until: Option<Time>,
    },
    /// The recipient takes back an opt-out or a pause of theirs that has just been recorded.
    TakeBack {
        /// The event that recorded it; what another one made or extended since stays.
        event: u64,
        /// Exactly the suppression's scope.
        scope: Scope,
        /// [`Reason::Unsubscribe`] or [`Reason::Pause`].
        reason: Reason,
        /// The end it had before the act extended it; none, it ends now.
        until: Option<Time>,
    },
    /// The recipient chooses how often a list's mail comes.
    Prefer {
        /// The list alone, nothing beneath it.
        list: ListId,
        /// How often at most.
        frequency: Frequency,
        /// The event of the choice that this takes back.
        undoes: Option<u64>,
    },
    /// The recipient says why they left.
    Explain {
        /// What they left.
        scope: Scope,
        /// Why.
        why: Why,
    },
    /// The recipient's address and texts are to be erased.
    Forget,
}

impl Act {
    /// A suppression for any reason, as the act that stands for it.
    ///
    /// # Errors
    ///
    /// An unsubscribe cannot have an end, and a pause needs one.
    pub fn for_reason(
        scope: Scope,
        reason: Reason,
        until: Option<Time>,
    ) -> Result<Self, &'static str> {
        match (reason, until) {
            (Reason::Unsubscribe, None) => Ok(Self::OptOut { scope }),
            (Reason::Unsubscribe, Some(_)) => {
                Err("an unsubscribe has no end: leave it out, or use the reason pause")
            }
            (Reason::Pause, Some(until)) => Ok(Self::Pause { scope, until }),
            (Reason::Pause, None) => {
                Err("a pause needs its end: give the time until which it lasts")
            }
            (reason, until) => Ok(Self::Suppress { scope, reason, until }),
        }
    }

    /// The event's action.
    pub fn action(&self) -> Action {
        match self {
            Self::OptOut { .. } => Action::OptOut,
            Self::OptIn { .. } | Self::TakeBack { .. } => Action::OptIn,
            Self::Pause { .. } => Action::Pause,
            Self::Suppress { .. } => Action::Suppress,
            Self::Import { .. } => Action::Import,
            Self::Release { .. } | Self::Withdraw { .. } => Action::Release,
            Self::Prefer { .. } => Action::Preference,
            Self::Explain { .. } => Action::Feedback,
            Self::Forget => Action::Forget,
        }
    }

    /// The event's scope.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::OptOut { scope }
            | Self::Pause { scope, .. }
            | Self::Suppress { scope, .. }
            | Self::Import { scope, .. }
            | Self::Release { scope, .. }
            | Self::Withdraw { scope, .. }
            | Self::TakeBack { scope, .. }
            | Self::Explain { scope, .. } => Some(scope.clone()),
            Self::OptIn { list } | Self::Prefer { list, .. } => Some(list.clone().into()),
            Self::Forget => None,
        }
    }

    /// The event's reason: what is to stand, or what is to end.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::OptOut { .. } => Some(Reason::Unsubscribe),
            Self::Pause { .. } => Some(Reason::Pause),
            Self::Suppress { reason, .. }
            | Self::Import { reason, .. }
            | Self::Release { reason, .. }
            | Self::Withdraw { reason, .. }
            | Self::TakeBack { reason, .. } => Some(*reason),
            Self::OptIn { .. } | Self::Prefer { .. } | Self::Explain { .. } | Self::Forget => None,
        }
    }

    /// The event's end.
    pub fn until(&self) -> Option<Time> {
        match self {
            Self::Pause { until, .. } => Some(*until),
            Self::Suppress { until, .. }
            | Self::Import { until, .. }
            | Self::Withdraw { until, .. }
            | Self::TakeBack { until, .. } => *until,
            _ => None,
        }
    }

    /// The event's value: what was chosen, or the import's number.
    pub fn value(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Prefer { frequency, .. } => Some(frequency.name().into()),
            Self::Explain { why, .. } => Some(why.name().into()),
            Self::Import { import, .. } => Some(import.to_string().into()),
            _ => None,
        }
    }

    /// The event that is taken back.
    pub fn undoes(&self) -> Option<u64> {
        match self {
            Self::TakeBack { event, .. } | Self::Withdraw { event, .. } => Some(*event),
            Self::Prefer { undoes, .. } => *undoes,
            _ => None,
        }
    }

    /// What was asked when this event was made; `None` for events that ask nothing of a
    /// recipient's standing, or that say too little.
    pub fn of(event: &Event) -> Option<Self> {
        let scope = event.scope.clone();
        match event.action {
            Action::OptOut => Some(Self::OptOut { scope: scope? }),
            Action::Pause => Some(Self::Pause { scope: scope?, until: event.until? }),
            Action::Suppress => {
                Some(Self::Suppress { scope: scope?, reason: event.reason?, until: event.until })
            }
            Action::Import => Some(Self::Import {
                import: chosen(event)?,
                scope: scope?,
                reason: event.reason?,
                until: event.until,
            }),
            Action::Release => match (scope?, event.reason?, event.undoes) {
                (scope, reason, None) => Some(Self::Release { scope, reason }),
                (scope, reason, Some(taken)) => {
                    Some(Self::Withdraw { event: taken, scope, reason, until: event.until })
                }
            },
            Action::OptIn => match (scope?, event.reason) {
                (scope, Some(reason)) => {
                    Some(Self::TakeBack { event: event.undoes?, scope, reason, until: event.until })
                }
                (Scope::List(list), None) => Some(Self::OptIn { list }),
                (Scope::Everything, None) => None,
            },
            Action::Preference => match scope? {
                Scope::List(list) => {
                    Some(Self::Prefer { list, frequency: chosen(event)?, undoes: event.undoes })
                }
                Scope::Everything => None,
            },
            Action::Feedback => Some(Self::Explain { scope: scope?, why: chosen(event)? }),
            Action::Forget => Some(Self::Forget),
            Action::Bounce | Action::Complaint | Action::Restore | Action::Describe => None,
        }
    }
}

/// What an event's value says.
fn chosen<T: FromStr>(event: &Event) -> Option<T> {
    event.value.as_deref()?.parse().ok()
}

/// What an act came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What stands now.
    pub standing: Standing,
    /// Whether that differs from what stood before.
    pub changed: bool,
    /// For an opt-in that was refused: the stronger reason that stands.
    pub refused: Option<Suppression>,
}

/// Decides one act.
///
/// | asked | nothing such stands | it stands, as long or longer | it stands, but ends sooner |
/// |---|---|---|---|
/// | `OptOut` S | unsubscribe for S begins | nothing ¹ | nothing: it has no end |
/// | `Pause` S until U | pause for S begins | nothing ¹ | it ends at U ¹ |
/// | `Suppress` S for R until U | R for S begins | nothing | it ends at U |
/// | `Import` S for R until U | R for S begins | nothing | it ends at U |
/// | `Release` S of R | nothing | it ends | it ends |
/// | `TakeBack`, `Withdraw` N: S of R until U | nothing | it ends at U, or now ² | nothing |
///
/// ² if event N made it or extended it last; else nothing.
/// ¹ and exceptions for lists within S end: the recipient's own act covers those lists again.
///
/// | asked | a complaint, bounce or manual covers L | else, on L itself: unsubscribe, pause | else, on a wider scope: unsubscribe, pause | else |
/// |---|---|---|---|---|
/// | `OptIn` L | refused, nothing changes | they end | L becomes an exception beneath it | nothing |
/// | `Forget` | nothing: suppressions outlive the address | nothing | nothing | nothing |
///
/// `Prefer` keeps how often the recipient wants one list, which suppresses nothing by itself, and
/// `Explain` changes nothing. `Import` leaves exceptions as they are: another system's list is no later
/// act of the recipient. `TakeBack` does not bring exceptions back: it only ever restores less
/// mail than there was.
///
/// Whatever ends no later than it is recorded changes nothing. What is past its end stands no
/// more, and is dropped at the recipient's next act. An exception
/// lives as long as something wider that it is an exception from.
///
/// `at` is when it is recorded and `event` the number it would get; `since` is
/// what a new suppression shows, which differs from `at` when the source says so.
pub fn decide(standing: &Standing, act: &Act, at: Time, since: Time, event: u64) -> Decision {
    let mut after = standing.clone();
    after.settle(at);
    let mut refused = None;
    let held = |scope: &Scope, reason, until| Suppression {
        scope: scope.clone(),
        reason,
        since,
        until,
        event,
    };
    let changed = match act {
        Act::OptOut { scope } => {
            let covered = after.cover_again(scope);
            after.hold(held(scope, Reason::Unsubscribe, None), at) || covered
        }
        Act::Pause { scope, until } => {
            let pause = held(scope, Reason::Pause, Some(*until));
            let covered = pause.is_active(at) && after.cover_again(scope);
            after.hold(pause, at) || covered
        }
        Act::Suppress { scope, reason, until } | Act::Import { scope, reason, until, .. } => {
            after.hold(held(scope, *reason, *until), at)
        }
        Act::Release { scope, reason } => after.end(scope, *reason),
        Act::OptIn { list } => {
            // What outlasts an opt-in covers essential lists too.
            refused = after
                .suppression_for(list, at, &Essential::default())
                .filter(|strongest| strongest.reason.outlasts_opt_in())
                .cloned();
            refused.is_none() && come_back(&mut after, list)
        }
        Act::TakeBack { event: taken, scope, reason, until }
        | Act::Withdraw { event: taken, scope, reason, until } => {
            after.is_of(scope, *reason, *taken) && after.shorten(scope, *reason, *until, event)
        }
        Act::Prefer { list, frequency, .. } => after.prefer(list, *frequency, since),
        Act::Explain { .. } | Act::Forget => false,
    };
    after.settle(at);
    Decision { standing: after, changed, refused }
}

/// What takes back imports for one recipient, given all their events, oldest first: what stands by
/// their doing ends, or ends as soon as it would if they had never been. Whatever else was asked
/// since counts, also where it changed nothing because an import's suppression stood already.
pub fn withdrawal(events: &[Event], imports: &BTreeSet<u64>, at: Time) -> Vec<Act> {
    let (mut now, mut without) = (Standing::default(), Standing::default());
    let mut own = BTreeSet::new();
    for event in events {
        let Some(act) = Act::of(event) else { continue };
        let since = event.occurred.unwrap_or(event.at);
        now = decide(&now, &act, event.at, since, event.number).standing;
        match act {
            Act::Import { import, .. } if imports.contains(&import) => {
                own.insert(event.number);
            }
            // What it left is their doing too.
            Act::Withdraw { event: taken, .. } if own.contains(&taken) => {
                own.insert(event.number);
            }
            _ => without = decide(&without, &act, event.at, since, event.number).standing,
        }
    }
    let taken_back = |held: &Suppression| {
        let (scope, reason) = (held.scope.clone(), held.reason);
        let until = match without.holding(&scope, reason) {
            None => None,
            Some(Suppression { until: Some(until), .. }) => Some(*until),
            Some(Suppression { until: None, .. }) => return None,
        };
        Some(Act::Withdraw { event: held.event, scope, reason, until })
    };
    let made = now.active(at).filter(|held| own.contains(&held.event));
    made.filter_map(taken_back).collect()
}

/// Ends what the opt-in ends, and excepts the list from what is wider; every part is tried.
fn come_back(standing: &mut Standing, list: &ListId) -> bool {
    let own = Scope::from(list.clone());
    let ended = [Reason::Unsubscribe, Reason::Pause].map(|reason| standing.end(&own, reason));
    let excepted = standing.except(list);
    ended.contains(&true) || excepted
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn time(millis: i64) -> Time {
        Time::from_millis(millis).expect("in range")
    }

    fn scope(text: &str) -> Scope {
        text.parse().expect("a scope")
    }

    fn list(text: &str) -> ListId {
        text.parse().expect("a list")
    }

    fn opt_out(text: &str) -> Act {
        Act::OptOut { scope: scope(text) }
    }

    fn opt_in(text: &str) -> Act {
        Act::OptIn { list: list(text) }
    }

    fn suppress(text: &str, reason: Reason, until: Option<i64>) -> Act {
        Act::for_reason(scope(text), reason, until.map(time)).expect("a possible act")
    }

    fn release(text: &str, reason: Reason) -> Act {
        Act::Release { scope: scope(text), reason }
    }

    /// Runs acts one second apart and says of each whether it changed anything.
    fn run(acts: &[Act]) -> (Standing, Vec<bool>) {
        let mut standing = Standing::default();
        let mut changes = Vec::new();
        for (n, act) in acts.iter().enumerate() {
            let at = time(NOW + n as i64 * 1000);
            let decision = decide(&standing, act, at, at, n as u64 + 1);
            assert_eq!(
                Standing::decode(&decision.standing.encode()),
                Some(decision.standing.clone())
            );
            changes.push(decision.changed);
            standing = decision.standing;
        }
        (standing, changes)
    }

    fn stands(standing: &Standing, text: &str, at: i64) -> Option<Reason> {
        standing
            .suppression_for(&list(text), time(at), &Essential::default())
            .map(|suppression| suppression.reason)
    }

    /// The row of taking back: what stood, what is taken back, whether that changes anything, and
    /// the reason and end that stand then.
    #[test]
    fn every_cell_of_taking_back() {
        use Reason::*;
        let (sooner, later) = (Some(NOW + 50_000), Some(NOW + 90_000));
        // Of the last event before it: acts are numbered from 1.
        let back = |event, reason, until: Option<i64>| Act::TakeBack {
            event,
            scope: scope("a"),
            reason,
            until: until.map(time),
        };
        let pause = |until| suppress("a", Pause, until);
        type Left = Option<(Reason, Option<i64>)>;
        let cells: &[(&[Act], Act, bool, Left)] = &[
            (&[], back(1, Unsubscribe, None), false, None),
            (&[opt_out("a")], back(1, Unsubscribe, None), true, None),
            (&[opt_out("a")], back(2, Unsubscribe, None), false, Some((Unsubscribe, None))),
            (&[opt_out("a")], back(1, Pause, None), false, Some((Unsubscribe, None))),
            (&[opt_out("*")], back(1, Unsubscribe, None), false, Some((Unsubscribe, None))),
            (&[pause(later)], back(1, Pause, None), true, None),
            (&[pause(later)], back(1, Pause, sooner), true, Some((Pause, sooner))),
            (&[pause(sooner)], back(1, Pause, later), false, Some((Pause, sooner))),
            (&[pause(sooner), pause(later)], back(1, Pause, None), false, Some((Pause, later))),
            (&[pause(sooner), pause(later)], back(2, Pause, sooner), true, Some((Pause, sooner))),
        ];
        for (before, act, changed, left) in cells {
            let acts = [before, &[act.clone()][..]].concat();
            let (standing, changes) = run(&acts);
            assert_eq!(changes.last(), Some(changed), "{acts:?}");
            let at = time(NOW + 10_000);
            let stands = standing.suppression_for(&list("a"), at, &Essential::default());
            let stands = stands.map(|own| (own.reason, own.until.map(Time::as_millis)));
            assert_eq!(stands, *left, "{acts:?}");
        }
    }

    /// The row of imports: what stood, what is imported, whether that changes anything.
    #[test]
    fn every_cell_of_importing() {
        use Reason::*;
        let (sooner, later) = (Some(NOW + 50_000), Some(NOW + 90_000));
        let import = |reason, until: Option<i64>| Act::Import {
            import: 1,
            scope: scope("a"),
            reason,
            until: until.map(time),
        };
        let cells: &[(&[Act], Act, bool)] = &[
            (&[], import(Unsubscribe, None), true),
            (&[opt_out("a")], import(Unsubscribe, None), false),
            (&[opt_out("a")], import(Bounce, None), true),
            (&[suppress("a", Manual, None)], import(Manual, later), false),
            (&[suppress("a", Manual, later)], import(Manual, sooner), false),
            (&[suppress("a", Manual, sooner)], import(Manual, later), true),
            (&[suppress("a", Manual, sooner)], import(Manual, None), true),
            (&[], import(Manual, Some(NOW - 1)), false),
        ];
        for (before, act, changed) in cells {
            let (_, changes) = run(&[before, &[act.clone()][..]].concat());
            assert_eq!(changes.last(), Some(changed), "{before:?} {act:?}");
        }
        let (standing, _) = run(&[
            opt_out("example.com"),
            opt_in("news.example.com"),
            Act::Import { import: 1, scope: Scope::Everything, reason: Unsubscribe, until: None },
        ]);
        assert_eq!(
            stands(&standing, "news.example.com", NOW + 10_000),
            None,
            "the exception stays"
        );
        assert_eq!(stands(&standing, "other.example", NOW + 10_000), Some(Unsubscribe));
    }

    /// Events of acts one second apart, as a store would keep them.
    fn events(acts: &[Act]) -> Vec<Event> {
        let mut events = Vec::new();
        for (n, act) in acts.iter().enumerate() {
            let at = time(NOW + n as i64 * 1000);
            events.push(Event {
                scope: act.scope(),
                reason: act.reason(),
                until: act.until(),
                value: act.value().map(Cow::into_owned),
                undoes: act.undoes(),
                ..Event::new(n as u64 + 1, at, act.action(), crate::ledger::codes::Source::Cli)
            });
        }
        events
    }

    #[test]
    fn an_import_is_taken_back_as_if_it_had_never_been() {
        use Reason::*;
        let (sooner, later) = (Some(NOW + 50_000), Some(NOW + 90_000));
        let import = |import, reason, until: Option<i64>| Act::Import {
            import,
            scope: scope("a"),
            reason,
            until: until.map(time),
        };
        let back = |event, reason, until: Option<i64>| {
            vec![Act::Withdraw { event, scope: scope("a"), reason, until: until.map(time) }]
        };
        for (acts, expected) in [
            (vec![import(1, Bounce, None)], back(1, Bounce, None)),
            (vec![import(2, Bounce, None)], vec![]),
            (vec![import(1, Unsubscribe, None), opt_out("a")], vec![]),
            (vec![opt_out("a"), import(1, Unsubscribe, None)], vec![]),
            (vec![import(1, Bounce, None), import(2, Bounce, None)], vec![]),
            (
                vec![suppress("a", Manual, sooner), import(1, Manual, later)],
                back(2, Manual, sooner),
            ),
            (
                vec![import(1, Manual, later), suppress("a", Manual, sooner)],
                back(1, Manual, sooner),
            ),
            (vec![import(1, Manual, sooner), suppress("a", Manual, later)], vec![]),
            (vec![import(1, Bounce, None), release("a", Bounce)], vec![]),
            (vec![import(1, Bounce, None), back(1, Bounce, None).remove(0)], vec![]),
        ] {
            let taken_back = withdrawal(&events(&acts), &[1].into(), time(NOW + 10_000));
            assert_eq!(taken_back, expected, "{acts:?}");
        }
        let twice = events(&[import(1, Bounce, None), import(2, Bounce, None)]);
        let taken_back = |events, imports: &[u64]| {
            withdrawal(events, &imports.iter().copied().collect(), time(NOW + 10_000))
        };
        assert_eq!(taken_back(&twice, &[2]), [], "the first asks for it still");
        assert_eq!(taken_back(&twice, &[1, 2]), back(1, Bounce, None));
        let in_turn = [
            import(1, Manual, sooner),
            import(2, Manual, later),
            back(2, Manual, sooner).remove(0),
        ];
        assert_eq!(taken_back(&events(&in_turn), &[1, 2]), back(3, Manual, None));
        let past = events(&[import(1, Manual, sooner)]);
        assert_eq!(withdrawal(&past, &[1].into(), time(NOW + 60_000)), [], "it is over");
    }

    #[test]
    fn preferences_are_kept_for_each_list_and_suppress_nothing() {
        let prefer = |text, frequency| Act::Prefer { list: list(text), frequency, undoes: None };
        let explain = Act::Explain { scope: scope("a"), why: Why::Other };
        let (standing, changes) = run(&[
            prefer("b", Frequency::Weekly),
            prefer("a", Frequency::Daily),
            prefer("b", Frequency::Weekly),
            prefer("b", Frequency::Monthly),
            prefer("c", Frequency::Every),
            prefer("a", Frequency::Every),
            explain,
        ]);
        assert_eq!(changes, [true, true, false, true, false, true, false]);
        assert_eq!(standing.preferences().len(), 1);
        let chosen = standing.preference_for(&list("b")).expect("it is kept");
        assert_eq!(chosen.frequency, Frequency::Monthly);
        assert_eq!(stands(&standing, "b", NOW + 10_000), None);
    }

    #[test]
    fn an_event_says_what_was_asked() {
        let acts = [
            opt_out("a"),
            opt_in("a"),
            Act::TakeBack {
                event: 3,
                scope: Scope::Everything,
                reason: Reason::Pause,
                until: Some(time(9)),
            },
            Act::Prefer { list: list("a"), frequency: Frequency::Quarterly, undoes: Some(3) },
            Act::Explain { scope: scope("a"), why: Why::NeverAsked },
        ];
        for act in acts {
            let event = Event {
                scope: act.scope(),
                reason: act.reason(),
                until: act.until(),
                value: act.value().map(Cow::into_owned),
                undoes: act.undoes(),
                ..Event::new(1, time(1), act.action(), crate::ledger::Source::Page)
            };
            assert_eq!(Act::of(&event), Some(act));
        }
    }

    /// The first table, each cell: what stood, what is asked, whether it changes anything, and
    /// the end that stands then.
    #[test]
    fn every_cell_of_the_first_table() {
        use Reason::*;
        let (sooner, later) = (Some(NOW + 50_000), Some(NOW + 90_000));
        let cells: &[(&[Act], Act, bool, Option<i64>)] = &[
            (&[], opt_out("a"), true, None),
            (&[opt_out("a")], opt_out("a"), false, None),
            (&[], suppress("a", Pause, sooner), true, sooner),
            (&[suppress("a", Pause, later)], suppress("a", Pause, sooner), false, later),
            (&[suppress("a", Pause, sooner)], suppress("a", Pause, sooner), false, sooner),
            (&[suppress("a", Pause, sooner)], suppress("a", Pause, later), true, later),
            (&[], suppress("a", Manual, None), true, None),
            (&[], suppress("a", Bounce, None), true, None),
            (&[], suppress("a", Complaint, None), true, None),
            (&[suppress("a", Manual, None)], suppress("a", Manual, None), false, None),
            (&[suppress("a", Manual, None)], suppress("a", Manual, sooner), false, None),
            (&[suppress("a", Manual, later)], suppress("a", Manual, sooner), false, later),
            (&[suppress("a", Manual, sooner)], suppress("a", Manual, later), true, later),
            (&[suppress("a", Manual, sooner)], suppress("a", Manual, None), true, None),
        ];
        for (before, act, changed, until) in cells {
            let acts = [before, &[act.clone()][..]].concat();
            let (standing, changes) = run(&acts);
            assert_eq!(changes.last(), Some(changed), "{acts:?}");
            let [own] = standing.active(time(NOW)).collect::<Vec<_>>()[..] else {
                panic!("{acts:?}: {standing:?}")
            };
            assert_eq!((own.until, Some(own.reason)), (until.map(time), act.reason()), "{acts:?}");
        }
        for (before, changed) in
            [(&[][..], false), (&[opt_out("a")], true), (&[suppress("a", Pause, sooner)], false)]
        {
            let (standing, changes) = run(&[before, &[release("a", Unsubscribe)]].concat());
            assert_eq!(changes.last(), Some(&changed));
            assert_eq!(
                stands(&standing, "a", NOW + 9_000),
                before.first().filter(|_| !changed).and_then(Act::reason)
            );
        }
    }

    #[test]
    fn reasons_stand_side_by_side_and_end_alone() {
        let acts =
            [opt_out("a"), suppress("a", Reason::Bounce, None), release("a", Reason::Bounce)];
        let (before, _) = run(&acts[..2]);
        assert_eq!(stands(&before, "a", NOW), Some(Reason::Bounce), "the strongest is shown");
        let (after, changes) = run(&acts);
        assert_eq!(changes, [true, true, true]);
        assert_eq!(stands(&after, "a", NOW), Some(Reason::Unsubscribe));
    }

    #[test]
    fn of_equal_reasons_the_narrowest_is_shown() {
        let (standing, _) = run(&[opt_out("*"), opt_out("b.a"), opt_out("a")]);
        let shown = standing
            .suppression_for(&list("c.b.a"), time(NOW), &Essential::default())
            .expect("suppressed");
        assert_eq!(shown.scope, scope("b.a"));
        assert_eq!(stands(&standing, "z", NOW), Some(Reason::Unsubscribe));
    }

    /// The second table's row of `OptIn`.
    #[test]
    fn an_opt_in_ends_weak_reasons_and_is_refused_by_strong_ones() {
        for reason in [Reason::Complaint, Reason::Bounce, Reason::Manual] {
            for covering in ["a", "*"] {
                let acts = [opt_out("a"), suppress(covering, reason, None), opt_in("a")];
                let (standing, changes) = run(&acts);
                assert_eq!(changes, [true, true, false]);
                assert_eq!(stands(&standing, "a", NOW), Some(reason));
                let (released, _) = run(&[&acts[..], &[release(covering, reason)]].concat());
                assert_eq!(
                    stands(&released, "a", NOW),
                    Some(Reason::Unsubscribe),
                    "nothing was lost"
                );
            }
        }
        let (standing, changes) = run(&[
            opt_out("a"),
            suppress("a", Reason::Pause, Some(NOW + 90_000)),
            opt_in("a"),
            opt_in("a"),
        ]);
        assert_eq!(changes, [true, true, true, false]);
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn an_opt_in_beneath_a_wider_scope_is_an_exception_until_covered_again() {
        let pause = suppress("*", Reason::Pause, Some(NOW + 90_000));
        for again in [opt_out("*"), opt_out("a"), opt_out("b.a"), pause] {
            let acts = [opt_out("*"), opt_in("b.a"), again];
            let (excepted, _) = run(&acts[..2]);
            assert_eq!(stands(&excepted, "b.a", NOW), None);
            assert_eq!(
                stands(&excepted, "c.b.a", NOW),
                Some(Reason::Unsubscribe),
                "the list alone"
            );
            assert_eq!(stands(&excepted, "a", NOW), Some(Reason::Unsubscribe));
            let (covered, changes) = run(&acts);
            assert_eq!(changes, [true, true, true]);
            assert_eq!(stands(&covered, "b.a", NOW), Some(Reason::Unsubscribe));
            assert!(covered.exceptions().is_empty());
        }
    }

    #[test]
    fn a_strong_reason_ignores_an_exception_and_a_senders_act_does_not_end_it() {
        let (standing, _) =
            run(&[opt_out("*"), opt_in("b.a"), suppress("*", Reason::Manual, None)]);
        assert_eq!(stands(&standing, "b.a", NOW), Some(Reason::Manual));
        assert_eq!(standing.exceptions(), [list("b.a")]);
    }

    #[test]
    fn an_exception_ends_with_what_it_is_from() {
        let (standing, _) = run(&[opt_out("*"), opt_in("a"), release("*", Reason::Unsubscribe)]);
        assert_eq!(standing, Standing::default());
    }

    #[test]
    fn what_is_past_its_end_stands_no_more() {
        let (standing, _) = run(&[suppress("a", Reason::Pause, Some(NOW + 5_000))]);
        assert_eq!(stands(&standing, "a", NOW + 4_999), Some(Reason::Pause));
        assert_eq!(stands(&standing, "a", NOW + 5_000), None);
        let later = decide(&standing, &opt_in("a"), time(NOW + 5_000), time(NOW + 5_000), 2);
        assert!(!later.changed && later.standing == Standing::default());
    }

    #[test]
    fn what_ends_before_it_is_recorded_changes_nothing() {
        for reason in [Reason::Pause, Reason::Manual] {
            let acts = [opt_out("*"), opt_in("a"), suppress("a", reason, Some(NOW + 2_000))];
            let (standing, changes) = run(&acts);
            assert_eq!(changes, [true, true, false]);
            assert_eq!(standing.exceptions(), [list("a")]);
        }
    }

    #[test]
    fn forgetting_changes_nothing_that_stands() {
        let (standing, changes) = run(&[opt_out("a"), Act::Forget]);
        assert_eq!(changes, [true, false]);
        assert_eq!(stands(&standing, "a", NOW), Some(Reason::Unsubscribe));
    }

    #[test]
    fn an_unsubscribe_has_no_end_and_a_pause_needs_one() {
        assert!(Act::for_reason(scope("a"), Reason::Unsubscribe, Some(time(1))).is_err());
        assert!(Act::for_reason(scope("a"), Reason::Pause, None).is_err());
    }
}
