//! Random commands against the store and a simple model in memory: facts in a list, looked
//! through from the start each time. Two processes take turns, as a service that folds behind and
//! a command do; between the commands the service folds, reads into memory, and starts again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use optout::ledger::{
    Act, Canonical, Command, DataDir, Essential, ForgetRequest, Frequency, Page, PastQuestion,
    Reason, Recipient, Source, SqliteStore, Store, Time, Why,
};
use optout::link::{ListId, Scope};
use proptest::prelude::*;

use crate::contract::{at, recipient, scope};

const RECIPIENTS: [&str; 3] = ["a@example.org", "b@example.org", "c@example.org"];
const SCOPES: [&str; 5] = ["*", "com", "shop.com", "news.shop.com", "badshop.com"];
const LISTS: [&str; 4] = ["com", "shop.com", "news.shop.com", "badshop.com"];

/// One thing that happens, after some time; time may go backwards, as clocks do.
#[derive(Debug, Clone)]
struct Step {
    wait: i64,
    who: usize,
    source: Source,
    act: StepAct,
    /// Whether the service does it, and not a command.
    by_service: bool,
    then: Then,
}

/// What the service does next.
#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Fold,
    Warm,
    Restart,
}

#[derive(Debug, Clone)]
enum StepAct {
    Hold { scope: usize, reason: Reason, lasts: Option<u64> },
    OptIn { list: usize },
    Release { scope: usize, reason: Reason },
    TakeBack { scope: usize, reason: Reason, lasts: Option<u64>, is_stale: bool },
    Prefer { list: usize, frequency: Frequency },
    Explain { scope: usize, why: Why },
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reason = prop::sample::select(Reason::ALL);
    let weak = prop::sample::select(vec![Reason::Unsubscribe, Reason::Pause]);
    let scope = 0..SCOPES.len();
    let hold = (scope.clone(), reason.clone(), prop::option::of(1..100_000_000u64));
    let act = prop_oneof![
        6 => hold.prop_map(|(scope, reason, lasts)| StepAct::Hold { scope, reason, lasts }),
        3 => (0..LISTS.len()).prop_map(|list| StepAct::OptIn { list }),
        2 => (scope.clone(), reason).prop_map(|(scope, reason)| StepAct::Release { scope, reason }),
        2 => (scope.clone(), weak, prop::option::of(1..100_000_000u64), prop::bool::weighted(0.2))
            .prop_map(|(scope, reason, lasts, is_stale)| {
                StepAct::TakeBack { scope, reason, lasts, is_stale }
            }),
        2 => (0..LISTS.len(), prop::sample::select(Frequency::ALL))
            .prop_map(|(list, frequency)| StepAct::Prefer { list, frequency }),
        1 => (scope, prop::sample::select(Why::ALL))
            .prop_map(|(scope, why)| StepAct::Explain { scope, why }),
        1 => Just(StepAct::Forget),
    ];
    let wait = prop_oneof![8 => 0..10_000i64, 2 => 0..100_000_000i64, 1 => -50_000..0i64];
    let source = prop::sample::select(vec![Source::OneClick, Source::Cli]);
    let then = prop::sample::select(vec![
        Then::Nothing,
        Then::Nothing,
        Then::Nothing,
        Then::Fold,
        Then::Warm,
        Then::Restart,
    ]);
    let step = (wait, 0..RECIPIENTS.len(), source, act, prop::bool::weighted(0.8), then);
    let step = step.prop_map(|(wait, who, source, act, by_service, then)| Step {
        wait,
        who,
        source,
        act,
        by_service,
        then,
    });
    prop::collection::vec(step, 1..60)
}

/// A suppression, or an exception from weaker ones.
#[derive(Debug, Clone, PartialEq)]
struct Fact {
    who: usize,
    scope: &'static str,
    /// `None`: an exception for this list.
    reason: Option<Reason>,
    until: Option<Time>,
    /// The event that made it, or changed its end last.
    event: u64,
}

/// What repeats of an act have in common.
type Kind = (u8, Option<&'static str>, Option<Reason>, Option<&'static str>);

/// An act that was stored as an event, as repeats are compared with.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    who: usize,
    at: Time,
    source: Source,
    act: Kind,
    until: Option<Time>,
}

#[derive(Debug, Default)]
struct Model {
    facts: Vec<Fact>,
    preferences: HashMap<(usize, &'static str), Frequency>,
    stored: Vec<Stored>,
    addresses: [Option<()>; 3],
}

fn covers(scope: &str, list: &str) -> bool {
    scope == "*" || scope == list || list.ends_with(&format!(".{scope}"))
}

fn is_weak(reason: Reason) -> bool {
    matches!(reason, Reason::Unsubscribe | Reason::Pause)
}

impl Model {
    fn now(&self, clock: Time) -> Time {
        self.stored.last().map_or(clock, |last| last.at.max(clock))
    }

