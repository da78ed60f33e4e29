//! Forgetting is real, and keeps what stands.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{LIST, Place, eventually, text};

/// Files of the directory in which `needle` stands, in any case.
pub fn found_in(directory: &Path, needle: &str) -> Vec<String> {
    let output =
        std::process::Command::new("grep").args(["-rila", "-F", needle]).arg(directory).output();
    text(&output.expect("grep runs").stdout).lines().map(str::to_owned).collect()
}

#[test]
fn a_forgotten_recipient_is_still_suppressed_and_no_byte_is_left() {
    let place = Place::with_store();
    let service = place.serve();
    let others: Vec<_> = (0..3000).map(|n| format!("other{n}@example.net")).collect();
    let mut recipients = others.clone();
    recipients.insert(1500, "Alice.Smith@Bücher.example".to_owned());
    for path in place.links(LIST, &recipients) {
        assert_eq!(service.click(&path).status, 200);
    }
    let r = "alice.smith@xn--bcher-kva.example";
    place.done(&["suppress", r, "--all", "--note", "her lawyer wrote: secret-note-4711"]);
    assert!(
        !found_in(&place.data(), "alice.smith@").is_empty()
            && !found_in(&place.data(), "secret-note-4711").is_empty()
    );
    let other = place.run(&["forget", "nobody@example.org"]);
    assert!(other.status.code() == Some(0) && text(&other.stdout).contains("nothing was held"));

    assert!(place.done(&["forget", "ALICE.smith@bücher.example"]).contains("forgotten"));
    for needle in ["alice.smith@", "bücher.example", "secret-note-4711"] {
        assert_eq!(found_in(&place.data(), needle), Vec::<String>::new(), "{needle}");
    }
    assert_eq!(place.check(LIST, r), 1);
    assert_eq!(place.check("anything", r), 1);
    let shown = &place.json(&["show", r])[0];
    let actions: Vec<_> =
        shown["events"].as_array().expect("rows").iter().map(|e| e["action"].clone()).collect();
    assert_eq!(actions, ["forget", "suppress", "opt_out"]);
    assert!(shown["address"].is_null());
    assert!(
        shown["events"]
            .as_array()
            .expect("rows")
            .iter()
            .all(|e| e["recipient"].is_null() && e["note"].is_null())
    );
    assert_eq!(
        found_in(&place.data(), "other2999@example.net").len(),
        1,
        "nobody else was touched"
    );
    drop(service);
    place.verify();
}

#[test]
fn a_repeat_never_restores_an_address_and_a_change_does() {
    let place = Place::with_store();
    let service = place.serve();
    let path = place.link(LIST, "alice@example.org", "");
    service.click(&path);
    place.done(&["forget", "alice@example.org"]);
    place.done(&["forget", "alice@example.org"]);
    assert_eq!(service.click(&path).status, 200);
    place.done(&[
        "suppress",
        "alice@example.org",
        "--list",
        LIST,
        "--reason",
        "unsubscribe",
        "--note",
        "phone",
    ]);
    assert!(
        found_in(&place.data(), "alice@").is_empty() && found_in(&place.data(), "phone").is_empty()
    );
    assert_eq!(place.history().len(), 3, "opt_out, forget, and the repeat by another source");
    place.done(&["opt-in", "alice@example.org", "--list", LIST, "--evidence", "came back"]);
    assert_eq!(place.json(&["show", "alice@example.org"])[0]["address"], "alice@example.org");
    assert_eq!(place.check(LIST, "alice@example.org"), 0);
    drop(service);
    place.verify();
    place.done(&["forget", "alice@example.org"]);
    assert!(
        found_in(&place.data(), "alice@").is_empty()
            && found_in(&place.data(), "came back").is_empty()
    );
    place.verify();
}

