//! What `Store` promises, asked of each implementation. A new one is one more line of
//! `holds_for!`.

use std::time::Duration;

use optout::ledger::{
    Act, Action, ApiKey, Command, DataDir, Essential, ForgetRequest, Frequency, ImportMark, Note,
    Page, Reason, Recipient, Role, Source, SqliteStore, Store, StoreError, Time, WebhookMark,
    WebhookStart,
};
use optout::link::{KeyId, ListId, Scope};
use tempfile::TempDir;

/// An implementation, and how another process would open the same store.
trait Subject: Sync {
    fn make() -> Self;
    fn open(&self) -> Box<dyn Store>;
}

struct Sqlite(TempDir);

impl Subject for Sqlite {
    fn make() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        SqliteStore::create(&DataDir::new(dir.path())).expect("a store");
        Self(dir)
    }

    fn open(&self) -> Box<dyn Store> {
        Box::new(SqliteStore::open(&DataDir::new(self.0.path())).expect("the store"))
    }
}

/// As a service uses it: events are folded in behind, and soon there are too many of them.
struct SqliteBehind(TempDir);

impl Subject for SqliteBehind {
    fn make() -> Self {
        Self(Sqlite::make().0)
    }

    fn open(&self) -> Box<dyn Store> {
        let store = SqliteStore::open(&DataDir::new(self.0.path())).expect("the store");
        let store = store.folding_behind(20);
        store.warm(&|| false).expect("read");
        Box::new(store)
    }
}

/// Makes a module of tests for one implementation.
macro_rules! holds_for {
    ($name:ident, $subject:ty) => {
        mod $name {
            use super::*;
            holds_for!(@each $subject:
                what_is_recorded_is_there_for_everybody_at_once
                a_batch_is_decided_in_its_order
                times_never_run_backwards
                repeats_within_a_day_are_counted
                events_are_gap_free_under_concurrent_writers_of_two_handles
                pages_go_both_ways_and_stop_at_the_ends
                looks_tell_what_others_wrote
                key_uses_are_kept
                webhooks_keep_their_place_until_they_are_sent_elsewhere
                when_a_checkpoint_left_is_kept_by_destination
                a_mailing_gets_one_answer_and_the_next_one_waits
                lists_are_essential_from_one_description_to_the_next
                a_clock_that_was_set_back_loses_nothing
                an_import_goes_on_from_where_it_was_left_alone
                a_survey_is_of_one_moment
                forgetting_erases_address_and_notes_and_keeps_the_rest
                who_is_dormant_is_forgotten_once_and_nobody_else_is
            );
        }
    };
    (@each $subject:ty: $($test:ident)+) => {
        $(#[test]
        fn $test() {
            super::$test(&<$subject>::make());
        })+
    };
}

holds_for!(sqlite, Sqlite);
holds_for!(sqlite_behind, SqliteBehind);

pub fn at(millis: i64) -> Time {
    Time::from_millis(1_800_000_000_000 + millis).expect("in range")
}

pub fn recipient(text: &str) -> Recipient {
    Recipient::parse(text).expect("a recipient")
}

pub fn scope(text: &str) -> Scope {
    text.parse().expect("a scope")
}

fn opt_out(who: &str, what: &str) -> Command {
    Command::new(recipient(who), Act::OptOut { scope: scope(what) }, Source::OneClick)
}

fn suppress(who: &str, what: &str, reason: Reason, note: &str) -> Command {
    let act = Act::for_reason(scope(what), reason, None).expect("an act");
    Command {
        note: Note::parse(note).expect("a note"),
        ..Command::new(recipient(who), act, Source::Cli)
    }
}

fn intact(store: &dyn Store) {
    let found = store.verify(None, &mut |_| ()).expect("it can be read");
    assert_eq!(found.faults, Vec::<String>::new());
}

