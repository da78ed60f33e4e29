//! What an import records: once, whatever stops it, never weakening anything, and so that it can be taken
//! back.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::{exported, gzip, import, rows, sample};
use crate::common::{Place, is_long, text};

#[test]
fn what_ends_early_is_kept_so_far_and_goes_on_once_it_is_whole() {
    let place = Place::new();
    let content = rows(20_000);
    let whole = gzip(content.as_bytes());
    let (status, said) = import(&place, "rows.gz", &whole[..whole.len() / 2], &[]);
    assert_eq!(status, 2);
    assert!(said.contains("gzip data ends early, after") && said.contains("in line"), "{said}");
    assert!(said.contains("kept as import 1"), "{said}");
    let kept = exported(&place).len();
    assert!(kept > 1000, "{kept}");
    let (status, said) = import(&place, "rows.gz", &whole, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("going on with import 1"), "{said}");
    assert!(said.contains("20000 suppressions recorded, 0 stood already"), "{said}");
    assert_eq!(place.history().len(), 20_000, "no row was recorded twice");

    let open = "email,reason,scope\na@example.org,manual,*\nb@example.org,\"manual,*\nc@example.org,manual,*\n";
    let (status, said) = import(&place, "open.csv", open, &[]);
    assert_eq!(status, 2, "{said}");
    assert_eq!(place.check("any.example.com", "a@example.org"), 1, "the row before is kept");
    assert_eq!(place.check("any.example.com", "c@example.org"), 1, "and that behind is read");
    let (status, said) = import(
        &place,
        "page.json",
        "{\"Suppressions\":[{\"EmailAddress\":\"d@example.org\",\
        \"SuppressionReason\":\"HardBounce\"},\n{\"EmailAddress\":",
        &[],
    );
    assert_eq!(status, 2);
    assert!(said.contains("line 2: this is no JSON with rows, it ends early"), "{said}");
    assert_eq!(place.check("any.example.com", "d@example.org"), 1, "the row before is kept");
    place.verify();
}

#[test]
fn a_file_that_changes_while_it_is_read_is_noticed() {
    let place = Place::new();
    let path = place.path().join("growing.csv");
    fs::write(&path, rows(20_000)).expect("written");
    let mut child = place
        .command(&["import", path.to_str().expect("UTF-8")])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // Once the store is there, the file is open.
    crate::common::eventually("the store is made", || place.data().join("optout.db").exists());
    let changed = fs::read_to_string(&path).expect("read").replace("r19999@", "s19999@");
    fs::write(&path, changed).expect("written");
    let output = {
        let status = child.wait().expect("it ends");
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut said)
            .expect("read");
        (status.code(), said)
    };
    assert_eq!(output.0, Some(2), "{}", output.1);
    assert!(output.1.contains("was changed while it was read, up to line"), "{}", output.1);
    let again = place.run(&["import", path.to_str().expect("UTF-8")]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    place.verify();
}

/// Deterministic, so that a failure can be looked into; each run differs in where it is stopped.
fn delays(seed: u64) -> impl Iterator<Item = Duration> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(20 + (state >> 33) % 1500)
    })
}

