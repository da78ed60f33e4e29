//! What an auditor checks: the tree, checkpoints, proofs and receipts, with the real binary and with a
//! program that shares nothing with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use optout::ledger::audit::{AuditKey, Proof, PublicKey, Receipt, SigningNoteKey};
use optout::ledger::{DataDir, SqliteStore, Time};

use crate::common::{LIST, Place, python_with, read_well_in_a_browser, text};

/// More events than the least part of the tree that is kept has.
const EVENTS: usize = 600;

fn audited() -> Place {
    let place = Place::with_store();
    let recipients: String = (0..EVENTS).map(|n| format!("r{n}@example.org\n")).collect();
    let output = place.run_with_input(&["suppress", "-", "--list", LIST], recipients.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    place
}

fn file(place: &Place, name: &str) -> String {
    place.path().join(name).to_str().expect("UTF-8").to_owned()
}

/// The public key in a file, and its text.
fn public_key(place: &Place) -> (String, PublicKey) {
    let path = file(place, "optout.pub");
    let line = place.done(&["audit", "key"]);
    fs::write(&path, &line).expect("written");
    (path, line.trim().parse().expect("a key"))
}

/// What the checker in Python says; whether it is content.
fn checked(arguments: &[&str]) -> Option<(bool, String)> {
    let python = python_with("hashlib")?;
    let checker = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/check.py");
    let output = Command::new(python).arg(checker).args(arguments).output().expect("it runs");
    Some((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn proofs_hold_on_another_machine_and_for_another_program() {
    let place = audited();
    let (key, _) = public_key(&place);
    let (old, proof, since) = (file(&place, "old"), file(&place, "proof"), file(&place, "since"));
    place.done(&["audit", "checkpoint", &old]);
    for event in ["1", "256", "257", "600"] {
        place.done(&["audit", "prove", event, &proof]);
        let elsewhere = Place::new();
        let said = elsewhere.done(&["audit", "verify-proof", &proof, "--key", &key]);
        assert!(said.contains(&format!("valid: this is event {event} of the 600")), "{said}");
        let line = fs::read_to_string(&key).expect("a key");
        if let Some((is_content, said)) = checked(&["proof", &proof, &line]) {
            assert!(is_content, "{said}");
        }
    }
    place.done(&["suppress", "later@example.org", "--list", LIST]);
    place.done(&["audit", "consistency", &old, &since]);
    let elsewhere = Place::new();
    let said = elsewhere.done(&["audit", "verify-proof", &since, "--key", &key]);
    assert!(said.contains("601 events") && said.contains("with the 600"), "{said}");
    let views = elsewhere.json(&["audit", "verify-proof", &since, "--key", &key]);
    assert_eq!((&views[0]["old"]["size"], &views[0]["valid"]), (&600.into(), &true.into()));
    let line = fs::read_to_string(&key).expect("a key");
    if let Some((is_content, said)) = checked(&["proof", &since, &line]) {
        assert!(is_content && said.trim() == "600 in 601", "{said}");
    }
    let output = place.run(&["audit", "prove", "602"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("1 to 601"));
}

#[test]
fn a_proof_with_any_byte_changed_or_of_another_key_is_refused() {
    let place = audited();
    let (path, key) = public_key(&place);
    let (old, proof, since) = (file(&place, "old"), file(&place, "proof"), file(&place, "since"));
    place.done(&["audit", "checkpoint", &old]);
    place.done(&["audit", "prove", "300", &proof]);
    place.done(&["suppress", "later@example.org", "--list", LIST]);
    place.done(&["audit", "consistency", &old, &since]);
    for name in [&proof, &since] {
        let mut octets = fs::read(name).expect("a proof");
        let open = |octets: &[u8]| str::from_utf8(octets).ok().map(|text| Proof::open(text, &key));
        assert!(open(&octets).is_some_and(|opened| opened.is_ok()));
        for at in 0..octets.len() {
            for bit in 0..8 {
                octets[at] ^= 1 << bit;
                if let Some(Ok(shown)) = open(&octets) {
                    panic!("octet {at} of {name}: {shown:?}");
                }
                octets[at] ^= 1 << bit;
            }
            assert!(open(&octets[..at]).is_none_or(|opened| opened.is_err()), "cut at {at}");
        }
        octets[60] ^= 1;
        fs::write(name, &octets).expect("written");
        let said = refused(&place.run(&["audit", "verify-proof", name, "--key", &path]));
        assert!(said.contains("NOT VALID: "), "{said}");
    }
    let other = audited();
    let (other_path, _) = public_key(&other);
    other.done(&["audit", "prove", "300", &proof]);
    let said = refused(&place.run(&["audit", "verify-proof", &proof, "--key", &path]));
    assert!(said.contains("not signed with the key"), "{said}");
    // Another tree: the proof of one beside the checkpoint of another, signed with the right key.
    let (dir, other_dir) = (place.data().join("audit.key"), other.data().join("audit.key"));
    fs::copy(dir, other_dir).expect("copied");
    let mut parts = fs::read_to_string(&proof).expect("a proof");
    let checkpoint = other.done(&["audit", "checkpoint"]);
    parts.truncate(parts.find("\n\n").expect("a checkpoint") + 2);
    place.done(&["audit", "prove", "300", &proof]);
    let own = fs::read_to_string(&proof).expect("a proof");
    let head = own.split("\n\n").next().expect("a head");
    fs::write(&proof, format!("{head}\n\n{checkpoint}")).expect("written");
    let said = refused(&place.run(&["audit", "verify-proof", &proof, "--key", &path]));
    assert!(said.contains("do not lead to the signed root"), "{said}");
    let output = place.run(&["audit", "verify-proof", &proof, "--key", &(other_path + "x")]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn verify_names_what_was_changed_in_the_tree_or_behind_its_back() {
    let forged = |number: u32| {
        format!(
            "UPDATE event SET body = (SELECT cast(substr(body, 1, 17) || x'05' || substr(body, 19) AS BLOB) FROM event
             WHERE number = {number}) WHERE number = {number}"
        )
    };
    let swapped = "UPDATE event SET number = -1 WHERE number = 300;
                   UPDATE event SET number = 300 WHERE number = 301;
                   UPDATE event SET number = 301 WHERE number = -1;";
    for (change, names) in [
        (
            "UPDATE tree SET hash = zeroblob(32) WHERE position = 1",
            "events 257 to 512: the hash tree has",
        ),
        ("DELETE FROM tree WHERE position = 0", "events 1 to 256: the hash tree lacks"),
        (
            "INSERT INTO tree VALUES (16, 0, zeroblob(32))",
            "the hash tree keeps 3 nodes where 2 are due",
        ),
        ("UPDATE tree SET hash = x'00' WHERE position = 0", "events 1 to 256"),
        (swapped, "event 300: its bytes say that it is event 301"),
        (&forged(300), "event 300: its bytes do not have its leaf hash"),
        ("DELETE FROM event WHERE number = 600", "event 600"),
    ] {
        let place = audited();
        place.sqlite().execute_batch(change).expect(change);
        let said = refused(&place.run(&["verify"]));
        assert!(said.lines().nth(1).is_some_and(|first| first.contains(names)), "{change}: {said}");
    }
}

/// Whoever changes an event, its leaf and the tree alike is found by the checkpoint alone.
#[test]
fn an_older_checkpoint_shows_what_was_rewritten_or_removed() {
    let place = audited();
    let (key, _) = public_key(&place);
    let old = file(&place, "old");
    place.done(&["audit", "checkpoint", &old]);
    place.done(&["verify", "--checkpoint", &old]);
    place.done(&["verify", "--checkpoint", &old, "--key", &key]);
    // As if the last recipient had never been.
    place
        .sqlite()
        .execute_batch(
            "DELETE FROM event WHERE number = 600;
             DELETE FROM personal WHERE event = 600;
             DELETE FROM recipient WHERE last = 600;
             UPDATE meta SET value = 599 WHERE name = 'folded';",
        )
        .expect("removed");
    place.verify();
    let said = refused(&place.run(&["verify", "--checkpoint", &old]));
    assert!(said.contains("covers 600 events, and event 600"), "{said}");
    let said = refused(&place.run(&["audit", "consistency", &old]));
    assert!(said.contains("fewer events than the 600"), "{said}");
    // Another in its place.
    place.done(&["suppress", "another@example.org", "--list", LIST]);
    place.verify();
    let said = refused(&place.run(&["verify", "--checkpoint", &old]));
    assert!(said.contains("the first 600 events are not those"), "{said}");
    let said = refused(&place.run(&["audit", "consistency", &old]));
    assert!(said.contains("not the one that the checkpoint was made of"), "{said}");
}

/// What is wrong after a checkpoint is not held against it, and nothing is proved that does not hold.
#[test]
fn what_was_changed_later_leaves_an_older_checkpoint_alone() {
    let place = audited();
    let old = file(&place, "old");
    place.done(&["audit", "checkpoint", &old]);
    place.done(&["suppress", "x@example.org", "y@example.org", "z@example.org", "--list", LIST]);
    let change =
        "UPDATE event SET body = (SELECT body FROM event WHERE number = 1) WHERE number = 602";
    place.sqlite().execute_batch(change).expect("changed");
    let proof = file(&place, "proof");
    let unproved = place.run(&["audit", "prove", "602", &proof]);
    assert_eq!(unproved.status.code(), Some(2), "{}", text(&unproved.stderr));
    let change = "UPDATE tree SET hash = zeroblob(32) WHERE level = 8 AND position = 1";
    place.sqlite().execute_batch(change).expect("changed");
    let proved = place.run(&["audit", "prove", "1", &proof]);
    assert_eq!(proved.status.code(), Some(0), "{}", text(&proved.stderr));
    let unproved = place.run(&["audit", "prove", "300", &proof]);
    let said = text(&unproved.stderr);
    assert!(unproved.status.code() == Some(2) && said.contains("optout verify"), "{said}");
    place.sqlite().execute_batch("DELETE FROM event WHERE number = 602").expect("removed");
    let said = refused(&place.run(&["verify", "--checkpoint", &old]));
    assert!(said.contains("event 602 is missing") && !said.contains("the checkpoint"), "{said}");
}

/// A check makes no key: it could not tell what the lost one signed.
#[test]
fn a_check_with_a_lost_key_says_that_it_is_lost() {
    let place = audited();
    let old = file(&place, "old");
    place.done(&["audit", "checkpoint", &old]);
    fs::remove_file(place.data().join("audit.key")).expect("removed");
    for check in [&["verify", "--checkpoint", &old][..], &["audit", "consistency", &old]] {
        let output = place.run(check);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("audit.key is missing"), "{said}");
    }
    assert!(!place.data().join("audit.key").exists());
}

#[test]
fn another_program_computes_the_root_from_an_export() {
    let place = Place::with_store();
    let rows = place.path().join("rows.csv");
    let mut lines = String::from("email,reason,scope,since,until\n");
    for n in 0..100_000 {
        let (reason, until) = match n % 4 {
            0 => ("complaint", ""),
            1 => ("bounce", ""),
            2 => ("unsubscribe", ""),
            _ => ("manual", "2100-01-01T00:00:00Z"),
        };
        let scope = if n % 3 == 0 { "*".to_owned() } else { format!("l{}.example.com", n % 7) };
        lines += &format!(
            "größe{n}@example.org,{reason},{scope},2020-02-0{}T00:00:00Z,{until}\n",
            n % 9 + 1
        );
    }
    fs::write(&rows, lines).expect("written");
    place.done(&["import", rows.to_str().expect("UTF-8")]);
    let campaign = place.link(LIST, "clicks@example.org", "größe");
    let service = place.serve();
    assert_eq!(service.click(&campaign).status, 200);
    let form = service.public(
        "POST",
        &campaign,
        &["Content-Type: application/x-www-form-urlencoded", "Accept: text/html"],
        b"act=why&why=other&text=because",
    );
    assert_eq!(form.status, 200);
    service.stop();
    place.done(&[
        "suppress",
        "a@example.org",
        "--all",
        "--note",
        "by phone",
        "--until",
        "2100-01-01T00:00:00Z",
    ]);
    place.done(&["opt-in", "clicks@example.org", "--list", LIST, "--evidence", "a form"]);
    place.done(&["release", "a@example.org", "--all", "--reason", "manual", "--note", "asked"]);
    place.run(&["forget", "clicks@example.org"]);
    let export = place.run(&["--json", "history", "--hashed", "--oldest-first"]);
    assert!(export.status.success() && export.stdout.len() > 100_000 * 200);
    let path: PathBuf = place.path().join("export");
    fs::write(&path, export.stdout).expect("written");
    let checkpoint = file(&place, "checkpoint");
    place.done(&["audit", "checkpoint", &checkpoint]);
    let signed = fs::read_to_string(&checkpoint).expect("a checkpoint");
    let mut signed = signed.lines().skip(1);
    let expected = format!("{} {}", signed.next().expect("size"), signed.next().expect("root"));
    let Some((is_content, said)) = checked(&["root", path.to_str().expect("UTF-8")]) else {
        return;
    };
    assert!(is_content && said.trim() == expected, "{said} is not {expected}");
    let key = place.done(&["audit", "key"]);
    let (is_content, said) = checked(&["checkpoint", &checkpoint, &key]).expect("Python");
    assert!(is_content && said.trim() == expected, "{said} is not {expected}");
    place.verify();
}

#[test]
fn the_key_is_made_once_stays_in_a_backup_and_nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = audited();
    let (_, key) = public_key(&place);
    let path = place.data().join("audit.key");
    let mode = fs::metadata(&path).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let service = place.serve();
    service.stop();
    assert_eq!(place.done(&["audit", "key"]).trim(), key.to_string());
    let old = file(&place, "old");
    place.done(&["audit", "checkpoint", &old]);
    let backup = file(&place, "backup");
    place.done(&["backup", &backup]);
    let restored = Place::new();
    restored.done(&["restore", &backup]);
    assert_eq!(restored.done(&["audit", "key"]).trim(), key.to_string());
    restored.done(&["verify", "--checkpoint", &old]);
    restored.done(&["audit", "consistency", &old]);
    fs::write(&path, "something else").expect("written");
    let output = place.run(&["audit", "checkpoint"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("audit.key"), "{said}");
    assert!(!said.contains("something else"), "nothing of the file is repeated");
}

/// A store from before there was a tree has one once it is opened.
#[test]
fn an_older_store_gets_its_tree_when_it_is_opened() {
    let place = audited();
    let before = place.done(&["audit", "checkpoint"]);
    place.sqlite().execute_batch("DROP TABLE tree; PRAGMA user_version = 5;").expect("older");
    assert_eq!(place.done(&["audit", "checkpoint"]), before);
    place.verify();
    let dir = DataDir::new(place.data());
    let store = SqliteStore::open(&dir).expect("a store");
    let (_, was_made) = AuditKey::read_or_make(&dir, &store).expect("a key");
    assert!(!was_made);
}

#[test]
fn a_recipient_keeps_a_receipt_that_proves_the_opt_out_and_names_nobody() {
    let place = audited();
    place.done(&["key", "new"]);
    let service = place.serve();
    let (key_path, key) = public_key(&place);
    let path = place.link(LIST, "Alice@Example.org", "c1");
    let html = ["Accept: text/html", "Content-Type: application/x-www-form-urlencoded"];
    let receipt = format!("{path}?receipt");
    let before = service.public("GET", &receipt, &html, b"");
    assert!(before.status == 200 && before.body.contains("<html"), "there is none yet");
    let left = service.public("POST", &path, &html, b"act=opt_out");
    assert!(left.body.contains(r#"<a href="?receipt" download"#), "{}", left.body);
    let events = place.history().len();
    let kept = service.public("GET", &receipt, &html, b"");
    assert_eq!(kept.status, 200);
    assert_eq!(kept.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        kept.header("content-disposition"),
        Some(r#"attachment; filename="receipt-601.txt""#)
    );
    assert!(kept.body.contains(&format!("You asked for no more mail of {LIST}.")), "{}", kept.body);
    assert!(!kept.body.to_lowercase().contains("alice"), "no address in clear: {}", kept.body);
    assert_eq!(place.history().len(), events, "looking changes nothing");
    let page = service.public("GET", &path, &html, b"");
    assert!(page.body.contains("?receipt"), "it is offered as long as the opt-out stands");

    let name = file(&place, "receipt.txt");
    fs::write(&name, &kept.body).expect("written");
    let elsewhere = Place::new();
    let verify = ["audit", "verify-receipt", &name, "--key", &key_path];
    let said = elsewhere.done(&verify);
    assert!(said.contains("valid: this is event 601 of the 601"), "{said}");
    let said = elsewhere.done(&[&verify[..], &["--recipient", "alice@example.org"]].concat());
    assert!(said.contains("is this recipient's"), "{said}");
    let other = elsewhere.run(&[&verify[..], &["--recipient", "bob@example.org"]].concat());
    assert!(refused(&other).contains("NOT this recipient's"));
    let views = elsewhere.json(&verify);
    assert_eq!(
        (&views[0]["valid"], &views[0]["event"]["action"]),
        (&true.into(), &"opt_out".into())
    );
    let line = fs::read_to_string(&key_path).expect("a key");
    if let Some((is_content, said)) = checked(&["receipt", &name, &line, "alice@example.org"]) {
        assert!(is_content, "{said}");
        let (is_content, said) =
            checked(&["receipt", &name, &line, "bob@example.org"]).expect("Python");
        assert!(!is_content && said.contains("somebody else's"), "{said}");
    }

    let mut octets = kept.body.clone().into_bytes();
    for at in 0..octets.len() {
        octets[at] ^= 1 << (at % 8);
        let changed = str::from_utf8(&octets).map(|text| Receipt::open(text, &key).is_ok());
        assert!(!changed.unwrap_or(false), "octet {at}");
        octets[at] ^= 1 << (at % 8);
    }
    fs::write(&name, kept.body.replace("no more mail", "some mail")).expect("written");
    assert!(refused(&elsewhere.run(&verify)).contains("it was changed"));

    // Words that its own sender signed, and that are not what the event says.
    let signer = fs::read_to_string(place.data().join("audit.key")).expect("a key");
    let signer = SigningNoteKey::parse(signer.trim_ascii()).expect("a key");
    let words = key.open(&kept.body).expect("signed");
    let recorded = words.find("recorded   2").expect("when") + 11;
    for lie in [
        words.replace("no more mail", "some mail"),
        words.replace("scope      weekly", "scope      monthly"),
        format!("{}1{}", &words[..recorded], &words[recorded + 1..]),
    ] {
        assert_ne!(lie, words);
        fs::write(&name, signer.sign(&lie)).expect("written");
        assert!(refused(&elsewhere.run(&verify)).contains("not what its event says"));
        if let Some((is_content, said)) = checked(&["receipt", &name, &line]) {
            assert!(!is_content && said.contains("not what its event says"), "{said}");
        }
    }

    // What was taken back has no receipt.
    let at = left.body.find(r#"name="event" value=""#).expect("an undo") + 20;
    let event = left.body[at..].split('"').next().expect("a number");
    let undone = service.public("POST", &path, &html, format!("act=undo&event={event}").as_bytes());
    assert!(undone.status == 200 && !undone.body.contains("?receipt"), "{}", undone.body);
    let none = service.public("GET", &receipt, &html, b"");
    assert!(none.body.contains("<html"));
    service.stop();
}

/// The instant just before an event, and its own.
fn around(event: &serde_json::Value) -> (String, String) {
    let at: Time = event["at"].as_str().expect("a time").parse().expect("a time");
    let before = Time::from_millis(at.as_millis() - 1).expect("in range");
    (before.to_string(), at.to_string())
}

#[test]
fn what_stood_at_any_instant_is_known() {
    let place = Place::with_store();
    let who = "alice@example.org";
    let rows = file(&place, "rows.csv");
    fs::write(&rows, format!("email,reason,since\n{who},bounce,2020-02-03T04:05:06Z\n"))
        .expect("written");
    place.done(&["import", &rows, "--list", "example.com"]);
    place.done(&["suppress", who, "--list", LIST, "--reason", "unsubscribe"]);
    place.done(&[
        "release",
        who,
        "--list",
        "example.com",
        "--reason",
        "bounce",
        "--note",
        "repaired",
    ]);
    place.done(&["opt-in", who, "--list", LIST, "--evidence", "a form"]);
    let history = place.history();
    let [opt_in, release, opt_out, import] = &history[..] else { panic!("{history:?}") };
    let at = |time: &str| {
        let output = place.run(&["check", "--list", LIST, who, "--at", time, "--json"]);
        let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.code(), Some(i32::from(view["suppressed"] == true)));
        view["suppression"]["reason"].as_str().map(str::to_owned)
    };
    let bounce = Some("bounce".to_owned());
    let (before, then) = around(import);
    assert_eq!((at("2020-02-04T00:00:00Z"), at(&before), at(&then)), (None, None, bounce.clone()));
    let (_, then) = around(opt_out);
    assert_eq!(at(&then), bounce, "the stronger of two");
    let (before, then) = around(release);
    assert_eq!((at(&before), at(&then)), (bounce, Some("unsubscribe".to_owned())));
    let (before, then) = around(opt_in);
    assert_eq!((at(&before), at(&then)), (Some("unsubscribe".to_owned()), None));

    // What was imported counts from then, and its own date stands beside it.
    let (_, then) = around(import);
    let views = place.json(&["show", who, "--at", &then]);
    let [own] = &views[0]["suppressions"].as_array().expect("an array")[..] else {
        panic!("{views:?}")
    };
    assert_eq!(own["since"], "2020-02-03T04:05:06.000Z");
    assert_eq!(own["recorded"], import["at"]);
    assert_eq!(views[0]["events"].as_array().map(Vec::len), Some(1), "no event of later");
    let said = text(&place.run(&["check", "--list", LIST, who, "--at", &then]).stdout);
    assert!(said.contains("RECORDED") && said.contains("2020-02-03T04:05:06.000Z"), "{said}");
    let output = place.run(&["check", "--list", LIST, who, "--at", "2999-01-01T00:00:00Z"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("in the future"));
    let output = place.run(&["show", who, "--at", "2026-01-01"]);
    assert_eq!(output.status.code(), Some(2), "a time without an offset");
}

#[test]
fn the_answer_to_a_letter_holds_everything_and_its_proofs_hold() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = audited();
    let (_, key) = public_key(&place);
    let who = "bob+<b>@example.org";
    place.done(&[
        "suppress",
        who,
        "--all",
        "--reason",
        "unsubscribe",
        "--note",
        "by phone & in <writing>",
    ]);
    place.done(&["opt-in", who, "--list", LIST, "--evidence", "a form"]);
    let letter = file(&place, "letter.html");
    // Others could read what is replaced.
    fs::write(&letter, "").expect("written");
    fs::set_permissions(&letter, fs::Permissions::from_mode(0o644)).expect("own file");
    place.done(&["show", who, "--html", &letter]);
    read_well_in_a_browser(&[&letter]);
    let page = fs::read_to_string(&letter).expect("a page");
    assert_eq!(fs::metadata(&letter).expect("a page").permissions().mode() & 0o777, 0o600);
    for what in [
        "bob+&lt;b&gt;@example.org",
        "by phone &amp; in &lt;writing&gt;",
        "unsubscribe",
        &key.to_string(),
    ] {
        assert!(
            page.contains(&what.replace('/', "&#x2f;")) || page.contains(what),
            "{what} in {page}"
        );
    }
    assert!(!page.contains("<script") && !page.contains("<b>@"));
    // The proofs, copied from the page.
    let unescaped = page.replace("&#x2f;", "/");
    let proofs: Vec<&str> = unescaped.split("c2sp.org/tlog-proof@v1").skip(1).collect();
    assert_eq!(proofs.len(), 2);
    for rest in proofs {
        let end = rest.find('<').expect("an end");
        let proof = format!("c2sp.org/tlog-proof@v1{}\n", rest[..end].trim_end());
        let shown = Proof::open(&proof, &key);
        assert!(shown.is_ok(), "{shown:?} {proof}");
    }
    let nobody = place.run(&["show", "nobody@example.org", "--html", "-"]);
    assert!(text(&nobody.stdout).contains("Nothing is held on this recipient"));
    place.run(&["forget", who]);
    place.done(&["show", who, "--html", &letter]);
    let page = fs::read_to_string(&letter).expect("a page");
    assert!(page.contains("forgotten: it was erased") && !page.contains("by phone"));
}