fn what_is_recorded_is_there_for_everybody_at_once(subject: &impl Subject) {
    let (one, other) = (subject.open(), subject.open());
    let outcome = &one.record(&[opt_out("a@example.org", "x.y")], at(0)).expect("recorded")[0];
    assert_eq!((outcome.event, outcome.changed, outcome.at), (Some(1), true, at(0)));
    for store in [&one, &other, &subject.open()] {
        let standings = store.standings(&[recipient("A@example.org"), recipient("b@example.org")]);
        let standings = standings.expect("read");
        let stands = standings[0].suppression_for(
            &"x.y".parse().expect("a list"),
            at(1),
            &Essential::default(),
        );
        assert_eq!(
            stands.map(|stands| (stands.reason, stands.since, stands.event)),
            Some((Reason::Unsubscribe, at(0), 1))
        );
        assert!(
            standings[1]
                .suppression_for(&"x.y".parse().expect("a list"), at(1), &Essential::default())
                .is_none()
        );
        assert!(
            store.knows(&scope("x.y")).expect("read") && !store.knows(&scope("y")).expect("read")
        );
        assert_eq!(store.name(), one.name());
    }
    intact(&*other);
}

fn a_batch_is_decided_in_its_order(subject: &impl Subject) {
    let store = subject.open();
    let release = Act::Release { scope: scope("x"), reason: Reason::Unsubscribe };
    let batch = [
        opt_out("a@example.org", "x"),
        opt_out("a@example.org", "x"),
        Command::new(recipient("a@example.org"), release, Source::Cli),
        opt_out("a@example.org", "x"),
    ];
    let outcomes = store.record(&batch, at(0)).expect("recorded");
    let came: Vec<_> = outcomes.iter().map(|outcome| (outcome.changed, outcome.event)).collect();
    assert_eq!(came, [(true, Some(1)), (false, None), (true, Some(2)), (true, Some(3))]);
    assert_eq!(store.event(2).expect("read").map(|event| event.repeats), Some(1));
    assert_eq!(store.record(&[], at(1)).expect("nothing to do").len(), 0);
    intact(&*store);
}

fn times_never_run_backwards(subject: &impl Subject) {
    let store = subject.open();
    for (n, clock) in [1000, 5000, 2000, 0, 6000].into_iter().enumerate() {
        store.record(&[opt_out(&format!("r{n}@example.org"), "x")], at(clock)).expect("recorded");
    }
    let entries = store.entries(Page::After(0), 10).expect("read");
    let times: Vec<_> = entries.iter().map(|entry| entry.event.at).collect();
    assert_eq!(times, [at(1000), at(5000), at(5000), at(5000), at(6000)]);
    intact(&*store);
}

fn repeats_within_a_day_are_counted(subject: &impl Subject) {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    let store = subject.open();
    let events =
        |clock, command: Command| store.record(&[command], at(clock)).expect("recorded")[0].event;
    assert_eq!(events(0, opt_out("a@example.org", "x")), Some(1));
    assert_eq!(events(1, opt_out("a@example.org", "x")), None);
    assert_eq!(events(DAY - 1, opt_out("a@example.org", "x")), None);
    let by_mail = Command { source: Source::Mailto, ..opt_out("a@example.org", "x") };
    assert_eq!(events(DAY - 1, by_mail.clone()), Some(2), "another source");
    assert_eq!(events(DAY - 1, opt_out("a@example.org", "y")), Some(3), "another scope");
    assert_eq!(events(DAY, opt_out("a@example.org", "x")), Some(4), "a day later");
    assert_eq!(events(DAY, by_mail), None);
    let noted = |note| suppress("a@example.org", "x", Reason::Unsubscribe, note);
    assert_eq!(events(DAY, noted("by phone")), Some(5));
    assert_eq!(events(DAY, noted("by phone")), None);
    assert_eq!(events(DAY, noted("by letter")), Some(6), "another text");
    let repeats = [1, 2, 3, 4, 5, 6].map(|n| store.event(n).expect("read").expect("there").repeats);
    assert_eq!(repeats, [0, 2, 0, 0, 1, 1]);
    let changed = [1, 2, 3, 4, 5, 6].map(|n| store.event(n).expect("read").expect("there").changed);
    assert_eq!(changed, [true, false, true, false, false, false]);
    intact(&*store);
}