    fn active<'m>(&'m self, who: usize, now: Time) -> impl Iterator<Item = &'m Fact> + 'm {
        self.facts.iter().filter(move |f| f.who == who && f.until.is_none_or(|until| now < until))
    }

    /// The event of what is taken back.
    fn made_by(&self, who: usize, act: &StepAct) -> u64 {
        let StepAct::TakeBack { scope, reason, .. } = act else { return 0 };
        let own = self
            .facts
            .iter()
            .find(|f| f.who == who && f.scope == SCOPES[*scope] && f.reason == Some(*reason));
        own.map_or(0, |own| own.event)
    }

    /// The reasons that keep `list` from being sent.
    fn suppressed(&self, who: usize, list: &str, now: Time) -> Option<Reason> {
        let excepted = self.active(who, now).any(|f| f.reason.is_none() && f.scope == list);
        self.active(who, now)
            .filter(|f| covers(f.scope, list))
            .filter_map(|f| f.reason.map(|reason| (f.scope, reason)))
            .filter(|(scope, reason)| !(excepted && is_weak(*reason) && *scope != list))
            .map(|(_, reason)| reason)
            .min()
    }

    /// Exceptions that are exceptions from nothing any more end, when the recipient does something.
    fn settle(&mut self, who: usize, now: Time) {
        self.facts.retain(|f| f.who != who || f.until.is_none_or(|until| now < until));
        let weak: Vec<Fact> = self
            .facts
            .iter()
            .filter(|f| f.who == who && f.reason.is_some_and(is_weak))
            .cloned()
            .collect();
        self.facts.retain(|f| {
            f.who != who
                || f.reason.is_some()
                || weak.iter().any(|w| w.scope != f.scope && covers(w.scope, f.scope))
        });
    }

    /// Whether the act changes anything; applies it if so.
    fn change(&mut self, who: usize, act: &StepAct, now: Time) -> bool {
        let before = self.facts.clone();
        self.settle(who, now);
        let event = self.stored.len() as u64 + 1;
        let mut changed = false;
        match act {
            StepAct::Hold { scope, reason, lasts } => {
                let (scope, until) = (SCOPES[*scope], end(*reason, *lasts, now));
                if is_weak(*reason) {
                    let left = self.facts.len();
                    self.facts.retain(|f| {
                        !(f.who == who && f.reason.is_none() && covers(scope, f.scope))
                    });
                    changed = self.facts.len() < left;
                }
                let own = self
                    .facts
                    .iter_mut()
                    .find(|f| f.who == who && f.scope == scope && f.reason == Some(*reason));
                match own {
                    None => {
                        self.facts.push(Fact { who, scope, reason: Some(*reason), until, event });
                        changed = true;
                    }
                    Some(own) if own.until.is_some() && (until.is_none() || until > own.until) => {
                        (own.until, own.event) = (until, event);
                        changed = true;
                    }
                    Some(_) => {}
                }
            }
            StepAct::OptIn { list } => {
                let list = LISTS[*list];
                if self.suppressed(who, list, now).is_some_and(is_weak) {
                    self.facts.retain(|f| {
                        !(f.who == who && f.scope == list && f.reason.is_some_and(is_weak))
                    });
                    let wider = self.facts.iter().any(|f| {
                        f.who == who && f.reason.is_some_and(is_weak) && covers(f.scope, list)
                    });
                    let there = self
                        .facts
                        .iter()
                        .any(|f| f.who == who && f.reason.is_none() && f.scope == list);
                    if wider && !there {
                        self.facts.push(Fact {
                            who,
                            scope: list,
                            reason: None,
                            until: None,
                            event,
                        });
                    }
                    changed = true;
                }
            }
            StepAct::Release { scope, reason } => {
                let left = self.facts.len();
                self.facts.retain(|f| {
                    !(f.who == who && f.scope == SCOPES[*scope] && f.reason == Some(*reason))
                });
                changed = self.facts.len() < left;
            }
            StepAct::TakeBack { is_stale: true, .. } => {}
            StepAct::TakeBack { scope, reason, lasts, .. } => {
                let until = lasts.map(|millis| now.plus(Duration::from_millis(millis)));
                let own = self.facts.iter().position(|f| {
                    f.who == who && f.scope == SCOPES[*scope] && f.reason == Some(*reason)
                });
                match (own, until) {
                    (Some(own), None) => {
                        self.facts.remove(own);
                        changed = true;
                    }
                    (Some(own), until)
                        if self.facts[own].until.is_none_or(|end| until < Some(end)) =>
                    {
                        (self.facts[own].until, self.facts[own].event) = (until, event);
                        changed = true;
                    }
                    _ => {}
                }
            }
            StepAct::Prefer { list, frequency } => {
                let before = self.preferences.insert((who, LISTS[*list]), *frequency);
                changed = before.unwrap_or(Frequency::Every) != *frequency;
            }
            StepAct::Explain { .. } | StepAct::Forget => {}
        }
        self.settle(who, now);
        if !changed {
            self.facts = before;
        }
        changed
    }
}