#[test]
fn an_import_that_is_killed_at_random_goes_on_and_doubles_nothing() {
    let place = Place::new();
    let path = place.path().join("rows.csv");
    let content = rows(12_000).replace("r77@example.org,HardBounce", "r77@example.org,NoReason");
    fs::write(&path, content).expect("written");
    let file = path.to_str().expect("UTF-8");
    let enough = if is_long() { 200 } else { 20 };
    let (mut kills, mut done) = (0, None);
    for delay in delays(std::process::id().into()) {
        let said = place.path().join("said");
        let mut child = place
            .command(&["import", file])
            .stdout(fs::File::create(&said).expect("made"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        std::thread::sleep(delay);
        // In the end it is let finish, however slow the machine is.
        if kills < enough && child.try_wait().expect("it can be waited for").is_none() {
            kills += 1;
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            // Who was told that all is done does not start it again.
            let is_done = fs::read_to_string(&said).expect("read").contains("11999 suppressions");
            done = is_done.then_some(2);
        } else {
            done = child.wait().expect("it ends").code();
        }
        if done.is_some() {
            break;
        }
    }
    assert_eq!(done, Some(2), "one row is bad");
    assert!(kills > 0, "it was never interrupted");
    let bad = fs::read_to_string(place.path().join("rows.csv.bad.csv")).expect("the file");
    assert_eq!(bad.lines().count(), 2, "the bad row is told once: {bad}");
    let history = place.history();
    assert_eq!(history.len(), 11_999, "after {kills} kills");
    let import = &history[0]["value"];
    assert!(history.iter().all(|event| event["value"] == *import && event["changed"] == true));
    for n in [0, 1_999, 2_000, 11_999] {
        let shown = &place.json(&["show", &format!("r{n}@example.org")])[0];
        assert_eq!(shown["repeats"], 0, "r{n} was asked for twice");
    }
    place.verify();
}

#[test]
fn a_dry_run_says_what_would_be_and_records_nothing() {
    let place = Place::new();
    let file = sample("postmark.csv");
    let said = place.json(&["import", &file, "--dry-run"]);
    assert_eq!((&said[0]["import"], &said[0]["changed"]), (&Value::Null, &4.into()));
    assert!(!place.data().exists());
    place.done(&["key", "new"]);
    place.done(&["suppress", "gone@example.org", "--all", "--reason", "bounce"]);
    let said = place.json(&["import", &file, "--dry-run"]);
    assert_eq!((&said[0]["changed"], &said[0]["stood"]), (&3.into(), &1.into()));
    assert_eq!(place.history().len(), 1);
}

#[test]
fn an_import_never_weakens_what_stands() {
    let place = Place::with_store();
    place.done(&["suppress", "a@example.org", "--list", "example.com", "--reason", "manual"]);
    place.done(&[
        "suppress",
        "b@example.org",
        "--list",
        "example.com",
        "--until",
        "2999-06-01T00:00:00Z",
    ]);
    place.done(&[
        "suppress",
        "c@example.org",
        "--list",
        "example.com",
        "--until",
        "2999-01-01T00:00:00Z",
    ]);
    let before = exported(&place);
    let content = "email,reason,scope,until\n\
        a@example.org,manual,example.com,2999-01-01T00:00:00Z\n\
        b@example.org,manual,example.com,2999-01-01T00:00:00Z\n\
        c@example.org,manual,example.com,2999-06-01T00:00:00Z\n\
        d@example.org,manual,example.com,2001-01-01T00:00:00Z\n\
        a@example.org,pause,example.com,2999-01-01T00:00:00Z\n";
    let (status, said) = import(&place, "rows.csv", content, &[]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("2 suppressions recorded, 2 stood already, 1 row left out"), "{said}");
    let after = exported(&place);
    assert_eq!((&before[0], &before[1]), (&after[0], &after[2]), "what stood longer stays");
    assert!(after[1].starts_with("a@example.org,example.com,pause,"));
    assert!(after[3].ends_with("2999-06-01T00:00:00.000Z"), "{}", after[3]);
    place.verify();
}

#[test]
fn taking_an_import_back_undoes_exactly_what_it_changed() {
    let place = Place::with_store();
    let list = "news.example.com";
    place.done(&["suppress", "stood@example.org", "--list", list]);
    place.done(&[
        "suppress",
        "longer@example.org",
        "--list",
        list,
        "--until",
        "2999-01-01T00:00:00Z",
    ]);
    let before = place.done(&["export"]);
    let leave_again = ["suppress", "again@example.org", "--list", list, "--reason", "unsubscribe"];
    place.done(&leave_again);
    place.done(&["opt-in", "again@example.org", "--list", list, "--evidence", "form"]);
    let content = format!(
        "email,reason,scope,until\nagain@example.org,unsubscribe,{list},\n\
         new@example.org,unsubscribe,{list},\nstood@example.org,manual,{list},\n\
         longer@example.org,manual,{list},2999-06-01T00:00:00Z\nclicked@example.org,unsubscribe,{list},\n\
         extended@example.org,manual,{list},2999-06-01T00:00:00Z\nforgotten@example.org,bounce,{list},\n\
         twice@example.org,bounce,{list},\n"
    );
    let (status, said) = import(&place, "rows.csv", &content, &[]);
    assert!(status == 0 && said.contains("import 1: 8 rows: 7 suppressions recorded"), "{said}");
    // Each of these asked for the same since, though it stood already.
    let link = place.link(list, "clicked@example.org", "");
    let service = place.serve();
    assert_eq!(service.click(&link).status, 200);
    service.stop();
    place.done(&["suppress", "extended@example.org", "--list", list]);
    place.done(&leave_again);
    let (_, said) = import(
        &place,
        "other.csv",
        format!("email,reason,scope\ntwice@example.org,bounce,{list}\n"),
        &[],
    );
    assert!(said.contains("import 2: 1 row: 0 suppressions recorded, 1 stood already"), "{said}");
    place.done(&["forget", "forgotten@example.org"]);

    let release = ["release", "--import", "1", "--note", "the wrong list"];
    let output = place.run(&release);
    assert_eq!(output.status.code(), Some(2), "one of them cannot be named");
    assert!(
        text(&output.stdout).contains("2 suppressions ended or shortened"),
        "{}",
        text(&output.stdout)
    );
    assert!(text(&output.stderr).contains("1 suppression that it made cannot be taken back"));
    for (recipient, status) in [
        ("new", 0),
        ("stood", 1),
        ("longer", 1),
        ("clicked", 1),
        ("extended", 1),
        ("forgotten", 1),
        ("twice", 1),
        ("again", 1),
    ] {
        assert_eq!(place.check(list, &format!("{recipient}@example.org")), status, "{recipient}");
    }
    let after = place.done(&["export", "--without-forgotten"]);
    assert!(after.starts_with(&before), "what stood before stands as it did: {after}");
    let released = &place.json(&["history", "new@example.org", "--action", "release"])[0];
    assert_eq!(released["note"], "the wrong list");
    assert!(released["undoes"].is_u64());
    // Once more changes nothing, and the import does not come back.
    let output = place.run(&release);
    assert!(text(&output.stdout).contains("0 suppressions ended"));
    // Nothing but the first import's row has the other asked for, and that asks for nothing any more.
    let said = place.done(&["release", "--import", "2", "--note", "wrong too"]);
    assert!(said.contains("1 suppression ended"), "{said}");
    assert_eq!(place.check(list, "twice@example.org"), 0);
    place.verify();
    let unknown = place.run(&["release", "--import", "9", "--note", "x"]);
    assert!(text(&unknown.stderr).contains("there is no import 9"));
}

#[test]
fn the_row_is_kept_where_forgetting_reaches_it() {
    let place = Place::new();
    place.done(&["import", &sample("mailchimp-unsubscribed.csv"), "--list", "news.example.com"]);
    let event = &place.history()[0];
    assert_eq!((&event["action"], &event["source"]), (&"import".into(), &"import".into()));
    assert_eq!(event["occurred"], "2024-05-06T07:08:09.000Z");
    let note: Value = serde_json::from_str(event["note"].as_str().expect("a note")).expect("JSON");
    assert_eq!((&note["First Name"], &note["UNSUB_REASON"]), (&"Lea".into(), &"NORMAL".into()));
    place.done(&["forget", "left@example.org"]);
    assert_eq!(place.history()[1]["note"], Value::Null);
    assert_eq!(place.check("news.example.com", "left@example.org"), 1);
    let long = "y".repeat(5000);
    let content = format!("email,reason,scope,long,short\na@example.org,manual,*,{long},kept\n");
    let (status, said) = import(&place, "rows.csv", content, &[]);
    assert_eq!(status, 0, "{said}");
    let note = place.history()[0]["note"].as_str().expect("a note").to_owned();
    assert!(note.contains("\"short\":\"kept\"") && note.contains("too long"), "{note}");
    place.verify();
}

#[test]
fn an_import_takes_effect_in_the_running_service_and_clicks_go_on() {
    let place = Place::with_store();
    let service = place.serve();
    let links =
        place.links("news.example.com", &["x@example.org".to_owned(), "r5@example.org".to_owned()]);
    let path: PathBuf = place.path().join("rows.csv");
    fs::write(&path, rows(30_000)).expect("written");
    let others: Vec<_> = (0..200).map(|n| format!("c{n}@example.org")).collect();
    let clicks = place.links("news.example.com", &others);
    let mut child = place
        .command(&["import", path.to_str().expect("UTF-8")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    assert_eq!(service.click(&links[0]).status, 200);
    for link in &clicks {
        assert_eq!(service.click(link).status, 200);
    }
    assert!(child.wait().expect("it ends").success());
    assert_eq!(service.click(&links[1]).status, 200);
    let asked =
        service.api("GET", "/v1/check?list=news.example.com&recipient=r4999@example.org", &[], "");
    assert!(asked.body.contains("\"reason\":\"bounce\""), "{}", asked.body);
    service.stop();
    assert_eq!(place.done(&["export"]).lines().count(), 30_202);
    place.verify();
}

#[test]
fn files_that_are_imported_at_once_all_come_in() {
    let place = Place::with_store();
    let imports: Vec<_> = (0..3)
        .map(|n| {
            let path = place.path().join(format!("{n}.csv"));
            let content = rows(3_000).replace("\nr", &format!("\nr{n}."));
            fs::write(&path, content).expect("written");
            let mut command = place.command(&["import", path.to_str().expect("UTF-8")]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
        })
        .collect();
    for mut import in imports {
        assert!(import.wait().expect("it ends").success());
    }
    assert_eq!(exported(&place).len(), 9_000);
    place.verify();
}