fn events_are_gap_free_under_concurrent_writers_of_two_handles(subject: &impl Subject) {
    let stores = [subject.open(), subject.open()];
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &stores[writer % 2];
            scope.spawn(move || {
                for n in 0..50 {
                    let batch = [
                        opt_out(&format!("w{writer}-{n}@example.org"), "x"),
                        opt_out("all@example.org", &format!("l{n}")),
                    ];
                    store.record(&batch, at(n)).expect("recorded");
                }
            });
        }
        scope.spawn(|| {
            let (store, mut seen) = (subject.open(), 0);
            while seen < 200 {
                for entry in store.entries(Page::After(seen), 7).expect("read") {
                    assert_eq!(entry.event.number, seen + 1, "no gap, ever");
                    seen += 1;
                }
            }
        });
    });
    let last = stores[0].look().expect("read").last_event;
    assert_eq!(stores[0].entries(Page::After(0), 10_000).expect("read").len() as u64, last);
    let holding = stores[1].holding(&recipient("all@example.org")).expect("read").expect("known");
    assert_eq!(holding.standing.active(at(100)).count(), 50, "each list once");
    intact(&*stores[1]);
}

fn pages_go_both_ways_and_stop_at_the_ends(subject: &impl Subject) {
    let store = subject.open();
    let batch: Vec<_> =
        (0..10).map(|n| opt_out(&format!("r{}@example.org", n % 3), &format!("l{n}"))).collect();
    store.record(&batch, at(0)).expect("recorded");
    let numbers = |entries: Vec<optout::ledger::Entry>| -> Vec<u64> {
        entries.iter().map(|entry| entry.event.number).collect()
    };
    assert_eq!(numbers(store.entries(Page::After(7), 2).expect("read")), [8, 9]);
    assert_eq!(numbers(store.entries(Page::After(10), 5).expect("read")), [0; 0]);
    assert_eq!(numbers(store.entries(Page::Before(4), 2).expect("read")), [3, 2]);
    assert_eq!(numbers(store.entries(Page::Before(u64::MAX), 3).expect("read")), [10, 9, 8]);
    let about = recipient("r1@example.org");
    assert_eq!(numbers(store.entries_about(&about, u64::MAX, 10).expect("read")), [8, 5, 2]);
    assert_eq!(numbers(store.entries_about(&about, 8, 1).expect("read")), [5]);
    assert_eq!(
        numbers(store.entries_about(&recipient("z@example.org"), u64::MAX, 9).expect("read")),
        [0; 0]
    );
    assert_eq!(store.event(11).expect("read"), None);
}

fn looks_tell_what_others_wrote(subject: &impl Subject) {
    let (one, other) = (subject.open(), subject.open());
    let before = one.look().expect("read");
    assert_eq!(before.last_event, 0);
    other.record(&[opt_out("a@example.org", "x")], at(0)).expect("recorded");
    let after = one.look().expect("read");
    assert_eq!((after.last_event, after.api_keys_generation), (1, before.api_keys_generation));
    let (key, _) = ApiKey::new(&[5; 36], Role::Auditor, Vec::new(), at(0));
    other.add_api_key(&key).expect("added");
    let added = one.look().expect("read").api_keys_generation;
    assert!(added > after.api_keys_generation && one.api_keys().expect("read") == [key.clone()]);
    assert!(other.add_api_key(&key).is_err(), "the id is taken");
    let revoked = other.revoke_api_key(&key.id, at(1)).expect("revoked").expect("it is there");
    assert_eq!(other.revoke_api_key(&key.id, at(2)).expect("revoked"), Some(revoked.clone()));
    assert_eq!((revoked.revoked, one.api_keys().expect("read")), (Some(at(1)), vec![revoked]));
    assert!(one.look().expect("read").api_keys_generation > added);
    assert_eq!(other.revoke_api_key("nobody", at(1)).expect("read"), None);
    other.probe(Duration::from_secs(1)).expect("it takes writes");
    assert_eq!(one.look().expect("read").last_event, 1);
}