/// An unsubscribe has no end and a pause needs one.
fn end(reason: Reason, lasts: Option<u64>, now: Time) -> Option<Time> {
    let until = lasts.map(|millis| now.plus(Duration::from_millis(millis)));
    match reason {
        Reason::Unsubscribe => None,
        Reason::Pause => until.or(Some(now.plus(Duration::from_secs(60)))),
        _ => until,
    }
}

fn as_act(act: &StepAct, made_by: u64, now: Time) -> Act {
    match act {
        StepAct::Hold { scope: s, reason, lasts } => {
            Act::for_reason(scope(SCOPES[*s]), *reason, end(*reason, *lasts, now))
                .expect("a possible act")
        }
        StepAct::OptIn { list } => Act::OptIn { list: LISTS[*list].parse().expect("a list") },
        StepAct::Release { scope: s, reason } => {
            Act::Release { scope: scope(SCOPES[*s]), reason: *reason }
        }
        StepAct::TakeBack { scope: s, reason, lasts, is_stale } => Act::TakeBack {
            event: if *is_stale { made_by + 1 } else { made_by },
            scope: scope(SCOPES[*s]),
            reason: *reason,
            until: lasts.map(|millis| now.plus(Duration::from_millis(millis))),
        },
        StepAct::Prefer { list, frequency } => Act::Prefer {
            list: LISTS[*list].parse().expect("a list"),
            frequency: *frequency,
            undoes: None,
        },
        StepAct::Explain { scope: s, why } => Act::Explain { scope: scope(SCOPES[*s]), why: *why },
        StepAct::Forget => Act::Forget,
    }
}

fn kind(act: &StepAct) -> Kind {
    match act {
        StepAct::Hold { scope, reason, .. } => (0, Some(SCOPES[*scope]), Some(*reason), None),
        StepAct::OptIn { list } => (1, Some(LISTS[*list]), None, None),
        StepAct::Release { scope, reason } => (2, Some(SCOPES[*scope]), Some(*reason), None),
        StepAct::Forget => (3, None, None, None),
        StepAct::TakeBack { scope, reason, .. } => (4, Some(SCOPES[*scope]), Some(*reason), None),
        StepAct::Prefer { list, frequency } => {
            (5, Some(LISTS[*list]), None, Some(frequency.name()))
        }
        StepAct::Explain { scope, why } => (6, Some(SCOPES[*scope]), None, Some(why.name())),
    }
}

fn forget(store: &dyn Store, who: Recipient, clock: Time) {
    let request = ForgetRequest { recipient: who, source: Source::Cli, actor: None };
    let done = store.forget(&request, clock).expect("forgotten");
    assert!(done.still_in.is_empty(), "{done:?}");
}

/// A service that may leave as few as two recipients unfolded.
fn service(dir: &DataDir) -> SqliteStore {
    SqliteStore::create(dir).expect("a store").folding_behind(2)
}

fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dir = DataDir::new(dir.path());
    let mut by_service = service(&dir);
    let by_command = SqliteStore::open(&dir).expect("a store");
    let (mut model, mut diary) = (Model::default(), Diary::default());
    let mut clock = 0;
    for step in steps {
        clock = (clock + step.wait).max(0);
        let now = model.now(at(clock));
        // The moment before belongs to the past as well.
        now.just_before().into_iter().for_each(|before| diary.note_before(&model, before));
        let who = recipient(RECIPIENTS[step.who]);
        let store = if step.by_service { &by_service } else { &by_command };
        if matches!(step.act, StepAct::Forget) {
            if model.addresses[step.who].take().is_some() {
                model.settle(step.who, now);
                model.stored.push(Stored {
                    who: step.who,
                    at: now,
                    source: Source::Cli,
                    act: kind(&step.act),
                    until: None,
                });
            }
            forget(store, who, at(clock));
        } else {
            let known = model.stored.iter().any(|own| own.who == step.who);
            let made_by = model.made_by(step.who, &step.act);
            let changed = model.change(step.who, &step.act, now);
            let act = as_act(&step.act, made_by, now);
            let until = act.until();
            let repeated = model.stored.iter().any(|own| {
                own.who == step.who
                    && own.source == step.source
                    && own.act == kind(&step.act)
                    && own.until.is_none_or(|end| until.is_some_and(|until| until <= end))
                    && now.since(own.at) < Duration::from_secs(86_400)
            });
            let command = Command::new(who, act, step.source);
            let outcome = store.record(&[command], at(clock)).expect("recorded").remove(0);
            assert_eq!(outcome.changed, changed, "{step:?}");
            assert_eq!(outcome.event.is_some(), changed || !repeated, "{step:?}");
            if outcome.event.is_some() {
                if !changed {
                    model.settle(step.who, now);
                }
                model.stored.push(Stored {
                    who: step.who,
                    at: now,
                    source: step.source,
                    act: kind(&step.act),
                    until,
                });
                if changed || !known {
                    model.addresses[step.who] = Some(());
                }
            }
        }
        diary.note(&model, now);
        compare(&by_service, &model, now);
        match step.then {
            Then::Nothing => {}
            Then::Fold => drop(by_service.fold().expect("folded")),
            Then::Warm => by_service.warm(&|| false).expect("read"),
            Then::Restart => by_service = service(&dir),
        }
        compare(&by_service, &model, now);
        compare(&by_command, &model, now);
    }
    verify(&by_service, &model);
    diary.compare(&by_service);
    while by_service.fold().expect("folded") {}
    verify(&by_command, &model);
    diary.compare(&by_command);
}