/// `maria@example.org` holds `a@example.org`, and is no reason to call the erasure failed.
#[test]
fn an_address_within_another_is_told_apart_from_a_copy() {
    let place = Place::with_store();
    place.done(&["suppress", "a@example.org", "maria@example.org", "--list", LIST]);
    place.done(&["forget", "a@example.org"]);
    assert_eq!(place.json(&["show", "maria@example.org"])[0]["address"], "maria@example.org");
    place.done(&["suppress", "bob@example.org", "--list", LIST]);
    place.done(&[
        "suppress",
        "carol@example.org",
        "--list",
        LIST,
        "--note",
        "is the wife of bob@example.org",
    ]);
    let output = place.run(&["forget", "bob@example.org"]);
    assert_eq!(output.status.code(), Some(2), "carol's note quotes the address");
    assert!(text(&output.stderr).contains("optout.db"), "{}", text(&output.stderr));
    std::fs::write(place.data().join("old-copy.csv"), "Dave@example.org,x\n")
        .expect("it can be written");
    place.done(&["suppress", "dave@example.org", "--list", LIST]);
    let output = place.run(&["forget", "dave@example.org"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("old-copy.csv"));
    place.verify();
}

#[test]
fn forgetting_works_while_the_service_is_under_load() {
    let place = Place::with_store();
    let service = place.serve();
    let recipients: Vec<_> = (0..600).map(|n| format!("load{n}@example.net")).collect();
    let paths = place.links(LIST, &recipients);
    std::thread::scope(|scope| {
        let (service, paths) = (&service, &paths);
        scope.spawn(move || {
            paths.iter().for_each(|path| assert_eq!(service.click(path).status, 200))
        });
        for n in 0..5 {
            let r = format!("person{n}@example.org");
            place.done(&["suppress", &r, "--list", LIST]);
            place.done(&["forget", &r]);
            assert_eq!(found_in(&place.data(), &r), Vec::<String>::new());
        }
    });
    service.stop();
    place.verify();
}

/// What is recorded now is forty days old to a service whose clock says so.
#[test]
fn addresses_are_dropped_after_the_configured_time_and_suppressions_kept() {
    let keep = |days| format!("retention.address_days={days}");
    let place = Place::with_store();
    let serve = |clock, days| place.serve_with_clock(clock, &["--set", &keep(days)]);
    let service = place.serve_with(&["--set", &keep(30)]);
    let old: Vec<_> = (0..600).map(|n| format!("old{n}@example.org")).collect();
    for path in place.links(LIST, &old) {
        assert_eq!(service.click(&path).status, 200);
    }
    let note = ["--note", "letter of old7@example.org"];
    place.done(&[&["suppress", "old7@example.org", "--all"], &note[..]].concat());
    service.stop();
    assert!(!found_in(&place.data(), "@example.org").is_empty(), "nothing is due yet");

    let Some((service, _)) = serve("+3456000\n", 41) else {
        return;
    };
    assert_eq!(service.click(&place.link(LIST, "new@example.net", "")).status, 200);
    service.stop();
    assert!(!found_in(&place.data(), "@example.org").is_empty(), "the forty-first day is not over");

    for turn in ["the first", "the next"] {
        let Some((service, _)) = serve("+3456000\n", 30) else {
            return;
        };
        eventually("they are dropped", || found_in(&place.data(), "@example.org").is_empty());
        assert_eq!(service.click(&place.link(LIST, "new@example.net", "")).status, 200);
        if turn == "the first" {
            eventually("it is said", || {
                service.log().contains("addresses that were kept for long enough")
            });
        }
        service.stop();
    }
    // One whose address is damaged is passed over, and keeps nobody else's.
    let last = "SELECT max(event) FROM personal WHERE address IS NOT NULL";
    let change = format!("UPDATE personal SET address = x'61' WHERE event = ({last})");
    place.sqlite().execute_batch(&change).expect("changed");
    let Some((service, _)) = serve("+9000000\n", 30) else { return };
    eventually("it is said", || service.log().contains("optout verify tells what is damaged"));
    service.stop();
    place
        .sqlite()
        .execute_batch(&change.replace("x'61'", "cast('new@example.net' AS BLOB)"))
        .expect("mended");

    let history = place.history();
    let dropped = history
        .iter()
        .filter(|e| e["action"] == "forget" && e["actor"] == "retention.address_days");
    assert_eq!((dropped.count(), history.len()), (600, 600 + 1 + 1 + 600));
    for who in ["old0@example.org", "OLD599@example.org", "new@example.net"] {
        assert_eq!(place.check(LIST, who), 1, "{who}");
    }
    assert!(place.json(&["show", "old7@example.org"])[0]["address"].is_null());
    assert_eq!(place.json(&["show", "new@example.net"])[0]["address"], "new@example.net");
    place.verify();
    let refused = place.run(&["serve", "--set", "retention.address_days=36526"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("between 0 and 36525"), "{said}");
}

/// Notes are looked through as texts, since in the file one may be split over two pages; and a
/// longer address in a note is told apart from the one that was forgotten.
#[test]
fn quotes_in_notes_are_found_wherever_they_lie() {
    let place = Place::with_store();
    for (n, at) in [10, 430, 450, 455, 460, 2000, 4050].into_iter().enumerate() {
        let (ann, bob) = (format!("ann{n}@example.org"), format!("bob{n}@example.org"));
        let note = format!("{}{ann}", "x ".repeat(at / 2));
        place.done(&["suppress", &ann, "--list", LIST]);
        place.done(&["suppress", &bob, "--list", LIST, "--note", &note]);
        assert_eq!(place.run(&["forget", &ann]).status.code(), Some(2), "{at}");
    }
    place.done(&["suppress", "eve@example.org", "--list", LIST]);
    place.done(&[
        "suppress",
        "steve@example.org",
        "--list",
        LIST,
        "--note",
        "steve@example.org called",
    ]);
    place.done(&["forget", "eve@example.org"]);
    place.verify();
}

#[test]
fn a_link_may_bring_any_text_as_recipient() {
    let place = Place::with_store();
    let service = place.serve();
    let id = place.json(&["key", "list"])[0]["key"].as_str().expect("an id").to_owned();
    let key: optout::link::SigningKey = place.done(&["key", "show", &id]).parse().expect("a key");
    let list: optout::link::ListId = LIST.parse().expect("a list");
    for recipient in ["\0nul@example.org", "\0\0", " ", "\u{202e}gro.elpmaxe@a", "@", "a@@b"] {
        let link = optout::link::Link::new(1, list.clone(), "", recipient).expect("a link");
        assert_eq!(service.click(&format!("/u/{}", link.seal(&key))).status, 200);
    }
    assert_eq!(place.history().len(), 6);
    assert!(!place.done(&["history"]).contains('\u{202e}'));
    place.verify();
}

/// A backup, a replication or a long query of somebody else keeps the log from being truncated:
/// `forget` names it, and no click waits for that.
#[test]
fn who_reads_for_long_holds_up_an_erasure_and_no_click() {
    let place = Place::with_store();
    place.done(&["suppress", "alice@example.org", "--list", LIST]);
    let service = place.serve();
    let recipients: Vec<_> = (0..400).map(|n| format!("r{n}@example.net")).collect();
    let paths = place.links(LIST, &recipients);
    let reader = rusqlite::Connection::open(place.data().join("optout.db")).expect("the database");
    reader.execute_batch("BEGIN; SELECT count(*) FROM event;").expect("a read");
    let output = std::thread::scope(|scope| {
        let forget = scope.spawn(|| place.run(&["forget", "alice@example.org"]));
        for path in &paths {
            let began = Instant::now();
            assert_eq!(service.click(path).status, 200);
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
            std::thread::sleep(Duration::from_millis(10));
        }
        forget.join().expect("it ends")
    });
    let said = text(&output.stderr);
    // In the log too, when a click rewrote the page that the address is on before it was erased.
    assert!(output.status.code() == Some(2) && said.contains("optout.db"), "{said}");
    assert!(said.contains("run this again"), "{said}");
    drop(reader);
    place.done(&["forget", "alice@example.org"]);
    assert_eq!(found_in(&place.data(), "alice@"), Vec::<String>::new());
    service.stop();
    place.verify();
}