fn key_uses_are_kept(subject: &impl Subject) {
    let store = subject.open();
    let key = KeyId([1, 2, 3, 4]);
    let click = |n: i64| Command { key: Some(key), ..opt_out(&format!("r{n}@example.org"), "x") };
    for clock in [0, 30_000, 59_999, 60_000] {
        store.record(&[click(clock)], at(clock)).expect("recorded");
    }
    assert_eq!(store.key_uses().expect("read"), [(key, at(60_000))]);
    assert!(at(60_000).since(at(0)) == Duration::from_secs(60));
}

fn webhooks_keep_their_place_until_they_are_sent_elsewhere(subject: &impl Subject) {
    let (one, other) = (subject.open(), subject.open());
    one.record(&[opt_out("a@example.org", "x"), opt_out("b@example.org", "x")], at(0))
        .expect("recorded");
    let starts =
        [("end".to_owned(), WebhookStart::End), ("old".to_owned(), WebhookStart::Beginning)];
    one.begin_webhooks(&starts).expect("begun");
    let (end, old) = (WebhookMark::new("end", 2), WebhookMark::new("old", 0));
    assert_eq!(other.webhooks().expect("read"), [end.clone(), old.clone()]);
    let failed = Some((at(7), "it answered 500".to_owned()));
    let (next_attempt, stopped) = (Some(at(9)), Some(at(8)));
    let failing = WebhookMark { cursor: 1, failures: 3, failed, next_attempt, stopped, ..old };
    one.keep_webhooks(&[failing.clone(), WebhookMark::new("nobody", 2)]).expect("kept");
    one.begin_webhooks(&starts).expect("begun");
    assert_eq!(other.webhooks().expect("read"), [end, failing.clone()]);
    let behind = WebhookMark { cursor: 0, ..failing.clone() };
    one.keep_webhooks(&[behind]).expect("passed over");
    assert_eq!(other.webhooks().expect("read")[1], failing);
    let seen = one.look().expect("read").webhook_resumes;
    let resumed = other.resume_webhook("old", None).expect("resumed");
    let again = WebhookMark { resumes: 1, ..WebhookMark::new("old", 1) };
    assert_eq!(resumed, Some(again));
    assert!(one.look().expect("read").webhook_resumes > seen);
    // What was noted before it was resumed is void.
    one.keep_webhooks(&[WebhookMark { cursor: 2, ..failing }]).expect("passed over");
    let back = WebhookMark { resumes: 2, ..WebhookMark::new("old", 0) };
    assert_eq!(one.webhooks().expect("read")[1].cursor, 1);
    assert_eq!(other.resume_webhook("old", Some(0)).expect("resumed"), Some(back));
    assert_eq!(other.resume_webhook("nobody", None).expect("read"), None);
}

fn when_a_checkpoint_left_is_kept_by_destination(subject: &impl Subject) {
    let (one, other) = (subject.open(), subject.open());
    assert_eq!(one.checkpoint_left("directory /a").expect("read"), None);
    one.keep_checkpoint_left("directory /a", at(5000)).expect("kept");
    one.keep_checkpoint_left("webhook shop", at(7000)).expect("kept");
    assert_eq!(other.checkpoint_left("directory /a").expect("read"), Some(at(5000)));
    assert_eq!(other.checkpoint_left("directory /b").expect("read"), None);
    other.keep_checkpoint_left("directory /a", at(4000)).expect("kept");
    assert_eq!(one.checkpoint_left("directory /a").expect("read"), Some(at(4000)), "set back");
    assert_eq!(one.checkpoint_left("webhook shop").expect("read"), Some(at(7000)));
    assert_eq!(subject.open().look().expect("read").last_event, 0, "it is no event");
}