/// What the model said at every moment: who was suppressed for which list, and why.
#[derive(Debug, Default)]
struct Diary {
    last: Option<Time>,
    reasons: BTreeMap<(usize, usize, Time), Option<Reason>>,
}

impl Diary {
    /// As long as nothing is noted of a later moment.
    fn note_before(&mut self, model: &Model, before: Time) {
        if self.last <= Some(before) {
            self.note(model, before);
        }
    }

    /// Of what happens in one millisecond the last counts. A clock that was set back before anything was
    /// recorded makes later moments the future again.
    fn note(&mut self, model: &Model, now: Time) {
        if self.last > Some(now) {
            self.reasons.retain(|(.., at), _| *at <= now);
        }
        self.last = Some(now);
        for who in 0..RECIPIENTS.len() {
            for (list, name) in LISTS.iter().enumerate() {
                self.reasons.insert((who, list, now), model.suppressed(who, name, now));
            }
        }
    }

    /// The store says the same of the past.
    fn compare(&self, store: &SqliteStore) {
        let past = store.hindsight().expect("read");
        let question = |&(who, list, at): &(usize, usize, Time)| PastQuestion {
            recipient: past.identify(&Canonical::plain(RECIPIENTS[who]).expect("plain")),
            list: LISTS[list].parse().expect("a list"),
            at,
        };
        let questions: Vec<_> = self.reasons.keys().map(question).collect();
        let answers = past.answer(&questions).expect("read");
        for ((moment, expected), answer) in self.reasons.iter().zip(&answers) {
            assert_eq!(answer.as_ref().map(|own| own.reason), *expected, "{moment:?}");
            let Some(since) = answer.as_ref().map(|own| own.since) else { continue };
            let (who, list, at) = *moment;
            let mut meanwhile = self.reasons.range((who, list, since)..=(who, list, at));
            assert!(meanwhile.all(|(_, held)| held.is_some()), "{moment:?} since {since}");
        }
    }
}

fn verify(store: &dyn Store, model: &Model) {
    let found = store.verify(None, &mut |_| ()).expect("it can be read");
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!(found.events, model.stored.len() as u64);
    let entries = store.entries(Page::After(0), 1000).expect("read");
    assert_eq!(entries.len(), model.stored.len());
}

fn compare(store: &dyn Store, model: &Model, now: Time) {
    let recipients = RECIPIENTS.map(recipient);
    let standings = store.standings(&recipients).expect("read");
    for (who, standing) in standings.iter().enumerate() {
        for list in LISTS {
            let list_id: ListId = list.parse().expect("a list");
            let stands = standing
                .suppression_for(&list_id, now, &Essential::default())
                .map(|stands| stands.reason);
            assert_eq!(stands, model.suppressed(who, list, now), "{} {list}", RECIPIENTS[who]);
            let chosen = standing.preference_for(&list_id).map(|own| own.frequency);
            let expected = model.preferences.get(&(who, list)).copied();
            assert_eq!(chosen, expected.filter(|own| *own != Frequency::Every));
        }
        let active: Vec<(Scope, Reason, Option<Time>)> =
            standing.active(now).map(|s| (s.scope.clone(), s.reason, s.until)).collect();
        let mut expected: Vec<_> = model
            .active(who, now)
            .filter_map(|f| f.reason.map(|reason| (scope(f.scope), reason, f.until)))
            .collect();
        expected.sort();
        assert_eq!(active, expected);
        let holding = store.holding(&recipients[who]).expect("read");
        let address = holding.and_then(|holding| holding.address);
        assert_eq!(address.is_some(), model.addresses[who].is_some(), "{}", RECIPIENTS[who]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        run(&steps);
    }
}