fn forgetting_erases_address_and_notes_and_keeps_the_rest(subject: &impl Subject) {
    let store = subject.open();
    let who = recipient("Alice@example.org");
    store
        .record(&[suppress("Alice@example.org", "x", Reason::Bounce, "a note")], at(0))
        .expect("recorded");
    let entry = &store.entries(Page::After(0), 1).expect("read")[0];
    assert_eq!(
        (entry.recipient.as_deref(), entry.note.as_deref()),
        (Some("Alice@example.org"), Some("a note"))
    );
    let request = ForgetRequest { recipient: who.clone(), source: Source::Cli, actor: None };
    let forgotten = store.forget(&request, at(1)).expect("forgotten");
    assert!(forgotten.known && forgotten.still_in.is_empty(), "{forgotten:?}");
    let entries = store.entries_about(&who, u64::MAX, 10).expect("read");
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.recipient.is_none() && entry.note.is_none()));
    let holding = store.holding(&who).expect("read").expect("known");
    assert_eq!((holding.address, holding.standing.active(at(2)).count()), (None, 1));
    store.forget(&request, at(2)).expect("forgotten again");
    assert_eq!(store.look().expect("read").last_event, 2, "nothing was left to forget");
    store
        .record(&[suppress("alice@EXAMPLE.org", "x", Reason::Bounce, "")], at(3))
        .expect("recorded");
    assert_eq!(store.holding(&who).expect("read").expect("known").address, None);
    store.record(&[opt_out("alice@EXAMPLE.org", "x")], at(4)).expect("recorded");
    let address = store.holding(&who).expect("read").expect("known").address;
    assert_eq!(address.as_deref(), Some("alice@EXAMPLE.org"), "an act that changes something");
    let unknown = ForgetRequest { recipient: recipient("z@example.org"), ..request };
    assert!(!store.forget(&unknown, at(5)).expect("nothing to do").known);
    intact(&*store);
}

fn who_is_dormant_is_forgotten_once_and_nobody_else_is(subject: &impl Subject) {
    let store = subject.open();
    let held = |who: &str| store.holding(&recipient(who)).expect("read").expect("known").address;
    let drop_before = |before: i64, now: i64| {
        let dropped = store.forget_dormant(at(before), at(now), &|| false).expect("dropped");
        assert!(dropped.damaged == 0 && !dropped.has_copies, "{dropped:?}");
        dropped.recipients
    };
    let many: Vec<_> =
        (0..1200).map(|n| suppress(&n.to_string(), "x", Reason::Bounce, "")).collect();
    store.record(&many, at(0)).expect("recorded");
    store.record(&[opt_out("old@example.org", "x")], at(1)).expect("recorded");
    store.record(&[opt_out("back@example.org", "x")], at(1)).expect("recorded");
    store.record(&[opt_out("new@example.org", "x")], at(2)).expect("recorded");
    store
        .record(&[suppress("BACK@example.org", "y", Reason::Manual, "a note")], at(2))
        .expect("recorded");
    assert_eq!(drop_before(0, 3), 0, "nobody is older");
    let stopped = store.forget_dormant(at(2), at(3), &|| true).expect("stopped");
    assert_eq!(stopped.recipients, 0);
    assert_eq!(drop_before(2, 3), 1201, "in slices");
    assert_eq!(held("old@example.org"), None);
    assert_eq!(held("back@example.org").as_deref(), Some("back@example.org"), "heard of since");
    assert_eq!(held("new@example.org").as_deref(), Some("new@example.org"), "not older");
    let last = store.events(Page::Before(u64::MAX), 1).expect("read").remove(0);
    assert_eq!(
        (last.action, last.source, last.actor.as_deref()),
        (Action::Forget, Source::Cli, Some("retention.address_days"))
    );
    let old = store.standings(&[recipient("old@example.org")]).expect("read").remove(0);
    assert_eq!(old.active(at(3)).count(), 1, "what stands stays");
    assert_eq!(drop_before(2, 4), 0, "once");
    // An address that came back is dropped again, and who was forgotten by hand is passed over.
    store.record(&[opt_out("old@example.org", "y")], at(5)).expect("recorded");
    let by_hand = recipient("new@example.org");
    let request = ForgetRequest { recipient: by_hand, source: Source::Cli, actor: None };
    store.forget(&request, at(5)).expect("forgotten");
    assert_eq!(held("old@example.org").as_deref(), Some("old@example.org"));
    let dropped = subject.open().forget_dormant(at(6), at(6), &|| false).expect("dropped");
    assert_eq!(dropped.recipients, 2);
    assert_eq!((held("old@example.org"), held("back@example.org")), (None, None));
    intact(&*store);
}

/// A clock that ran ahead and was set back: what is read and what is recorded see one time.
fn a_clock_that_was_set_back_loses_nothing(subject: &impl Subject) {
    let store = subject.open();
    store.record(&[opt_out("ahead@example.org", "x")], at(1_000_000)).expect("recorded");
    assert_eq!(store.moment(at(0)).expect("read"), at(1_000_000));
    assert_eq!(store.moment(at(2_000_000)).expect("read"), at(2_000_000));
    let pause = |until| {
        Command::new(
            recipient("a@example.org"),
            Act::Pause { scope: scope("x"), until: at(until) },
            Source::Cli,
        )
    };
    let past = store.record(&[pause(500_000)], at(0)).expect("recorded").remove(0);
    assert!(!past.changed && past.standing.active(past.at).count() == 0, "it is over already");
    let to_come = store.record(&[pause(1_500_000)], at(0)).expect("recorded").remove(0);
    let now = store.moment(at(0)).expect("read");
    let standing = store.standings(&[recipient("a@example.org")]).expect("read").remove(0);
    assert!(to_come.changed && standing.active(now).count() == 1);
    intact(&*store);
}

/// More damaged rows than one slice has: they are left for another time, not tried for ever.
#[test]
fn folding_ends_where_all_that_is_left_is_damaged() {
    let subject = SqliteBehind::make();
    let store = SqliteStore::open(&DataDir::new(subject.0.path())).expect("the store");
    let store = store.folding_behind(SqliteStore::MAX_UNFOLDED);
    let acts = |scope| {
        let each = (0..1200).map(|n| opt_out(&format!("r{n}@example.org"), scope));
        each.collect::<Vec<_>>()
    };
    store.record(&acts("x"), at(0)).expect("recorded");
    while store.fold().expect("folded") {}
    store.record(&acts("y"), at(1)).expect("recorded");
    let database = rusqlite::Connection::open(subject.0.path().join("optout.db")).expect("opened");
    database.execute("UPDATE recipient SET standing = x'ff'", []).expect("damaged");
    let calls = std::iter::repeat_with(|| store.fold().expect("some stay as they are"));
    assert!(calls.take(10).any(|more| !more));
}

/// Once a look has noticed that the file is gone, nothing is read from it or written to it.
#[test]
fn a_sqlite_store_that_was_moved_away_answers_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let store = SqliteStore::create(&DataDir::new(&here)).expect("a store");
    store.record(&[opt_out("a@example.org", "x")], at(0)).expect("recorded");
    // So that it has a connection at hand that would go on reading.
    assert!(store.event(1).expect("read").is_some());
    std::fs::rename(&here, &there).expect("moved");
    assert!(store.check_place().is_err() && store.look().is_err());
    assert!(store.event(1).is_err() && store.record(&[], at(1)).is_err());
    std::fs::rename(&there, &here).expect("moved back");
    assert!(store.check_place().is_ok() && store.event(1).expect("read").is_some());
}

fn a_mailing_gets_one_answer_and_the_next_one_waits(subject: &impl Subject) {
    let list: ListId = "x.y".parse().expect("a list");
    let hour = 60 * 60 * 1000;
    let who = ["a@example.org", "b@example.org"].map(|who| (recipient(who), Frequency::Daily));
    let ask = |sending: &str, n: usize, now: i64| {
        // Another process each time.
        let until = subject.open().admit(&list, sending, &who[..n], at(now)).expect("answered");
        until.into_iter().map(|until| until.map(|until| until.since(at(0)))).collect::<Vec<_>>()
    };
    let next = Some(Frequency::Daily.interval());
    assert_eq!(ask("one", 1, 0), [None]);
    assert_eq!(ask("two", 2, hour), [next, None]);
    for now in [hour, 2 * hour] {
        assert_eq!(ask("one", 1, now), [None], "the same answer again");
        assert_eq!(ask("two", 2, now), [next, None]);
    }
    let due = i64::try_from(Frequency::Daily.interval().as_millis()).expect("small");
    assert_eq!(ask("two", 1, due), [None], "its time has come");
    assert_eq!(ask("three", 1, due), [Some(Frequency::Daily.interval() * 2)]);
    let other: ListId = "z".parse().expect("a list");
    assert_eq!(subject.open().admit(&other, "two", &who, at(due)).expect("answered"), [None, None]);
}

fn lists_are_essential_from_one_description_to_the_next(subject: &impl Subject) {
    let list: ListId = "receipts.x".parse().expect("a list");
    let store = subject.open();
    let describe =
        |is, now| store.describe(&[(list.clone(), is)], None, at(now)).expect("recorded");
    assert_eq!((describe(false, 0), describe(true, 1), describe(true, 2)), (0, 1, 0));
    store.record(&[opt_out("a@example.org", "x")], at(3)).expect("recorded");
    assert_eq!(describe(false, 4), 1);
    for store in [&store, &subject.open()] {
        let essential = store.essential().expect("read");
        let standing = store.standings(&[recipient("a@example.org")]).expect("read").remove(0);
        let stands = |now| standing.suppression_for(&list, at(now), &essential).is_some();
        assert!(!stands(3) && stands(4));
        intact(&**store);
    }
}

fn imported(recipient: &str) -> Command {
    let scope = Scope::Everything;
    let act = Act::Import { import: 1, scope, reason: Reason::Bounce, until: None };
    Command::new(Recipient::parse(recipient).expect("a recipient"), act, Source::Import)
}

fn an_import_goes_on_from_where_it_was_left_alone(subject: &impl Subject) {
    let (one, other) = (subject.open(), subject.open());
    let now = Time::from_millis(1_800_000_000_000).expect("in range");
    let begun = one.begin_import("a plan").expect("begun");
    assert_eq!((begun.number, begun.mark), (1, ImportMark::default()));
    let after = ImportMark { bytes: 10, digest: [1; 32], is_whole: false };
    one.record_import(1, (begun.mark, after), &[imported("a@example.org")], now).expect("recorded");
    // Whoever else goes on from the beginning does nothing.
    let late = other.record_import(1, (begun.mark, after), &[imported("b@example.org")], now);
    assert!(matches!(late, Err(StoreError::Overtaken)), "{late:?}");
    let kept = &other.imports().expect("read")[0];
    assert_eq!((kept.mark, kept.before, kept.last, kept.changed), (after, 0, 1, 1));
    let whole = ImportMark { is_whole: true, ..after };
    other.record_import(1, (after, whole), &[imported("a@example.org")], now).expect("recorded");
    assert!(one.record_import(1, (whole, whole), &[], now).is_err(), "it is over");
    assert_eq!(one.imports().expect("read")[0].changed, 1);
    assert_eq!(one.begin_import("a plan").expect("begun").number, 2);
    assert!(one.verify(None, &mut |_| {}).expect("read").faults.is_empty());
}

fn a_survey_is_of_one_moment(subject: &impl Subject) {
    let store = subject.open();
    let now = Time::from_millis(1_800_000_000_000).expect("in range");
    let record = |recipient: &str| store.record(&[imported(recipient)], now).expect("recorded");
    record("a@example.org");
    record("b@example.org");
    let release = Act::Release { scope: Scope::Everything, reason: Reason::Bounce };
    let a = Recipient::parse("a@example.org").expect("a recipient");
    store.record(&[Command::new(a, release, Source::Cli)], now).expect("recorded");
    record("c@example.org");
    let survey = |upto| {
        let found = store.survey(0, upto).expect("read");
        assert_eq!(found.upto, upto);
        let each = found.recipients.into_iter();
        each.map(|one| (one.address.expect("an address"), one.standing.active(now).count()))
            .collect::<Vec<_>>()
    };
    let row = |name: &str, stands| (format!("{name}@example.org"), stands);
    assert_eq!(survey(2), [row("a", 1), row("b", 1)]);
    assert_eq!(survey(4), [row("a", 0), row("b", 1), row("c", 1)]);
    assert_eq!(store.survey(2, 4).expect("read").recipients.len(), 1);
}
